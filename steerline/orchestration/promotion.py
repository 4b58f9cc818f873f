"""The model of a sweep's best point, verified and registered with where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steerline.errors import SweepError
from steerline.models.export import check_manifest
from steerline.orchestration.results import run_folder
from steerline.tracking.queries import find_run
from steerline.tracking.registry import Registered, register

_RESULTS, _CONFIG = "results.json", "config.resolved.json"
# Kinds of base whose trials leave a model of their own.
_TRAINS = ("finetune",)


def promote(
    reference: str, tracking_uri: str, *, alias: str | None = None, name: str | None = None, force: bool = False
) -> tuple[Registered, str]:
    """Register the model of the best point; its run with the sweep's first seed is taken, so that no seed is chosen by
    its result.

    Args:
        reference: the sweep: its run's name, the unique beginning of one, or its folder.
        tracking_uri: the MLflow server that knows the runs.
        alias: alias to move to the new version, such as `champion`.
        name: name in the registry; none takes the sweep's own.
        force: also where the best point does not beat the baseline and every placebo.

    Returns:
        the version in the registry, and the sweep's verdict.

    Raises:
        SweepError: there is no such sweep here, it has not ended, it trains nothing, or its best point does not win.
        ModelError: files of the export are missing or altered.
        TrackingError: the server is away, or does not know the run.
    """
    folder = run_folder(reference)
    if folder is None:
        raise SweepError("this machine has no such sweep", got=reference, fix="give the sweep's folder")
    results = _results(folder)
    _check_it_trains(folder)
    verdict = str(results["verdict"])
    if not results["wins"] and not force:
        raise SweepError(
            "the best point does not beat the baseline",
            where=str(folder),
            got=verdict,
            fix="more seeds or items make small effects visible; --force promotes it all the same",
        )
    best = next(point for point in results["points"] if point["role"] == "point" and point["values"] == results["best"])
    run_name = str(best["runs"][0])
    export = folder.parent / run_name / "export"
    check_manifest(export)
    run, sweep = find_run(tracking_uri, run_name), find_run(tracking_uri, folder.name)
    registered = register(
        run.ref,
        "export",
        name or folder.name.rpartition("-")[0],
        alias,
        parents={"sweep": sweep.ref.run_id},
        tags={"steerline.verdict": verdict, "steerline.point": str(best["label"])},
    )
    return registered, verdict


def _results(folder: Path) -> dict[str, Any]:
    file = folder / _RESULTS
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"best": None}
    if results["best"] is None:
        raise SweepError(
            "this sweep has not come to its end",
            where=str(folder),
            expected=f"{_RESULTS} with a best point",
            fix="submit its config again and let it finish",
        )
    return results


def _check_it_trains(folder: Path) -> None:
    kind = json.loads((folder / _CONFIG).read_text())["base"]["kind"]
    if kind not in _TRAINS:
        raise SweepError(
            "trials of this kind train no model, so there is none to register",
            where=str(folder),
            got=f"a base of kind `{kind}`",
            expected=f"a base of kind {' or '.join(f'`{one}`' for one in _TRAINS)}",
            fix="keep the model that the sweep was run on, with the best point's setting from best.yaml",
        )
