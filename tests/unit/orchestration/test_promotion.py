from __future__ import annotations

import json
from pathlib import Path

import pytest

from steerline.errors import ModelError, SweepError
from steerline.orchestration.promotion import promote

NOWHERE = "http://127.0.0.1:9"


def ended(folder: Path, kind: str, *, wins: bool = True) -> str:
    """A sweep that has ended, with a best point whose run left nothing."""
    values = {"axis": 1.0}
    point = {"role": "point", "label": "axis=1", "values": values, "runs": ["trial-0123"]}
    results = {"verdict": "told", "wins": wins, "best": values, "points": [point]}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.resolved.json").write_text(json.dumps({"kind": "sweep", "base": {"kind": kind}}))
    return str(folder)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["evaluate", "residual_scale", "simulate"])
def test_a_sweep_that_trains_nothing_has_no_model_to_promote(kind: str, force: bool, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="train no model") as caught:
        promote(ended(tmp_path, kind, wins=False), NOWHERE, force=force)
    assert f"`{kind}`" in str(caught.value)


def test_a_point_that_does_not_win_is_promoted_by_force_alone(tmp_path: Path) -> None:
    sweep = ended(tmp_path, "finetune", wins=False)
    with pytest.raises(SweepError, match="does not beat the baseline"):
        promote(sweep, NOWHERE)
    with pytest.raises(ModelError):
        promote(sweep, NOWHERE, force=True)


def test_a_best_point_whose_model_is_gone_is_not_promoted(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        promote(ended(tmp_path, "finetune"), NOWHERE)


def test_a_sweep_that_has_not_ended_is_not_promoted(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="not come to its end"):
        promote(str(tmp_path), NOWHERE)
