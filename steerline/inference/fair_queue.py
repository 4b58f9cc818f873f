"""Who is served next: deficit round robin over simulations, weighed by tokens."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What can stand in the queue."""

    @property
    def cost(self) -> int:
        """Tokens."""
        ...

    waiting: bool
    """False once it was taken or given up; wherever else it stands, the queue passes over it."""


W = TypeVar("W", bound=Waiting)


@dataclass(slots=True)
class _Share(Generic[W]):
    """One simulation's part of the queue."""

    items: deque[W] = field(default_factory=deque)
    weight: float = 1.0
    credit: float = 0.0
    """Tokens that it may still take in this turn."""
    in_turn: bool = False


class FairQueue(Generic[W]):
    """Each simulation in turn may take `quantum * weight` tokens, and keeps what it could not use while it waits
    (Shreedhar and Varghese, 1996). However much one of them asks, another waits for no more than a round of turns."""

    def __init__(self) -> None:
        self._shares: dict[str, _Share[W]] = {}
        self._turns: deque[str] = deque()

    def push(self, item: W, owner: str, weight: float = 1.0, *, first: bool = False) -> None:
        """Puts an item at the end of its owner's line, or at its head."""
        share = self._shares.get(owner)
        if share is None:
            share = self._shares[owner] = _Share()
            self._turns.append(owner)
        share.weight = weight
        if first:
            share.items.appendleft(item)
        else:
            share.items.append(item)

    def take(self, max_items: int, max_cost: int, quantum: float) -> list[W]:
        """Items of one batch, in order of service; one that is too large for any batch comes alone."""
        taken: list[W] = []
        room = max_cost
        while self._turns and len(taken) < max_items:
            share = self._shares[self._turns[0]]
            if not share.in_turn:
                share.in_turn = True
                share.credit += quantum * share.weight
            while share.items and len(taken) < max_items:
                item = share.items[0]
                if item.waiting:
                    if item.cost > share.credit:
                        break
                    if item.cost > room and taken:
                        return taken
                    item.waiting = False
                    taken.append(item)
                    share.credit -= item.cost
                    room -= item.cost
                share.items.popleft()
            self._end_turn(share, batch_is_full=len(taken) == max_items)
        return taken

    def _end_turn(self, share: _Share[W], *, batch_is_full: bool) -> None:
        if not share.items:
            del self._shares[self._turns.popleft()]
        elif not batch_is_full or share.items[0].cost > share.credit:
            share.in_turn = False
            self._turns.rotate(-1)
