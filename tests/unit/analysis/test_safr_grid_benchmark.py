"""The command that docs/safr.md shows, at tiny size."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import benchmarks.safr_grid as benchmark
from steerline.analysis.safr.grid import Grid
from tests.unit import documentation as docs

PAGE = docs.ROOT / "docs" / "safr.md"
TINY = "--rows 64 --epochs 1 --heldout 32 --length 12 --width 16 --strengths 0 1 --seeds 2 --workers 1".split()  # noqa: SIM905


@pytest.mark.packaged
def test_the_grid_that_is_shown_trains_fills_its_page_and_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [words for words in docs.commands(PAGE) if words[:3] == ["python", "-m", "benchmarks.safr_grid"]]
    assert shown
    shutil.copy(PAGE, tmp_path)
    command = [*shown[0][3:], *TINY, "--output", str(tmp_path)]
    benchmark.main(command)
    grid = Grid.load(tmp_path / "safr_grid.json")
    assert len(grid.runs) == 8
    assert all(run.values["accuracy"] is not None for run in grid.runs)
    assert "| 1 | 1 |" in (tmp_path / "safr.md").read_text()
    assert {path.stem for path in (tmp_path / "img").iterdir()} == {
        f"safr-{name}" for name in ("allocation", "interaction", "importance", "deletion", "terms", "grid")
    }
    capsys.readouterr()
    benchmark.main(command)
    assert capsys.readouterr().out == ""  # nothing was left to train
    assert Grid.load(tmp_path / "safr_grid.json").runs == grid.runs


@pytest.mark.packaged
def test_a_run_repeats_exactly_and_another_seed_is_another_run() -> None:
    # As above: its rows are read once.
    settings = benchmark.Settings(rows=64, epochs=1, heldout=32, length=12, width=16, learning_rate=2e-3)
    one, same, other = (benchmark.run_of((1.0, 1.0), seed, settings) for seed in (0, 0, 1))
    assert one == same
    assert one.values != other.values
