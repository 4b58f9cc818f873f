from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.analysis.safr.allocation_figure import allocation_figure
from steerline.analysis.safr.deletion import RANDOM, DeletionCurves
from steerline.analysis.safr.deletion_figure import deletion_figure
from steerline.analysis.safr.grid import Grid, GridRun
from steerline.analysis.safr.grid_figure import grid_figure
from steerline.analysis.safr.importance_figure import importance_figure
from steerline.analysis.safr.interaction_figure import interaction_figure
from steerline.analysis.safr.measures import Floats
from steerline.analysis.safr.term_figure import term_figure
from steerline.analysis.safr.token_axis import MAX_TOKENS, token_labels
from steerline.errors import EvaluationError

RNG = np.random.default_rng(0)
WORDS = (
    *("I", "did", "not", "think", "that", "the", "second", "half", "of", "this", "$5", "film_x^2", "was", "worth"),
    *("the", "price", "\n", "."),
)


def shares(count: int, *shape: int) -> Floats:
    return RNG.random((count, *shape))


def runs(words: tuple[str, ...] = WORDS) -> dict[str, Floats]:
    return {"vanilla": shares(len(words)), "SAFR": shares(len(words))}


def maps() -> dict[str, Floats]:
    return {run: shares(len(WORDS), len(WORDS)) for run in ("vanilla", "SAFR")}


def curves(seed: int) -> DeletionCurves:
    rng = np.random.default_rng(seed)
    right = {name: (rng.random((5, 40)) < 0.7).astype(float) for name in ("importance", "interaction", RANDOM)}
    return DeletionCurves((0.1, 0.2, 0.3, 0.4, 0.5), np.ones(40), right, 3)


def grid() -> Grid:
    strengths = (0.0, 0.1, 1.0, 10.0)
    made = [
        GridRun(i, k, seed, {"accuracy": 0.7 + 0.01 * seed, "gap": None if i == 10 else 0.1 * i + 0.01 * seed * k})
        for i in strengths
        for k in strengths
        for seed in (0, 1, 2)
    ]
    return Grid(tuple(made), {})


