"""The journal of model calls: what was asked at which place, and what was answered.

A call's place is (tick, agent, index of the agent's call in the tick); beside it stands the content address of the
request. An answer is used again only where both agree.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from steerline.config.simulation_running import CacheReplay, HybridReplay, ReplaySpec, StrictReplay
from steerline.errors import ReplayError
from steerline.inference.request import GenRequest, GenResult
from steerline.simulation.store.base import Call, Lease, Store

Place = tuple[int, str, int]


class Journal:
    """The journal of one run.

    Args:
        store: where calls are kept.
        lease: the run's.
        replay: where answers come from.
        known: calls that were recorded: this simulation's own, or those that are replayed.
        chunk: calls that are written together.
    """

    def __init__(self, store: Store, lease: Lease, replay: ReplaySpec, known: Iterable[Call], chunk: int) -> None:
        self._store = store
        self._lease = lease
        self._replay = replay
        self._known = {(call.tick, call.agent, call.index): call for call in known}
        self._chunk = chunk
        self._fresh: list[Call] = []
        self._next: dict[tuple[int, str], int] = {}
        self.num_replayed = 0
        """Answers that came from the journal in this run."""

    def begin(self, tick: int) -> None:
        """Number the calls of a tick from 0, also when it is played again."""
        self._next = {place: number for place, number in self._next.items() if place[0] != tick}

    def place(self, tick: int, agent: str) -> Place:
        """The place of an agent's next call."""
        index = self._next.get((tick, agent), 0)
        self._next[tick, agent] = index + 1
        return (tick, agent, index)

    def find(self, place: Place, request: GenRequest) -> GenResult | None:
        """The recorded answer.

        Raises:
            ReplayError: the replay is strict, and there is none for this request at this place.
        """
        call = self._known.get(place)
        if call is not None and call.address == request.address:
            return self._found(call)
        if self._is_bound(place[0]):
            raise _difference(place, request, call)
        if isinstance(self._replay, CacheReplay) and (self._replay.sampled or request.sampling.temperature == 0):
            call = self._store.call_at(request.address)
            return None if call is None else self._found(call)
        return None

    def add(self, place: Place, request: GenRequest, result: GenResult) -> None:
        """Take down an answer. It is in the store once a chunk is full, or at `flush`."""
        call = Call(*place, request.address, request.canonical, result.to_dict())
        self._known[place] = call
        self._fresh.append(call)
        if len(self._fresh) >= self._chunk:
            self.flush()

    def flush(self) -> None:
        """Write what was taken down.

        Raises:
            LeaseError: another owner has taken over.
        """
        if self._fresh:
            self._store.put_calls(self._lease, self._fresh)
            self._fresh = []

    def forget(self, tick: int) -> None:
        """Give back the memory of a committed tick's calls; the store has them."""
        self._known = {place: call for place, call in self._known.items() if place[0] > tick}

    def _found(self, call: Call) -> GenResult:
        self.num_replayed += 1
        return GenResult.from_dict(call.result)

    def _is_bound(self, tick: int) -> bool:
        replay = self._replay
        return isinstance(replay, StrictReplay) or (isinstance(replay, HybridReplay) and tick < replay.until)


def _difference(place: Place, request: GenRequest, call: Call | None) -> ReplayError:
    tick, agent, index = place
    where = f"tick {tick}, agent {agent}, call {index}"
    if call is None:
        return ReplayError("the journal holds no such call", where=where, got=_lines(request.canonical)[:400])
    lines = difflib.unified_diff(
        _lines(call.request).splitlines(), _lines(request.canonical).splitlines(), "recorded", "asked", n=1, lineterm=""
    )
    return ReplayError(
        "a call differs from the journal",
        where=where,
        got="\n" + "\n".join(lines),
        expected="the request that was recorded",
        fix="undo what changed it, or fork at this tick",
    )


def _lines(request: Mapping[str, Any]) -> str:
    return json.dumps(request, indent=1, sort_keys=True, ensure_ascii=False).replace("\\n", "\n")
