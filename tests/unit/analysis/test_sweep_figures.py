"""Figures of sweeps: whatever is drawn can be told apart and read."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes

from steerline.analysis.sweeps.axis import Placed
from steerline.analysis.sweeps.parallel_figure import parallel_figure
from steerline.analysis.sweeps.pareto_figure import pareto_figure
from steerline.analysis.sweeps.response_figure import MOST_NAMED, Response, response_figure
from steerline.errors import EvaluationError
from steerline.evaluation.statistics import Interval

REFERENCES = {"baseline": Interval(0.4, 0.3, 0.5), "random keys": Interval(0.35, 0.3, 0.4)}


def point(mean: float = 0.5, **values: object) -> Response:
    return Response(values, Interval(mean, mean - 0.1, mean + 0.1))


def named(panel: Axes) -> list[str]:
    legend = panel.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_numbers_that_span_much_stand_by_their_ratios_and_words_side_by_side() -> None:
    assert Placed.of([1e-6, 1e-3]).is_log
    assert not Placed.of([1, 4]).is_log
    assert not Placed.of([0.0, 1.0, 100.0]).is_log
    assert Placed.of(["b", "a", "b"]) == Placed((0.0, 1.0, 0.0), ("b", "a"), is_log=False)
    assert Placed.of([True, False]).ticks == ("True", "False")


def test_a_grid_has_a_named_line_for_each_setting_of_the_other_axes() -> None:
    grid = [point(scale=scale, fraction=fraction) for scale in (1.0, 2.0, 4.0) for fraction in (0.001, 0.01, 0.1)]
    figure = response_figure(grid, ["fraction", "scale"], REFERENCES, metric="accuracy", note="over 3 seeds")
    left, right = figure.axes
    assert (left.get_xscale(), right.get_xscale()) == ("log", "linear")
    assert named(left) == ["baseline", "random keys", "scale=1", "scale=2", "scale=4"]
    assert named(right) == ["fraction=0.001", "fraction=0.01", "fraction=0.1"]


def test_references_are_told_apart_and_named_even_where_no_line_is() -> None:
    rng = np.random.default_rng(0)
    values = [(float(rng.random()), float(rng.random()), str(rng.choice(["a", "b"]))) for _ in range(30)]
    drawn = [point(scale, scale=scale, rate=rate, select=select) for scale, rate, select in values]
    figure = response_figure(drawn, ["scale", "rate", "select"], REFERENCES, metric="accuracy", note="")
    left, _, right = figure.axes
    assert named(left) == ["baseline", "random keys"]
    levels = [line for line in left.lines if len(set(line.get_ydata())) == 1 and line.get_linestyle() != "None"]
    assert len({str(line._dash_pattern) for line in levels[:2]}) == 2  # type: ignore[attr-defined]
    places = [x for line in right.lines for x in line.get_xdata() if line.get_marker() == "o"]
    assert len(places) == len(set(places)) == 30
    assert all(min(abs(x), abs(x - 1)) < 0.4 for x in places)


def test_of_too_many_lines_none_is_named() -> None:
    many = [point(x=float(x), y=y) for x in (1, 2, 3) for y in range(MOST_NAMED + 1)]
    left, _ = response_figure(many, ["x", "y"], {}, metric="accuracy", note="").axes
    assert named(left) == []


def test_legends_stand_clear_of_the_points() -> None:
    figure = response_figure([point(scale=1.0), point(scale=2.0)], ["scale"], REFERENCES, metric="accuracy", note="")
    figure.draw_without_rendering()
    (panel,) = figure.axes
    legend = panel.get_legend()
    assert legend is not None
    assert legend.get_window_extent().y0 >= panel.get_window_extent().y1


def test_each_line_of_the_parallel_coordinates_goes_through_all_its_axes() -> None:
    rates = [1e-6, 1e-5, 1e-4]
    figure = parallel_figure([point(n / 10, rate=r) for n, r in enumerate(rates)], ["rate"], metric="accuracy")
    heights = sorted(tuple(float(y) for y in line.get_ydata()) for line in figure.axes[0].lines)
    assert heights == [(0.0, 0.0), (pytest.approx(0.5), 0.5), (1.0, 1.0)]
    assert {"1e-06", "0.0001", "0", "0.2"} <= {text.get_text() for text in figure.axes[0].texts}


def test_names_of_the_front_stay_inside_the_panel() -> None:
    points = [(f"fraction={n} scale={n}", n / 10, -n / 10) for n in range(5)]
    front = [label for label, _, _ in points]
    figure = pareto_figure(points, front, {"a": (0.1, -0.3), "b": (0.3, -0.1)}, metrics=("accuracy", "loss"))
    figure.draw_without_rendering()
    (panel,) = figure.axes
    inside = panel.get_window_extent()
    for text in panel.texts:
        extent = text.get_window_extent()
        assert inside.x0 <= extent.x0 < extent.x1 <= inside.x1
    assert named(panel) == ["a", "b"]


def test_a_sweep_without_a_finished_point_has_no_figure() -> None:
    for draw in (
        lambda: response_figure([], ["x"], {}, metric="m", note=""),
        lambda: parallel_figure([], ["x"], metric="m"),
        lambda: pareto_figure([], [], {}, metrics=("m", "n")),
    ):
        with pytest.raises(EvaluationError, match="no point to draw"):
            draw()
