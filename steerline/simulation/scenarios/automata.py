"""Strategies of the repeated prisoner's dilemma as finite automata, and what they score against each other, exactly.

Two automata that play each other are a Markov chain on the pairs of their states: a strategy's own coins and the noise
that flips moves are the chances of its steps. So expected scores need no simulation. Names and rules follow Axelrod,
"The Evolution of Cooperation" (1984), and the `axelrod` package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

C, D = "C", "D"
"""To cooperate, to defect."""

Matrix = npt.NDArray[np.float64]

PAIRS = (C + C, C + D, D + C, D + D)
"""What can be played in a round: own move, then the other's."""

_STAY = dict.fromkeys(PAIRS, 0)


@dataclass(frozen=True)
class Automaton:
    """A strategy: in each state a chance to cooperate, and the next state by what was played."""

    cooperates: tuple[float, ...]
    """Chance of C by state. The first state is the one at the beginning of a match."""
    follows: tuple[Mapping[str, int], ...]
    """Next state by state and by what was played: own move, then the other's, as it came out (`CD`)."""

    def state(self, own: str, other: str) -> int:
        """The state after a match so far, each side's moves as a text of C and D."""
        at = 0
        for moves in zip(own, other, strict=True):
            at = self.follows[at]["".join(moves)]
        return at


def _on_other(c: int, d: int) -> Mapping[str, int]:
    """The next state by the other's move alone."""
    return {pair: c if pair[1] == C else d for pair in PAIRS}


_MIRROR = _on_other(0, 1)
_WIN_STAY = {C + C: 0, C + D: 1, D + C: 1, D + D: 0}

AUTOMATA: Mapping[str, Automaton] = {
    "cooperator": Automaton((1.0,), (_STAY,)),
    "defector": Automaton((0.0,), (_STAY,)),
    "random": Automaton((0.5,), (_STAY,)),
    "tit_for_tat": Automaton((1.0, 0.0), (_MIRROR, _MIRROR)),
    "grim": Automaton((1.0, 0.0), (_on_other(0, 1), _on_other(1, 1))),
    "tit_for_two_tats": Automaton((1.0, 1.0, 0.0), (_on_other(0, 1), _on_other(0, 2), _on_other(0, 2))),
    "generous": Automaton((1.0, 1 / 3), (_MIRROR, _MIRROR)),
    "win_stay": Automaton((1.0, 0.0), (_WIN_STAY, _WIN_STAY)),
}
"""The strategies of the tournament. `generous` forgives as often as it can without being exploited, which at payoffs of
5, 3, 1 and 0 is `min(1 - (T - R) / (R - S), (R - P) / (T - P)) = 1 / 3` (Nowak and Sigmund 1992)."""


def expected_score(
    first: Automaton, second: Automaton, payoffs: Mapping[str, float], rounds: int, noise: float = 0.0
) -> float:
    """What the first scores against the second in a round, on average over a match and over all coins.

    Args:
        first: the strategy that is scored.
        second: the one it plays.
        payoffs: points by own and other's move (`CD` is to be exploited).
        rounds: length of the match.
        noise: chance of each move to come out as the opposite.

    Returns:
        points a round; `sum_t p_t r / rounds`, where p_t is the distribution over pairs of states before round t.
    """
    width = len(second.cooperates)
    size = len(first.cooperates) * width
    steps, rewards = np.zeros((size, size)), np.zeros(size)
    for one, two in product(range(len(first.cooperates)), range(width)):
        here = one * width + two
        for own, other in product((C, D), repeat=2):
            chance = _chance(first.cooperates[one], own, noise) * _chance(second.cooperates[two], other, noise)
            rewards[here] += chance * payoffs[own + other]
            steps[here, first.follows[one][own + other] * width + second.follows[two][other + own]] += chance
    at, total = np.eye(size)[0], 0.0
    for _ in range(rounds):
        total += float(at @ rewards)
        at = at @ steps
    return total / rounds


def score_matrix(names: Sequence[str], payoffs: Mapping[str, float], rounds: int, noise: float = 0.0) -> Matrix:
    """What each strategy scores a round against each [S, S], its own kind included."""
    pairs = product((AUTOMATA[name] for name in names), repeat=2)
    scores = [expected_score(one, two, payoffs, rounds, noise) for one, two in pairs]
    return np.array(scores).reshape(len(names), len(names))


def replicator(scores: Matrix, generations: int) -> npt.NDArray[np.float64]:
    """Shares of the strategies when each grows with what it scores against all (Taylor and Jonker 1978).

    Args:
        scores: what each scores against each [S, S], nowhere negative.
        generations: times that `x_i <- x_i (A x)_i / x A x` is applied, from equal shares.

    Returns:
        shares [S].
    """
    shares = np.full(len(scores), 1 / len(scores))
    for _ in range(generations):
        grown = shares * (scores @ shares)
        shares = grown / grown.sum()
    return shares


def _chance(cooperates: float, move: str, noise: float) -> float:
    """Chance that a move comes out."""
    intended = cooperates if move == C else 1 - cooperates
    return intended * (1 - noise) + (1 - intended) * noise
