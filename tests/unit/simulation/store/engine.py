"""What the engine must do on every store that outlives its process.

A test module gives the fixtures `open_store(clock)` and `execute(statement)`, and imports these tests by `*`.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steerline.config.simulation import SimulationSpec
from steerline.errors import CorruptLogError, LeaseError
from steerline.inference.request import GenRequest
from steerline.simulation.engine import Surroundings
from steerline.simulation.runner import run
from steerline.simulation.scene import Scene
from steerline.simulation.store.base import Store
from tests.unit.simulation.store.conformance import OpenStore
from tests.unit.simulation.worlds import Server, drawn, llm, spec

__all__ = [
    "test_a_corrupted_log_is_found_at_its_event",
    "test_a_killed_run_goes_on_and_asks_nothing_twice",
    "test_a_killed_run_of_scripts_whose_ticks_are_committed_together_goes_on",
    "test_a_log_whose_end_is_missing_is_found",
    "test_a_run_that_lost_its_lease_writes_nothing_more",
]

SPEC = spec(
    llm(),
    llm(attempts=2),
    "conditional",
    agent={"memory": {"kind": "window"}, "evolution": {"every": 1}},
    punishment=True,
    durability={"call_chunk": 1, "snapshot_every": 2},
)
SCRIPTS = spec(
    "conditional", "opportunist", "free_rider", punishment=True, durability={"together_ms": 1e9, "snapshot_every": 2}
)
PLACES = ["answer", "start", "decide", "resolve", "feedback", "adjust", "metrics", "commit", "transaction"]


def killed(open_store: OpenStore, asked: Path, where: str, played: SimulationSpec = SPEC, transaction: int = 4) -> None:
    """Run in a process of its own that kills itself at a place: in a phase of the third tick, while a model answers, or
    inside a transaction that holds ticks."""
    pid = os.fork()
    if pid == 0:
        run_and_die(open_store(time.time), asked, where, played, transaction)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def run_and_die(store: Store, asked: Path, where: str, played: SimulationSpec, transaction: int) -> None:
    log, many, counts = Scene.log, type(store)._many, Counter()  # type: ignore[attr-defined]

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def answer(request: GenRequest) -> str:
        with asked.open("a") as file:
            file.write(f"{request.call} {request.address}\n")
        counts["answers"] += 1
        if where == "answer" and counts["answers"] == 8:
            die()
        return drawn(request)

    def dying_log(self: Scene, phase: Any, *args: Any, **more: Any) -> int:
        if self.tick == 2 and phase == where:
            die()
        return log(self, phase, *args, **more)

    def dying_many(self: Store, statement: str, values: Any) -> None:
        many(self, statement, values)
        counts["appends"] += statement.startswith("INSERT INTO events")
        if where == "transaction" and counts["appends"] == transaction:
            die()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scene, "log", dying_log)
        patch.setattr(type(store), "_many", dying_many)
        run(played, store=store, sim="s", backends={"m": Server(answer, max_batch=1)})


@pytest.mark.parametrize("where", PLACES)
def test_a_killed_run_goes_on_and_asks_nothing_twice(where: str, open_store: OpenStore, tmp_path: Path) -> None:
    killed(open_store, tmp_path / "asked", where)
    asked = [line.split()[0] for line in (tmp_path / "asked").read_text().splitlines()]
    store, server = open_store(time.time), Server()
    journaled = {f"{call.tick}/{call.agent}/{call.index}" for call in store.calls("s")}
    assert len(set(asked) - journaled) <= 1  # the one whose answer the kill cut off
    ticks = sum(event.kind == "tick.committed" for event in store.events("s"))
    assert ticks == (1 if where == "answer" else 2)
    store.acquire("s", "who buries the dead", 0.0, steal=True)
    result = run(SPEC, store=store, sim="s", backends={"m": server})
    assert result.hash == run(SPEC, backends={"m": Server()}).hash
    assert not journaled & set(server.places)


@pytest.mark.parametrize("where", ["start", "decide", "resolve", "metrics", "commit", "transaction"])
def test_a_killed_run_of_scripts_whose_ticks_are_committed_together_goes_on(
    where: str, open_store: OpenStore, tmp_path: Path
) -> None:
    killed(open_store, tmp_path / "asked", where, SCRIPTS, transaction=1)
    store = open_store(time.time)
    assert not list(store.events("s"))
    store.acquire("s", "who buries the dead", 0.0, steal=True)
    result = run(SCRIPTS, store=store, sim="s")
    assert result.hash == run(SCRIPTS).hash
    assert [event.seq for event in store.events("s")] == list(range(1, len(result.events) + 1))


def test_a_run_that_lost_its_lease_writes_nothing_more(open_store: OpenStore) -> None:
    """Another owner takes over while a model answers, as after a long stop of the process."""
    store, other = open_store(time.time), open_store(time.time)

    def answer(request: GenRequest) -> str:
        if request.call == "2/a/0":
            other.acquire("s", "another process", 30.0, steal=True)
        return drawn(request)

    with pytest.raises(LeaseError, match="taken over"):
        run(SPEC, store=store, sim="s", backends={"m": Server(answer)})
    assert max(event.tick for event in other.events("s")) == 1
    assert max(call.tick for call in other.calls("s")) == 1


def test_a_corrupted_log_is_found_at_its_event(open_store: OpenStore, execute: Callable[[str], None]) -> None:
    store = open_store(time.time)
    run(SPEC, store=store, sim="s", backends={"m": Server()}, ticks=3)
    seq = next(event.seq for event in store.events("s") if (event.kind, event.tick) == ("action.taken", 1))
    execute(f"UPDATE events SET payload = replace(payload, 'ANSWER', 'answer') WHERE sim = 's' AND seq = {seq}")
    with pytest.raises(CorruptLogError, match="not whole") as caught:
        run(SPEC, store=open_store(time.time), sim="s", backends={"m": Server()}, around=Surroundings())
    assert f"event {seq} (action.taken, tick 1) was altered" in str(caught.value)


def test_a_log_whose_end_is_missing_is_found(open_store: OpenStore, execute: Callable[[str], None]) -> None:
    store = open_store(time.time)
    run(SPEC, store=store, sim="s", backends={"m": Server()}, ticks=2)
    last = max(event.seq for event in store.events("s"))
    for kept in (last - 1, 0):
        execute(f"DELETE FROM events WHERE sim = 's' AND seq > {kept}")
        with pytest.raises(CorruptLogError, match=f"event {kept + 1} is missing"):
            run(SPEC, store=open_store(time.time), sim="s", backends={"m": Server()})
