from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from steerline.analysis.safr.grid import (
    VANILLA,
    Grid,
    GridRun,
    changed,
    markdown_table,
    paired_p_value,
    replace_between,
)
from steerline.errors import EvaluationError
from steerline.evaluation.statistics import t_interval


def grid(**by_cell: list[float | None]) -> Grid:
    """Cells as `i0_k1=[values by seed]`."""
    made = []
    for name, values in by_cell.items():
        importance, interaction = (float(part[1:]) for part in name.split("_"))
        made += [GridRun(importance, interaction, seed, {"m": value}) for seed, value in enumerate(values)]
    return Grid(tuple(made), {"rows": 3})


def test_a_t_interval_of_three_runs_is_students() -> None:
    interval = t_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2
    assert interval.high - 2 == pytest.approx(4.302653 / 3**0.5)
    assert interval.high - 2 == pytest.approx(2 - interval.low)
    with pytest.raises(EvaluationError, match="at least two"):
        t_interval([1.0])
    with pytest.raises(EvaluationError, match="finite"):
        t_interval([1.0, float("nan")])


def test_settings_are_compared_with_vanilla_seed_by_seed() -> None:
    # Seeds differ far more than settings do: unpaired, the constant gain would drown.
    made = grid(i0_k0=[1.0, 5.0, 9.0], i1_k0=[1.1, 5.1, 9.2])
    vanilla, other = made.results("m")
    assert vanilla.difference is None
    assert vanilla.p_holm is None
    assert other.difference is not None
    assert other.difference.mean == pytest.approx(0.4 / 3)
    assert other.difference.low > -0.02
    assert other.p_holm == pytest.approx(ttest_1samp([0.1, 0.1, 0.2], 0).pvalue)


def test_p_values_are_corrected_over_all_settings_of_a_measure() -> None:
    made = grid(i0_k0=[0.0, 0.0, 0.0], i1_k0=[1.0, 1.1, 1.2], i0_k1=[1.0, -1.0, 0.2])
    results = {result.cell: result for result in made.results("m")}
    alone = paired_p_value(np.array([1.0, 1.1, 1.2]))
    assert results[1.0, 0.0].p_holm == pytest.approx(2 * alone)
    assert changed(made, ["m"]) == [("m", results[1.0, 0.0])]


def test_equal_differences_have_a_defined_p_value() -> None:
    assert paired_p_value(np.zeros(3)) == 1
    assert paired_p_value(np.full(3, 0.5)) == 0


def test_seeds_without_a_value_are_left_out_and_settings_without_two_are_missing() -> None:
    made = grid(i0_k0=[1.0, None, 2.0], i1_k0=[1.0, 3.0, 2.5], i10_k0=[None, None, 1.0])
    results = {result.cell: result for result in made.results("m")}
    assert results[VANILLA].num_seeds == 2
    assert results[1.0, 0.0].num_seeds == 3
    assert results[1.0, 0.0].difference is not None
    assert results[1.0, 0.0].difference.mean == pytest.approx(0.25)
    assert (10.0, 0.0) not in results
    assert "not defined" in markdown_table(made, {"m": "measure"})


def test_the_table_has_a_line_for_each_setting_with_its_interval() -> None:
    table = markdown_table(grid(i0_k0=[1.0, 2.0, 3.0], i1_k0=[7.0, 8.0, 9.01]), {"m": "measure"}).splitlines()
    assert table[0] == "| importance | interaction | measure |"
    assert table[2] == "| 0 | 0 | 2.000 [-0.484, 4.484] |"
    assert table[3].startswith("| 1 | 0 | **8.003 [")


def test_a_grid_without_vanilla_is_refused() -> None:
    with pytest.raises(EvaluationError, match="without SAFR"):
        grid(i1_k0=[1.0, 2.0]).results("m")


def test_a_grid_survives_its_file_and_another_file_is_refused(tmp_path: Path) -> None:
    made = grid(i0_k0=[1.0, None], i1_k0=[1.5, 2.0])
    path = tmp_path / "grid.json"
    path.write_text(made.to_json())
    assert Grid.load(path) == made
    path.write_text("{}")
    with pytest.raises(EvaluationError, match="not a grid"):
        Grid.load(path)
    with pytest.raises(EvaluationError, match="not a grid"):
        Grid.load(tmp_path / "none.json")


def test_a_page_takes_the_table_between_its_markers_and_nothing_else() -> None:
    page = "a\n<!-- grid:begin -->\nold\n<!-- grid:end -->\nb\n"
    assert replace_between(page, "grid", "new") == "a\n<!-- grid:begin -->\nnew\n<!-- grid:end -->\nb\n"
    for broken in ("no markers", page + page, "<!-- grid:end --><!-- grid:begin -->"):
        with pytest.raises(EvaluationError, match="no place"):
            replace_between(broken, "grid", "new")
