"""A grid of SAFR's two strengths over several seeds: what each setting changes against the model without them.

Seeds are the unit: a setting's interval is Student's over seeds, and it is compared with strengths (0, 0) seed by seed,
so that what a seed shares between settings (weights, order of rows) cancels. Within a measure the p-values of all
settings are corrected by Holm's method.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import ttest_1samp

from steerline.errors import EvaluationError
from steerline.evaluation.statistics import Interval, holm, t_interval

FORMAT = "steerline-safr-grid/1"
Cell = tuple[float, float]
"""Strength of the importance term, strength of the interaction term."""
VANILLA: Cell = (0.0, 0.0)


@dataclass(frozen=True)
class GridRun:
    """One trained model.

    Args:
        importance, interaction: the strengths.
        seed: of weights, order and draws.
        values: measures by name; none where a measure is not defined on this model.
    """

    importance: float
    interaction: float
    seed: int
    values: Mapping[str, float | None]

    @property
    def cell(self) -> Cell:
        """Its place in the grid."""
        return self.importance, self.interaction


@dataclass(frozen=True)
class CellResult:
    """One measure at one setting.

    Args:
        cell: the setting.
        value: mean and interval over seeds.
        num_seeds: seeds on which the measure is defined.
        difference: mean and interval of the paired difference from vanilla; none for vanilla itself.
        p_holm: paired t-test against vanilla, corrected over all settings; none for vanilla itself.
    """

    cell: Cell
    value: Interval
    num_seeds: int
    difference: Interval | None
    p_holm: float | None


@dataclass(frozen=True)
class Grid:
    """All runs of a grid, with how they were made (`settings`, as JSON)."""

    runs: tuple[GridRun, ...]
    settings: Mapping[str, object]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The settings, ascending."""
        return tuple(sorted({run.cell for run in self.runs}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(sorted({run.seed for run in self.runs}))

    def by_seed(self, measure: str, cell: Cell) -> dict[int, float]:
        """The measure's value of each seed that has one."""
        found = {run.seed: run.values[measure] for run in self.runs if run.cell == cell}
        return {seed: value for seed, value in found.items() if value is not None}

    def results(self, measure: str) -> list[CellResult]:
        """The measure at every setting where at least two seeds have it, in order of `cells`.

        Raises:
            EvaluationError: there is no setting (0, 0) to compare with.
        """
        if VANILLA not in self.cells:
            raise EvaluationError("the grid has no run without SAFR", got=self.cells, expected="strengths (0, 0)")
        base = self.by_seed(measure, VANILLA)
        found: list[tuple[Cell, Interval, int, Interval | None, float | None]] = []
        for cell in self.cells:
            values = self.by_seed(measure, cell)
            if len(values) < 2:
                continue
            shared = [seed for seed in values if seed in base]
            differences = np.array([values[seed] - base[seed] for seed in shared])
            paired = cell != VANILLA and len(shared) > 1
            found.append(
                (
                    cell,
                    t_interval(list(values.values())),
                    len(values),
                    t_interval(differences) if paired else None,
                    paired_p_value(differences) if paired else None,
                )
            )
        corrected = iter(holm([p for *_, p in found if p is not None]))
        return [
            CellResult(cell, value, count, difference, None if p is None else next(corrected))
            for cell, value, count, difference, p in found
        ]

    def to_json(self) -> str:
        """The grid as JSON: settings and runs, from which everything else is computed."""
        document = {"format": FORMAT, "settings": dict(self.settings), "runs": [asdict(run) for run in self.runs]}
        return json.dumps(document, indent=1)

    @classmethod
    def load(cls, path: Path) -> Grid:
        """Read what `to_json` wrote.

        Raises:
            EvaluationError: the file is missing, or is no grid.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}")
            return cls(tuple(GridRun(**run) for run in document["runs"]), document["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EvaluationError(
                "this is not a grid's results file", where=str(path), got=str(error), expected=f"format {FORMAT}"
            ) from error


def paired_p_value(differences: np.ndarray) -> float:
    """Two-sided t-test that paired differences [N] have mean 0; 1 where all are 0, 0 where all are one other value."""
    if np.ptp(differences) == 0:
        return float(differences[0] == 0)
    return float(ttest_1samp(differences, 0.0).pvalue)


def markdown_table(grid: Grid, measures: Mapping[str, str]) -> str:
    """The grid as a Markdown table: a line for each setting, a column for each measure (name -> heading).

    A difference from vanilla whose corrected p-value is below 0.05 is in bold.
    """
    results = {name: {result.cell: result for result in grid.results(name)} for name in measures}
    lines = [
        "| importance | interaction | " + " | ".join(measures.values()) + " |",
        "|---:|---:|" + "---|" * len(measures),
    ]
    for cell in grid.cells:
        columns = [_cell_text(results[name].get(cell)) for name in measures]
        lines.append(f"| {cell[0]:g} | {cell[1]:g} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def _cell_text(result: CellResult | None) -> str:
    if result is None:
        return "not defined"
    text = f"{result.value.mean:.3f} [{result.value.low:.3f}, {result.value.high:.3f}]"
    return f"**{text}**" if result.p_holm is not None and result.p_holm < 0.05 else text


def changed(grid: Grid, measures: Iterable[str]) -> list[tuple[str, CellResult]]:
    """The measures and settings whose paired difference from vanilla has a corrected p-value below 0.05."""
    return [
        (name, result)
        for name in measures
        for result in grid.results(name)
        if result.p_holm is not None and result.p_holm < 0.05
    ]


def replace_between(text: str, name: str, content: str) -> str:
    """A page with the lines between `<!-- name:begin -->` and `<!-- name:end -->` replaced.

    Raises:
        EvaluationError: the markers are not there, once each and in order.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found or begin in rest or end in after:
        raise EvaluationError("the page has no place for the table", expected=f"{begin} and {end}, once each")
    return f"{before}{begin}\n{content}\n{end}{after}"


def strengths(grid: Grid) -> tuple[Sequence[float], Sequence[float]]:
    """The strengths of the two terms that occur, ascending."""
    return sorted({cell[0] for cell in grid.cells}), sorted({cell[1] for cell in grid.cells})
