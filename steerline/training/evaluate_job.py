"""An evaluation job from the loaded model to results, comparisons with the unsteered model, and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from steerline.analysis.infosteer.comparison_figure import comparison_figure
from steerline.analysis.infosteer.sweep_figures import SweepPoint, sweep_figure
from steerline.config.evaluate import EvaluateSpec
from steerline.config.render import run_name
from steerline.config.steering import SteeringSpec
from steerline.evaluation.compare import Comparison, compare
from steerline.evaluation.points import PointResult, evaluate_points
from steerline.evaluation.report import comparison_markdown, markdown, metrics
from steerline.evaluation.results import EvaluationResult
from steerline.evaluation.statistics import holm
from steerline.tracking.recorder import Recorder
from steerline.training.job import Outcome

PLAIN = "plain"
"""Label of the unsteered model."""

Say = Callable[[str], None]


def evaluate_and_record(spec: EvaluateSpec, folder: Path, say: Say, recorder: Recorder | None = None) -> Outcome:
    """Judge the plain model and every point of the job, and write the results.

    Args:
        spec: the job.
        folder: gets `evaluation.json` (the plain model's without a steering), or one for each strength, and
            `evaluation_plain.json`.
        say: told of progress.
        recorder: records metrics, items, comparisons and figures; none records nothing.

    Raises:
        ModelError, DataError, EvaluationError, SteeringError: the job cannot be carried out as it is written.
    """
    points = spec.points
    found = evaluate_points(spec, [SteeringSpec(), *points.values()], on_progress=_teller(say))
    plain, steered = found[0], dict(zip(points, found[1:], strict=True))
    files = _keep(folder, plain, steered)
    compared = comparisons(plain.result, {label: point.result for label, point in steered.items()})
    values = metrics(plain.result, prefix="eval" if not steered else "eval_plain")
    for label, point in steered.items():
        name = "eval" if len(steered) == 1 else f"eval/{label.replace(' ', '_')}"
        values |= metrics(point.result, prefix=name)
    if recorder is not None:
        _record(recorder, values, files, plain, steered, compared)
    for label, comparison in compared.items():
        for row in comparison.rows:
            mean, p = 100 * row.test.difference.mean, row.test.p_value
            say(f"steerline: {label}: {row.name} {mean:+.1f} points against the plain model, p = {p:.3g}")
    return Outcome(run_name(spec), "finished", metrics=values, files={name: str(path) for name, path in files.items()})


def comparisons(plain: EvaluationResult, steered: Mapping[str, EvaluationResult]) -> dict[str, Comparison]:
    """Each point against the plain model, item by item; Holm's correction is over all tasks of all points."""
    found = {label: compare(plain, result, label_a=PLAIN, label_b=label) for label, result in steered.items()}
    tests = [row.test.p_value for comparison in found.values() for row in comparison.rows if row.kind == "task"]
    corrected = iter(holm(tests))
    return {
        label: replace(
            comparison,
            rows=tuple(replace(row, p_holm=next(corrected)) if row.kind == "task" else row for row in comparison.rows),
        )
        for label, comparison in found.items()
    }


def _teller(say: Say) -> Callable[[str, int, int], None]:
    said: dict[str, int] = {}

    def progress(task: str, done: int, total: int) -> None:
        tenth = 10 * done // max(1, total)
        if said.get(task) != tenth:
            said[task] = tenth
            say(f"steerline: evaluating {task} {done}/{total}")

    return progress


def _keep(folder: Path, plain: PointResult, steered: Mapping[str, PointResult]) -> dict[str, Path]:
    """Every item of every point, as files by role."""
    named = {"evaluation_plain" if steered else "evaluation": plain}
    for label, point in steered.items():
        named["evaluation" if len(steered) == 1 else f"evaluation_{label.replace(' ', '_')}"] = point
    files = {name: folder / f"{name}.json" for name in named}
    for name, point in named.items():
        point.result.save(files[name])
    return files


def _record(
    recorder: Recorder,
    values: Mapping[str, float],
    files: Mapping[str, Path],
    plain: PointResult,
    steered: Mapping[str, PointResult],
    compared: Mapping[str, Comparison],
) -> None:
    recorder.metrics(values, 0)
    for path in files.values():
        recorder.artifact(path)
    recorder.text(markdown(plain.result), "evaluation_plain.md")
    for label, comparison in compared.items():
        recorder.text(comparison_markdown(comparison), f"comparisons/{label.replace(' ', '_')}.md")
        recorder.text(comparison.to_json(), f"comparisons/{label.replace(' ', '_')}.json")
    for name, figure in _figures(plain, steered, compared).items():
        recorder.figure(figure, f"figures/{name}.png")


def _figures(
    plain: PointResult, steered: Mapping[str, PointResult], compared: Mapping[str, Comparison]
) -> dict[str, Figure]:
    """Bars against the plain model; over several strengths, a curve for each group of tasks in place of them."""
    import matplotlib as mpl

    mpl.use("Agg")
    if len(steered) <= 1:
        results = {PLAIN: plain.result, **{label: point.result for label, point in steered.items()}}
        return {"accuracy": comparison_figure(results, next(iter(compared.values()), None))}
    figures = {}
    for group in plain.result.groups:
        line = [
            SweepPoint(_strength(point.steering), point.result.group_accuracy(group), group)
            for point in steered.values()
        ]
        figures[f"strengths_{group}"] = sweep_figure(line, {PLAIN: plain.result.group_accuracy(group)}, axis="strength")
    return figures


def _strength(steering: SteeringSpec) -> float:
    part = steering.boost or steering.residual_scale
    assert part is not None, "a point of several has the strength that sets it apart"
    return part.strength