TERMS = {
    "train/loss_ce": [(i, 0.7 - i / 100) for i in range(40)],
    "train/importance": [(i, 0.3 - i / 200) for i in range(40)],
    "train/interaction": [(i, 0.9) for i in range(40)],
    "train/vmask_mean": [(0, 0.5), (39, 0.8)],
}
FIGURES: dict[str, Callable[[], Figure]] = {
    "allocation": lambda: allocation_figure(WORDS, {"FFN keys, layer 0": runs(), "block output, layer 0": runs()}),
    "allocation of one token": lambda: allocation_figure(["a"], {"FFN keys": {"SAFR": np.array([1.0])}}),
    "allocation of zero vectors": lambda: allocation_figure(["a", "b"], {"FFN keys": {"SAFR": np.zeros(2)}}),
    "interaction": lambda: interaction_figure(WORDS, {"squared interference": maps(), "attention": maps()}),
    "interaction of one token": lambda: interaction_figure(["a"], {"attention": {"SAFR": np.ones((1, 1))}}),
    "importance": lambda: importance_figure(
        {"vanilla": shares(500), "SAFR": shares(400)}, WORDS, runs(), importance_from="vmask"
    ),
    "importance by gradient": lambda: importance_figure(
        {"base": 3 * shares(50)}, WORDS, {"base": shares(len(WORDS))}, importance_from="gradient_x_input"
    ),
    "importance of nothing": lambda: importance_figure(
        {"base": np.zeros(5)}, ["a"], {"base": np.zeros(1)}, importance_from="gradient_x_input"
    ),
    "deletion": lambda: deletion_figure({"vanilla": curves(0), "SAFR": curves(1)}),
    "deletion of one run": lambda: deletion_figure({"SAFR": curves(1)}),
    "terms": lambda: term_figure({"vanilla": TERMS, "SAFR": TERMS}),
    "grid": lambda: grid_figure(grid(), {"accuracy": "accuracy", "gap": "interference gap"}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_draw_to_png_without_global_state_or_warnings(name: str, recwarn: pytest.WarningsRecorder) -> None:
    figure = FIGURES[name]()
    image = style.png(figure)
    assert image[:4] == b"\x89PNG"
    assert int.from_bytes(image[16:20], "big") == round(figure.get_figwidth() * 150)
    assert pyplot.get_fignums() == []
    assert [str(warning.message) for warning in recwarn] == []


def test_bars_stand_at_the_capacities_side_by_side() -> None:
    places = {"FFN keys": {"vanilla": np.array([0.1, 0.4]), "SAFR": np.array([0.3, 0.2])}}
    (axes,) = allocation_figure(["a", "b"], places).axes
    assert [patch.get_height() for patch in axes.patches] == pytest.approx([0.1, 0.4, 0.3, 0.2])
    lefts = [patch.get_x() for patch in axes.patches]
    assert lefts[0] < lefts[2] < lefts[1] < lefts[3]
    assert len({to_hex(patch.get_facecolor()) for patch in axes.patches}) == 2


def test_maps_of_a_row_share_one_scale_and_leave_the_diagonal_blank() -> None:
    low, high = np.full((2, 2), 0.1), np.full((2, 2), 0.4)
    figure = interaction_figure(["a", "b"], {"attention": {"vanilla": low, "SAFR": high}})
    images = [axes.images[0] for axes in figure.axes[:2]]
    assert [image.norm.vmax for image in images] == [0.4, 0.4]
    for image in images:
        assert np.isnan(np.ma.filled(image.get_array(), np.nan)).tolist() == [[True, False], [False, True]]


def test_curves_begin_at_the_intact_model_and_random_deletion_is_grey() -> None:
    (axes,) = deletion_figure({"SAFR": curves(0)}).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"random", "by importance", "by interaction"}
    for line in lines.values():
        assert line.get_xydata()[0].tolist() == [0, 100]
    assert lines["random"].get_color() == style.REFERENCE


def test_a_long_sentence_is_shown_in_part_and_says_so() -> None:
    words = tuple(f"w{i}" for i in range(MAX_TOKENS + 5))
    figure = allocation_figure(words, {"FFN keys": runs(words)})
    assert len(figure.axes[0].get_xticklabels()) == MAX_TOKENS
    assert f"The first {MAX_TOKENS} of {len(words)} tokens" in figure.get_supxlabel()


def test_tokens_are_labels_as_they_are_never_mathematics() -> None:
    assert token_labels(["a\n", " b", "", "\u0120new", "extraordinarily", "$x$"]) == [
        "a\u21b5", "b", "\u2423", "new", "extraordina\u2026", "$x$",
    ]  # fmt: skip
    (axes,) = allocation_figure(["$x", "y$"], {"FFN keys": {"SAFR": np.ones(2)}}).axes
    assert not any(label.get_parse_math() for label in axes.get_xticklabels())


def test_the_grid_shows_every_setting_and_marks_those_without_a_value() -> None:
    figure = grid_figure(grid(), {"gap": "interference gap"})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(texts) == 16
    assert texts.count("-") == 4


def test_empty_or_unfitting_input_is_refused() -> None:
    with pytest.raises(EvaluationError, match="no capacity"):
        allocation_figure(WORDS, {})
    with pytest.raises(EvaluationError, match="do not fit"):
        allocation_figure(WORDS, {"FFN keys": {"SAFR": np.ones(2)}})
    with pytest.raises(EvaluationError, match="no map"):
        interaction_figure([], {})
    with pytest.raises(EvaluationError, match="does not fit"):
        interaction_figure(["a"], {"attention": {"SAFR": np.ones((2, 2))}})
    with pytest.raises(EvaluationError, match="different runs"):
        interaction_figure(["a"], {"x": {"SAFR": np.ones((1, 1))}, "y": {"base": np.ones((1, 1))}})
    with pytest.raises(EvaluationError, match="no importance"):
        importance_figure({}, WORDS, {}, importance_from="vmask")
    with pytest.raises(EvaluationError, match="do not fit"):
        importance_figure({"a": shares(3)}, WORDS, {"b": shares(len(WORDS))}, importance_from="vmask")
    with pytest.raises(EvaluationError, match="no deletion curve"):
        deletion_figure({})
    with pytest.raises(EvaluationError, match="no loss"):
        term_figure({"run": {"other": [(1, 1.0)]}})
    with pytest.raises(EvaluationError, match="no measure"):
        grid_figure(grid(), {})
