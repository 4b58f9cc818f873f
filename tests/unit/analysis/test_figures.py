from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from steerline.analysis.infosteer import style
from steerline.analysis.infosteer.comparison_figure import comparison_figure
from steerline.analysis.infosteer.distribution_figure import distribution_figure, region_shares
from steerline.analysis.infosteer.entropy_figure import entropy_figure
from steerline.analysis.infosteer.histogram import KeyHistogram
from steerline.analysis.infosteer.history import EntropyHistory
from steerline.analysis.infosteer.loss_figure import loss_figure
from steerline.analysis.infosteer.sweep_figures import LayerGroup, SweepPoint, layer_group_figure, sweep_figure
from steerline.errors import EvaluationError
from steerline.evaluation.compare import compare
from steerline.evaluation.results import EvaluationResult
from steerline.evaluation.statistics import Interval
from tests.unit.evaluation.build import result, task


def histogram(seed: int, scale: float) -> KeyHistogram:
    made = KeyHistogram.empty(range(3))
    for layer in range(3):
        made.add(layer, scale * torch.randn(2000, generator=torch.Generator().manual_seed(seed + layer)))
    return made


def entropies(change: float) -> EntropyHistory:
    steps = np.array([0, 1, 5, 10])
    return EntropyHistory(steps, (0, 1, 2), 5 + np.linspace(0, change, 4)[:, None] + np.zeros(3))


def evaluation(correct: int) -> EvaluationResult:
    answers = [1] * correct + [0] * (20 - correct)
    return result(task("boolq", answers), task("svamp", answers[::-1], group="ood"))


LOSSES = {
    "train/loss": [(i, 2.0 - i / 50) for i in range(40)],
    "train/loss_ce": [(i, 2.5 - i / 50) for i in range(40)],
    "heldout/loss": [(0, 2.5), (39, 2.0)],
}
ROOM = Interval(0.6, 0.55, 0.65)

FIGURES: dict[str, Callable[[], Figure]] = {
    "entropy": lambda: entropy_figure({"SFT": entropies(-0.1), "InfoSteer": entropies(0.2)}),
    "entropy of one step": lambda: entropy_figure({"a": EntropyHistory(np.array([3]), (0,), np.array([[4.0]]))}),
    "distribution": lambda: distribution_figure(histogram(0, 1), {"SFT": histogram(9, 0.9)}),
    "distribution by value": lambda: distribution_figure(histogram(0, 1), {"SFT": histogram(9, 1.2)}, of="value"),
    "comparison": lambda: comparison_figure(
        {"base": evaluation(8), "A": evaluation(10), "B": evaluation(13)}, compare(evaluation(10), evaluation(13))
    ),
    "accuracies": lambda: comparison_figure({"run": evaluation(20)}),
    "losses": lambda: loss_figure({"SFT": LOSSES, "InfoSteer": LOSSES}),
    "sweep": lambda: sweep_figure(
        [SweepPoint(v, ROOM, "p = 1 %") for v in (-0.01, 0.01, 0.05)], {"base": ROOM}, axis="lambda", log=True
    ),
    "layer groups": lambda: layer_group_figure([LayerGroup("early", (0, 1), ROOM)], 6, {"SFT": ROOM}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_draw_to_png_at_150_dpi_without_global_state_or_warnings(
    name: str, recwarn: pytest.WarningsRecorder
) -> None:
    figure = FIGURES[name]()
    image = style.png(figure)
    assert image[:4] == b"\x89PNG"
    assert int.from_bytes(image[16:20], "big") == round(figure.get_figwidth() * 150)
    assert pyplot.get_fignums() == []
    assert [str(warning.message) for warning in recwarn] == []


def texts(figure: Figure) -> list[str]:
    figure.canvas.draw()
    return [text.get_text() for axes in figure.findobj(match=type(figure.axes[0])) for text in axes.texts]  # type: ignore[attr-defined]


def test_the_legend_of_a_single_flat_run_hides_nothing() -> None:
    figure = entropy_figure({"run": EntropyHistory(np.arange(9), (0, 1), np.full((9, 2), 4.0))})
    figure.canvas.draw()
    (legend,) = figure.findobj(Legend)
    box = legend.get_window_extent()
    others = [axes.get_tightbbox() for axes in figure.axes]
    assert not any(other is not None and other.overlaps(box) for other in others)


def test_bars_stand_at_the_accuracies_and_lines_at_their_intervals() -> None:
    figure = comparison_figure({"A": evaluation(10), "B": evaluation(13)})
    widths = [patch.get_width() for patch in figure.axes[0].patches]
    assert widths == pytest.approx([50, 50, 50, 50, 65, 65, 65, 65])
    interval = evaluation(10).accuracy(evaluation(10).tasks[0])
    ends = [segment[:, 0] for segment in figure.axes[0].collections[0].get_segments()]  # type: ignore[attr-defined]
    assert ends[0] == pytest.approx([100 * interval.low, 100 * interval.high])


def test_the_difference_panel_shows_the_paired_test() -> None:
    comparison = compare(evaluation(10), evaluation(13), label_a="A", label_b="B")
    figure = comparison_figure({"A": evaluation(10), "B": evaluation(13)}, comparison)
    assert figure.axes[1].get_xlabel() == "B minus A (points)"
    assert sum(text.startswith("p = ") for text in texts(figure)) == len(comparison.rows)


def test_region_shares_of_the_base_are_a_quarter_a_half_and_a_quarter() -> None:
    shares = region_shares(histogram(0, 1), {"base": histogram(0, 1), "wide": histogram(0, 2)})
    assert shares["base"] == pytest.approx(np.tile([0.25, 0.5, 0.25], (3, 1)))
    assert (shares["wide"][:, 2] > 0.25).all()
    assert (shares["wide"][:, 0] < 0.25).all()


def test_the_total_loss_is_drawn_only_where_it_is_not_the_cross_entropy() -> None:
    plain = {"train/loss": LOSSES["train/loss"], "train/loss_ce": LOSSES["train/loss"]}
    assert [axes.get_title(loc="left") for axes in loss_figure({"SFT": plain}).axes] == ["Training cross-entropy"]
    assert "Total training loss" in [axes.get_title(loc="left") for axes in loss_figure({"a": LOSSES}).axes]


def test_the_base_is_grey_and_other_runs_have_colours_and_markers_of_their_own() -> None:
    labels = ["base", "SFT", "InfoSteer", "placebo"]
    palette = style.colours(labels)
    assert palette["base"] == style.REFERENCE
    assert len({to_hex(colour) for colour in palette.values()}) == 4
    assert len(set(style.markers(labels).values())) == 4


def test_empty_input_is_refused() -> None:
    with pytest.raises(EvaluationError):
        entropy_figure({})
    with pytest.raises(EvaluationError):
        distribution_figure(histogram(0, 1), {})
    with pytest.raises(EvaluationError):
        comparison_figure({})
    with pytest.raises(EvaluationError):
        loss_figure({"run": {"other": [(1, 1.0)]}})
    with pytest.raises(EvaluationError):
        sweep_figure([], {}, axis="x")
    with pytest.raises(EvaluationError):
        layer_group_figure([LayerGroup("a", (9,), ROOM)], 6, {})
