"""The prisoner's dilemma against the `axelrod` package, whose import alone takes many seconds."""

from __future__ import annotations

from itertools import product
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from steerline.simulation.runner import run
from steerline.simulation.scenarios.automata import AUTOMATA, expected_score
from steerline.simulation.scenarios.prisoners_dilemma import PrisonersDilemmaParams, tournament

pytestmark = pytest.mark.slow

PLAYERS = {
    "cooperator": "Cooperator",
    "defector": "Defector",
    "random": "Random",
    "tit_for_tat": "TitForTat",
    "grim": "Grudger",
    "tit_for_two_tats": "TitFor2Tats",
    "generous": "GTFT",
    "win_stay": "WinStayLoseShift",
}
PURE = [name for name in PLAYERS if name not in ("random", "generous")]
PAYOFFS = PrisonersDilemmaParams().payoffs


@pytest.fixture(scope="module")
def axelrod() -> ModuleType:
    return pytest.importorskip("axelrod")


def scores(
    axelrod: ModuleType, one: str, two: str, turns: int, noise: float = 0.0, repetitions: int = 1
) -> list[float]:
    """What the first scores a turn in each of some matches."""
    players = [getattr(axelrod, PLAYERS[name])() for name in (one, two)]
    match = axelrod.Match(players, turns=turns, noise=noise, seed=7)
    found = []
    for _ in range(repetitions):
        match.play()
        found.append(match.final_score_per_turn()[0])
    return found


def test_every_strategy_is_there() -> None:
    assert set(PLAYERS) == set(AUTOMATA)


def test_a_simulated_tournament_scores_as_axelrods(axelrod: ModuleType) -> None:
    found = run(tournament(PURE, rounds=20)).outcome["scores"]
    for one, two in product(PURE, repeat=2):
        assert found[one][two] == pytest.approx(scores(axelrod, one, two, turns=20)[0], abs=1e-12), (one, two)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_exact_scores_lie_inside_the_intervals_of_axelrods_matches(axelrod: ModuleType, noise: float) -> None:
    matches, turns = 60, 50
    pairs = list(product(PLAYERS, repeat=2))
    # A joint level of 99.9 % over all pairs.
    width = float(stats.t.ppf(1 - 0.0005 / len(pairs), matches - 1))
    for one, two in pairs:
        found = np.array(scores(axelrod, one, two, turns, noise, matches))
        exact = expected_score(AUTOMATA[one], AUTOMATA[two], PAYOFFS, turns, noise)
        assert abs(found.mean() - exact) <= width * found.std(ddof=1) / matches**0.5 + 1e-9, (one, two)
