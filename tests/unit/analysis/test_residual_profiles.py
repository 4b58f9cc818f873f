"""Residual profiles: bands, paired differences, effects on held-out items, a file that loads again, a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from steerline.analysis.inforidge.profile_figure import profile_figure
from steerline.analysis.inforidge.residual_profiles import Judged, ResidualProfiles, effects, table
from steerline.errors import EvaluationError
from steerline.evaluation.statistics import t_interval


def judged(split: str, before: list[float], after: list[list[list[float]]]) -> Judged:
    right, scaled = np.array(before), np.array(after)
    return Judged(split, tuple(f"{split}/{i}" for i in range(len(right))), right, scaled, 2 - right, 2 - scaled)


def profiles(parts: tuple[str, ...] = ("block",), seeds: int = 3) -> ResidualProfiles:
    """Two splits, N = 4 layers, 40 items of each; fits on `ood` mend 10 of the `ood` items that were wrong."""
    betas = 1 + 0.1 * np.random.default_rng(0).standard_normal((2, seeds, len(parts), 4))
    betas[1, :, :, 3] -= 0.5
    wrong, mended = [0.0] * 20 + [1.0] * 20, [1.0] * 10 + [0.0] * 10 + [1.0] * 20
    found = (
        judged("id", [1.0] * 40, [[[1.0] * 40] * seeds] * 2),
        judged("ood", wrong, [[wrong] * seeds, [mended] * seeds]),
    )
    return ResidualProfiles(
        ("id", "ood"), tuple(range(seeds)), parts, (0, 1, 2, 3), betas, np.ones((2, seeds, 5)), found
    )


def test_profiles_are_means_and_one_standard_deviation_over_seeds() -> None:
    one = profiles()
    np.testing.assert_allclose(one.mean("ood"), one.betas[1].mean(0))
    np.testing.assert_allclose(one.spread("ood"), np.std(one.betas[1], axis=0, ddof=1))
    assert (profiles(seeds=1).spread("id") == 0).all()


def test_splits_are_compared_seed_by_seed() -> None:
    one = profiles()
    assert one.differences()[0][3] == t_interval(one.betas[1, :, 0, 3] - one.betas[0, :, 0, 3])
    assert one.differences()[0][3].high < 0
    with pytest.raises(EvaluationError, match="two splits"):
        ResidualProfiles(("id",), one.seeds, one.parts, one.layers, one.betas[:1], one.losses, ()).differences()


def test_effects_are_paired_over_items_and_corrected_together() -> None:
    found = {(one.fitted_on, one.judged_on): one for one in effects(profiles())}
    assert len(found) == 4
    mended = found["ood", "ood"]
    assert (mended.before.mean, mended.after.mean) == (0.5, 0.75)
    assert mended.difference.mean == pytest.approx(0.25)
    assert mended.difference.low > 0
    # 10 items changed, all for the better: 2 of 1024 swaps are as far.
    assert mended.p_value == pytest.approx(2 / 1024, abs=1.5e-3)
    assert mended.p_holm == pytest.approx(4 * mended.p_value)
    assert found["id", "ood"].p_holm == 1
    assert mended.loss_after < mended.loss_before


def test_the_table_has_a_line_for_every_effect() -> None:
    lines = table(effects(profiles())).splitlines()
    assert len(lines) == 2 + 4
    assert "| ood | ood | 0.500 | 0.750 | +0.250 [" in lines[-1]


def test_a_file_loads_as_what_was_saved(tmp_path: Path) -> None:
    one = profiles()
    one.save(tmp_path / "profiles.json")
    again = ResidualProfiles.load(tmp_path / "profiles.json")
    assert (again.splits, again.seeds, again.parts, again.layers) == (one.splits, one.seeds, one.parts, one.layers)
    np.testing.assert_array_equal(again.betas, one.betas)
    np.testing.assert_array_equal(again.judged[1].correct_after, one.judged[1].correct_after)
    assert again.judged[1].ids == one.judged[1].ids
    assert effects(again) == effects(one)


@pytest.mark.parametrize("parts", [("block",), ("attention", "ffn")])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_figure_has_a_profile_for_each_part_and_what_can_be_compared(parts: tuple[str, ...], seeds: int) -> None:
    one = profiles(parts, seeds)
    figure = profile_figure(one, effects(one))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == len(parts) * (2 if seeds > 1 else 1) + 1
    labels = [text.get_text() for text in shown[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels == ["fitted on id", "fitted on ood"]
    figure.canvas.draw()
