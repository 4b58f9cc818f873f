"""Who pays for the tokens of a simulation: the key under which it was last asked to be played."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from steerline.config.simulation_agents import model_part
from steerline.errors import AccessError
from steerline.inference.request import GenRequest, GenResult
from steerline.serving.keys import KeyBook
from steerline.serving.usage import UsageBook
from steerline.simulation.asking import AGAIN_S
from steerline.simulation.interruption import Interruption
from steerline.simulation.store.base import Store
from steerline.simulation.turn import Decider, Decision, Turn

log = logging.getLogger("steerline.serving")

PAYER = "payer"
"""Operation that says which key pays for what is played from then on."""
MOST_PAYERS = 10_000
"""Simulations whose payers are known once they are played no longer, for answers that come late."""


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
        self._settling = threading.Lock()
        self._owing = threading.Lock()
        """Of what follows, and never held for long: an event loop takes it."""
        self._payers: dict[str, str] = {}
        self._owed: Counter[str] = Counter()

    def of(self, store: Store, sim: str) -> Purse | None:
        """The purse of who pays for a simulation; none where nobody does, as it was made without keys.

        Args:
            store: holds the simulation.
            sim: its name.
        """
        paid = (str(entry.payload["key"]) for entry in reversed(store.operations(sim)) if entry.kind == PAYER)
        key = next(paid, None)
        with self._owing:
            # The newest come last.
            self._payers.pop(sim, None)
            if key is None:
                return None
            self._payers[sim] = key
            if len(self._payers) > MOST_PAYERS:
                del self._payers[next(iter(self._payers))]
        return Purse(self, key)

    def book(self, request: GenRequest, result: GenResult) -> None:
        """Count what an answer took, a refused one too, for the key that pays for its simulation, whether or not
        anybody still waits.

        Call it in an event loop; it is written down elsewhere.
        """
        tokens = result.usage.prompt_tokens + result.usage.completion_tokens
        if not tokens:
            return
        with self._owing:
            key = self._payers.get(request.simulation)
            if key is None:
                return
            is_first = not self._owed
            self._owed[key] += tokens
        if is_first:
            asyncio.get_running_loop().run_in_executor(None, self.settle)

    def settle(self) -> None:
        """Write down what was counted."""
        with self._settling:
            with self._owing:
                owed, self._owed = self._owed, Counter()
            for key, tokens in owed.items():
                self.usage.add(key, tokens)


class Purse:
    """Out of which one simulation is paid while it is played.

    Args:
        purses: all of them.
        key: id of the one that pays.
    """

    def __init__(self, purses: Purses, key: str) -> None:
        self._purses, self._keys, self._usage = purses, purses.keys, purses.usage
        self._key = key

    @contextmanager
    def hold(self, tokens: int) -> Iterator[None]:
        """Around what models are asked, of which so many tokens may come: simulations side by side share a day, and one
        alone may go over its end.

        Raises:
            Interruption: the simulation pauses, with the reason.
        """
        self._purses.settle()
        name = uuid.uuid4().hex
        try:
            most = self._take(name, tokens)
        except AccessError as error:
            log.warning("nobody knows who may pay, and it is tried again: %s", error)
            raise Interruption("paused", "the keys and what they used cannot be read now", AGAIN_S) from error
        try:
            yield
        finally:
            # Where a day has no end, nothing is held.
            if most is not None:
                self._usage.release(name)

    def _take(self, name: str, tokens: int) -> int | None:
        """Hold tokens under a name; how many the day has, if there is an end to it."""
        key = self._keys.entry(self._key)
        # Whoever may look at the simulation reads this: whose key it is, and what it used, is not theirs to know.
        if key is None:
            raise Interruption("paused", "the key that pays for it was revoked, or has expired; resume it with another")
        most = key.tokens_per_day
        if most is None:
            return None
        taken = self._usage.hold(name, key.id, tokens, most)
        if taken.used >= most:
            raise Interruption(
                "paused",
                "the key that pays for it has used its tokens of today; it goes on by itself at midnight, UTC",
                self._usage.seconds_to_midnight(),
            )
        if not taken.leaves_some_of(most):
            raise Interruption(
                "paused",
                "what is being written for others may take what is left today of the key that pays for it; it goes on "
                "by itself after that",
                AGAIN_S,
            )
        return most


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
