"""Who pays for the tokens of a simulation: the key under which it was last asked to be played."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from steerline.config.simulation_agents import model_part
from steerline.errors import AccessError
from steerline.inference.request import Usage
from steerline.serving.keys import KeyBook
from steerline.serving.usage import UsageBook
from steerline.simulation.asking import AGAIN_S
from steerline.simulation.interruption import Interruption
from steerline.simulation.store.base import Store
from steerline.simulation.turn import Decider, Decision, Turn

log = logging.getLogger("steerline.serving")

PAYER = "payer"
"""Operation that says which key pays for what is played from then on."""


def charge(store: Store, sim: str, key: str | None) -> None:
    """Have a key pay for a simulation, or nobody. Say so before it is asked to be played."""
    if key is not None:
        store.operate(sim, PAYER, {"key": key})


class Purses:
    """What the keys of an endpoint may still spend, for those who play simulations.

    Args:
        keys: with their quotas.
        usage: tokens by key and day.
    """

    def __init__(self, keys: KeyBook, usage: UsageBook) -> None:
        self.keys = keys
        self.usage = usage
        self.lock = threading.Lock()
        """Of `held`: each simulation is played in a thread of its own."""
        self.held: Counter[str] = Counter()
        """Tokens that may come of what models are asked now, by key, of all simulations of this process."""

    def of(self, store: Store, sim: str, spent: Callable[[], Usage]) -> Purse | None:
        """The purse of who pays for a simulation; none where nobody does, as it was made without keys.

        Args:
            store: holds the simulation.
            sim: its name.
            spent: what its requests took so far.
        """
        paid = (str(entry.payload["key"]) for entry in reversed(store.operations(sim)) if entry.kind == PAYER)
        key = next(paid, None)
        return None if key is None else Purse(self, key, spent)


class Purse:
    """Out of which one simulation is paid while it is played.

    Args:
        purses: all of them.
        key: id of the one that pays.
        spent: what the simulation's requests took so far.
    """

    def __init__(self, purses: Purses, key: str, spent: Callable[[], Usage]) -> None:
        self._purses, self._keys, self._usage = purses, purses.keys, purses.usage
        self._key = key
        self._spent = spent
        self._counted = _tokens(spent())

    @contextmanager
    def hold(self, tokens: int) -> Iterator[None]:
        """Around what models are asked, of which so many tokens may come: simulations side by side share a day, and one
        alone may go over its end.

        Raises:
            Interruption: the simulation pauses, with the reason.
        """
        held = self._purses.held
        with self._purses.lock:
            self._check(held[self._key])
            held[self._key] += tokens
        try:
            yield
        finally:
            self.settle()
            with self._purses.lock:
                held[self._key] -= tokens
                if not held[self._key]:
                    del held[self._key]

    def _check(self, held: int) -> None:
        try:
            key = self._keys.entry(self._key)
            used = self._usage.today(self._key) if key is not None and key.tokens_per_day is not None else 0
        except AccessError as error:
            log.warning("nobody knows who may pay, and it is tried again: %s", error)
            raise Interruption("paused", "the keys and what they used cannot be read now", AGAIN_S) from error
        # Whoever may look at the simulation reads this: whose key it is, and what it used, is not theirs to know.
        if key is None:
            raise Interruption("paused", "the key that pays for it was revoked, or has expired; resume it with another")
        if key.tokens_per_day is not None and used >= key.tokens_per_day:
            raise Interruption(
                "paused",
                "the key that pays for it has used its tokens of today; it goes on by itself at midnight, UTC",
                self._usage.seconds_to_midnight(),
            )
        if key.tokens_per_day is not None and used + held >= key.tokens_per_day:
            raise Interruption(
                "paused",
                "what other simulations ask now may take what is left today of the key that pays for it; it goes on by "
                "itself after that",
                AGAIN_S,
            )

    def settle(self) -> None:
        """Count what was spent since the last time."""
        spent = _tokens(self._spent())
        if spent > self._counted:
            self._usage.add(self._key, spent - self._counted)
            self._counted = spent


@dataclass(frozen=True)
class Paid:
    """Answers turns for as long as those that ask models can be paid for. What is under way may go over a day's end.

    Args:
        purse: pays.
        decider: answers.
    """

    purse: Purse
    decider: Decider

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        """An answer to each turn, in order.

        Raises:
            Interruption: nobody pays any more, or somebody cannot answer now.
        """
        asked = [llm for turn in turns if (llm := model_part(turn.agent.brain)) is not None]
        if not asked:
            return await self.decider.decide(turns)
        with self.purse.hold(sum(llm.sampling.max_tokens for llm in asked)):
            return await self.decider.decide(turns)


def _tokens(usage: Usage) -> int:
    return usage.prompt_tokens + usage.completion_tokens
