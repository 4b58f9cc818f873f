"""Figures of simulations."""

from __future__ import annotations

from matplotlib.patches import FancyArrowPatch

from steerline.analysis.simulation.graph_figure import MOST_AGENTS, graph_figure
from steerline.analysis.simulation.metric_figure import metric_figure


def test_each_pair_that_talks_has_an_arrow_and_each_agent_a_name() -> None:
    figure = graph_figure({("ann", "bob"): 3, ("bob", "ann"): 1, ("ann", "ann"): 2}, heading="Talk")
    (axes,) = figure.axes
    assert sum(isinstance(patch, FancyArrowPatch) for patch in axes.patches) == 2
    assert {text.get_text() for text in axes.texts} == {"ann", "bob"}


def test_of_a_crowd_the_busiest_are_drawn() -> None:
    messages = {(f"a{n}", "hub"): n + 1 for n in range(MOST_AGENTS + 10)}
    (axes,) = graph_figure(messages, heading="Crowd").axes
    assert len(axes.texts) == MOST_AGENTS
    assert "a0" not in {text.get_text() for text in axes.texts}


def test_runs_of_unequal_length_share_a_mean_and_a_band() -> None:
    figure = metric_figure({"score": {"x=1": [[0.0, 1.0, 2.0], [2.0]], "x=2": [[1.0]]}}, heading="Scores")
    (axes,) = figure.axes
    assert axes.lines[0].get_ydata().tolist() == [1.0, 1.0, 2.0]
    assert len(axes.collections) == 1
