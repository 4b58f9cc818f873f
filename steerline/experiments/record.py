"""What a job of simulations shows in MLflow: numbers, files, figures, and each episode as a trace."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from steerline.analysis.simulation.graph_figure import graph_figure
from steerline.analysis.simulation.metric_figure import metric_figure
from steerline.experiments.episode import episode
from steerline.experiments.played import FILES, Played
from steerline.simulation.bundle import read_bundle
from steerline.simulation.cells import Cell
from steerline.simulation.result import Result
from steerline.simulation.talk import heard_by
from steerline.tracking.children import Children
from steerline.tracking.recorder import Recorder

_STATUS = {"ended": "FINISHED", "stopped": "KILLED", "paused": "KILLED", "waiting": "KILLED", "failed": "FAILED"}
MOST_EPISODES = 32
"""Simulations of a grid whose files and traces are shown; the others stay in the job's folder."""


def record(recorder: Recorder, children: Children | None, found: Mapping[Cell, Played], folder: Path) -> None:
    """Record a job's simulations.

    Args:
        recorder: of the job's run.
        children: shows the simulations of a grid as runs of their own; none where the job is one simulation.
        found: each simulation and what came of it.
        folder: holds their folders.
    """
    _record_numbers(recorder, found)
    recorder.json([_row(cell, played) for cell, played in found.items()], "simulations.json")
    recorder.text(table(found), "simulations.md")
    if any(played.metrics for played in found.values()):
        recorder.figure(metric_figure(_series(found), heading="Over the ticks"), "figures/metrics.png")
    for cell, played in list(found.items())[:MOST_EPISODES]:
        if played.state != "failed":
            _record_episode(recorder, cell, folder / cell.name, "" if children is None else f"{cell.name}/")
    if children is not None:
        for cell, played in found.items():
            children.record(
                cell.name,
                cell.label,
                kind="simulation",
                params={**cell.values, "seed": cell.spec.seed, "scenario": cell.spec.scenario},
                metrics=numbers(played),
                tags={"steerline.hash": played.hash, "steerline.state": played.state, "steerline.why": played.reason},
                status=_STATUS[played.state],
            )


def table(found: Mapping[Cell, Played]) -> str:
    """The simulations in Markdown, a line for each."""
    names = list(dict.fromkeys(name for played in found.values() for name in played.last))
    lines = ["| simulation | state | ticks | " + " | ".join(names) + " |", "|---|---|---|" + "---|" * len(names)]
    for cell, played in found.items():
        shown = (f"{played.last[name]:.4g}" if name in played.last else "" for name in names)
        lines.append(f"| {cell.label} | {played.state} | {played.ticks} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def _record_numbers(recorder: Recorder, found: Mapping[Cell, Played]) -> None:
    """A single simulation's numbers by tick; of many, their means, by the ticks of all so that later attempts count."""
    if len(found) == 1:
        (played,) = found.values()
        for tick in range(max(map(len, played.metrics.values()), default=0)):
            recorder.metrics({name: v[tick] for name, v in played.metrics.items() if tick < len(v)}, tick)
        recorder.metrics({f"efficiency/{name}": value for name, value in played.efficiency.items()}, played.ticks)
        return
    recorder.metrics(means([numbers(played) for played in found.values()]), sum(p.ticks for p in found.values()))


def numbers(played: Played) -> dict[str, float]:
    """A simulation's last metrics, and its `efficiency/` measures."""
    return {**played.last, **{f"efficiency/{name}": value for name, value in played.efficiency.items()}}


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each name over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    kept = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(values) / len(values) for name, values in kept.items()}


def _record_episode(recorder: Recorder, cell: Cell, folder: Path, prefix: str) -> None:
    for name in FILES:
        recorder.artifact(folder / name, f"simulations/{prefix}".rstrip("/"))
    bundle = read_bundle(folder)
    heard = heard_by(bundle.events)
    if heard:
        recorder.figure(graph_figure(heard, heading=f"Who told whom: {cell.label}"), f"figures/{prefix}graph.png")
    played = Played.load(folder)
    assert played is not None
    status = "stopped" if played.state == "failed" else played.state
    result = Result(cell.spec, cell.name, status, played.reason, played.ticks, None, played.outcome, (), bundle.events)
    recorder.trace(episode(cell.label, result, bundle.calls))


def _series(found: Mapping[Cell, Played]) -> dict[str, dict[str, list[list[float]]]]:
    series: dict[str, dict[str, list[list[float]]]] = {}
    for cell, played in found.items():
        for name, values in played.metrics.items():
            series.setdefault(name, {}).setdefault(cell.point, []).append(values)
    return series


def _row(cell: Cell, played: Played) -> dict[str, object]:
    return {
        "name": cell.name,
        "values": dict(cell.values),
        "seed": cell.spec.seed,
        "state": played.state,
        "reason": played.reason,
        "ticks": played.ticks,
        "hash": played.hash,
        "last": played.last,
        "outcome": json.loads(json.dumps(played.outcome)),
        "efficiency": dict(played.efficiency),
        "seconds": played.seconds,
    }
