"""A sweep's results as files: a table, all numbers as JSON, figures, and the best config ready to submit."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import yaml

from steerline.analysis.sweeps.parallel_figure import parallel_figure
from steerline.analysis.sweeps.pareto_figure import pareto_figure
from steerline.analysis.sweeps.response_figure import Response, response_figure
from steerline.config.render import resolved
from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import short_names
from steerline.evaluation.statistics import Interval
from steerline.sweeps.board import Board
from steerline.sweeps.selection import Comparison, Judged, Selection
from steerline.tracking.recorder import Recorder


def write_report(board: Board, selection: Selection, folder: Path, recorder: Recorder | None) -> dict[str, str]:
    """Write the report into the sweep's folder and record it. Returns paths by role."""
    files = {"table": folder / "table.md", "results": folder / "results.json"}
    files["table"].write_text(table(board, selection))
    files["results"].write_text(json.dumps(results(board, selection), indent=1) + "\n")
    if selection.best is not None:
        files["best_config"] = folder / "best.yaml"
        files["best_config"].write_text(best_config(board, selection.best))
    if recorder is not None:
        for path in files.values():
            recorder.artifact(path)
        recorder.metrics({f"best/{name}": value for name, value in selection.best_metrics().items()}, 0)
        best = "none" if selection.best is None else selection.best.point.label
        recorder.tags({"steerline.verdict": selection.verdict, "steerline.best_point": best})
        if selection.best is not None:
            _draw(board, selection, recorder)
    return {role: str(path) for role, path in files.items()}


def best_config(board: Board, best: Judged) -> str:
    """The best point's config with the first seed, as YAML; it names the run that the sweep has made already."""
    trial = board.trials[best.point.key][0]
    kind = trial.spec.kind
    head = f"# The best point of a sweep: {trial.label}. `python -m jobs.{kind} FILE` finds its run, {trial.name}.\n"
    return head + yaml.safe_dump(resolved(trial.spec), sort_keys=False, allow_unicode=True, width=120)


def results(board: Board, selection: Selection) -> dict[str, object]:
    """All numbers: every trial, every comparison, the choice."""
    return {
        "verdict": selection.verdict,
        "wins": selection.wins,
        "best": None if selection.best is None else dict(selection.best.point.values),
        "front": [dict(point.values) for point in selection.front],
        "controls": [asdict(control) for control in selection.controls],
        "points": [
            {
                "role": one.point.role,
                "label": one.point.label,
                "values": dict(one.point.values),
                "runs": [trial.name for trial in board.trials[one.point.key]],
                "ended": one.ended,
                "metrics": one.values,
                "against_baseline": None if one.against_baseline is None else asdict(one.against_baseline),
            }
            for one in selection.judged
        ],
    }


def table(board: Board, selection: Selection) -> str:
    """The points as Markdown, best first, with the verdict above."""
    sweep = board.sweep
    names = [metric.name for metric in sweep.metrics]
    header = ["point", *names, "difference", "p", "p (Holm)", "trials"]
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    ranked = sorted(selection.judged, key=lambda one: _rank(sweep, one))
    for one in ranked:
        cells = [_cell(one.interval(name, sweep.confidence)) for name in names]
        rows.append([one.point.label, *cells, *_test_cells(one.against_baseline), _endings(one)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    notes = [
        f"Each metric is the mean over {len(sweep.seeds)} seed{'s' * (len(sweep.seeds) > 1)}"
        + (f" with Student's {sweep.confidence:.0%} interval." if len(sweep.seeds) > 1 else "."),
        *_basis(selection),
        *(f"The best point against {control.against}: {_told(control)}." for control in selection.controls),
    ]
    causes = sorted(
        {
            f"- {record.label}: {record.found.cause.splitlines()[0]}"
            for record in board.ledger.records.values()
            if record.found.cause
        }
    )
    failed = ["\nTrials that failed:\n", *causes] if causes else []
    return "\n".join([f"**{selection.verdict}**\n", *lines, "", " ".join(notes), *failed]) + "\n"


def _basis(selection: Selection) -> list[str]:
    bases = {one.against_baseline.basis for one in selection.judged if one.against_baseline is not None}
    said = {
        "items": "Tests pair items, each with its mean over seeds (sign-flip permutation); Holm over all points.",
        "seeds": "Tests pair the runs of the same seed (paired t test); Holm over all points.",
    }
    return [said[basis] for basis in sorted(bases)]


def _rank(sweep: SweepSpec, one: Judged) -> tuple[int, float]:
    outcome = one.interval(sweep.metrics[0].name, sweep.confidence)
    return (0, -sweep.metrics[0].sign * outcome.mean) if outcome is not None else (1, 0.0)


def _cell(outcome: Interval | None) -> str:
    if outcome is None:
        return ""
    spread = "" if outcome.low == outcome.high else f" [{outcome.low:.4g}, {outcome.high:.4g}]"
    return f"{outcome.mean:.4g}{spread}"


def _test_cells(test: Comparison | None) -> list[str]:
    if test is None:
        return ["", "", ""]
    return [_cell(test.difference), f"{test.p_value:.3g}", f"{test.p_holm:.3g}"]


def _told(test: Comparison) -> str:
    return f"difference {_cell(test.difference)}, p = {test.p_value:.3g}, {test.p_holm:.3g} after Holm"


def _endings(one: Judged) -> str:
    counts = {state: one.ended.count(state) for state in dict.fromkeys(one.ended)}
    return ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in counts.items())


def _draw(board: Board, selection: Selection, recorder: Recorder) -> None:
    sweep = board.sweep
    names = short_names(list(sweep.space))
    for metric in sweep.metrics:
        file = metric.name.replace("/", "_")
        outcomes = [(one, one.interval(metric.name, sweep.confidence)) for one in selection.judged]
        responses = [
            Response({names[path]: value for path, value in one.point.values.items()}, outcome)
            for one, outcome in outcomes
            if one.point.role == "point" and outcome is not None
        ]
        references = {one.point.label: o for one, o in outcomes if one.point.role != "point" and o is not None}
        note = f"Bars and bands: {sweep.confidence:.0%} intervals over {len(sweep.seeds)} seeds."
        axes = list(names.values())
        recorder.figure(
            response_figure(responses, axes, references, metric=metric.name, note=note), f"figures/response_{file}.png"
        )
        recorder.figure(parallel_figure(responses, axes, metric=metric.name), f"figures/parallel_{file}.png")
    if len(sweep.metrics) > 1:
        _draw_front(sweep, selection, recorder)


def _draw_front(sweep: SweepSpec, selection: Selection, recorder: Recorder) -> None:
    first, second = (metric.name for metric in sweep.metrics[:2])
    pairs = [
        (one, a.mean, b.mean)
        for one in selection.judged
        if (a := one.interval(first, sweep.confidence)) and (b := one.interval(second, sweep.confidence))
    ]
    points = [(one.point.label, a, b) for one, a, b in pairs if one.point.role == "point"]
    references = {one.point.label: (a, b) for one, a, b in pairs if one.point.role != "point"}
    front = [point.label for point in selection.front]
    recorder.figure(pareto_figure(points, front, references, metrics=(first, second)), "figures/pareto.png")
