"""Werewolf when nobody knows anything: an exact death process.

By day one of the n living, each equally likely, is voted out; by night the m wolves take one of the others. After
Braverman, Etesami and Mossel, "Mafia: a theoretical study of players and coalitions in a partial information
environment" (Ann. Appl. Probab. 2008) and Migdal (arXiv 1009.1031).
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Literal

Victory = Literal["parity", "all"]
"""When wolves have won: they are as many as the others, or the others are gone."""


def wolves_have_won(living: int, wolves: int, victory: Victory) -> bool:
    """Whether the game is over, and the wolves' (`wolves` of the `living` are wolves)."""
    return wolves > 0 and (2 * wolves >= living if victory == "parity" else wolves == living)


@cache
def wolves_win(living: int, wolves: int, victory: Victory) -> Fraction:
    """Chance of the wolves to win, on the morning of a day."""
    if wolves == 0:
        return Fraction(0)
    if wolves_have_won(living, wolves, victory):
        return Fraction(1)
    hit = Fraction(wolves, living)
    return hit * _night(living - 1, wolves - 1, victory) + (1 - hit) * _night(living - 1, wolves, victory)


@cache
def villager_survives(living: int, wolves: int, victory: Victory) -> Fraction:
    """Chance of one villager, alive on the morning of a day, to be alive at the end."""
    if wolves == 0 or wolves_have_won(living, wolves, victory):
        return Fraction(1)
    total = Fraction(0)
    for wolves_left, chance in (
        (wolves - 1, Fraction(wolves, living)),
        (wolves, Fraction(living - wolves - 1, living)),  # one of the other villagers was voted out
    ):
        over = wolves_left == 0 or wolves_have_won(living - 1, wolves_left, victory)
        prey = living - 1 - wolves_left
        spared = Fraction(1) if over else Fraction(prey - 1, prey) * villager_survives(living - 2, wolves_left, victory)
        total += chance * spared
    return total


def _night(living: int, wolves: int, victory: Victory) -> Fraction:
    if wolves == 0 or wolves_have_won(living, wolves, victory):
        return Fraction(int(wolves > 0))
    return wolves_win(living - 1, wolves, victory)
