"""A run that is killed at any point goes on as if nothing had happened, and asks no model twice."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from steerline.errors import CorruptLogError, LeaseError, SimulationError
from steerline.inference.request import GenRequest
from steerline.simulation.engine import Engine
from steerline.simulation.event import EventDraft, seal
from steerline.simulation.runner import run
from steerline.simulation.scenarios.public_goods import PublicGoods
from steerline.simulation.scene import Scene
from steerline.simulation.store.base import Control
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.store.sqlite import SqliteStore
from tests.unit.simulation.worlds import Server, drawn, llm, spec

SPEC = spec(
    llm(),
    llm(attempts=2),
    "conditional",
    agent={"memory": {"kind": "window"}, "evolution": {"every": 1}},
    punishment=True,
    durability={"call_chunk": 1, "snapshot_every": 2},
)
PLACES = ["answer", "start", "decide", "resolve", "feedback", "adjust", "metrics", "commit", "transaction"]


def killed(path: Path, where: str) -> None:
    """Run in a process of its own that kills itself at a place: in a phase of the third tick, while a model answers, or
    inside a transaction."""
    pid = os.fork()
    if pid == 0:
        run_and_die(path, where)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def run_and_die(path: Path, where: str) -> None:
    log, many, counts = Scene.log, SqliteStore._many, Counter()

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def answer(request: GenRequest) -> str:
        with path.with_suffix(".asked").open("a") as file:
            file.write(f"{request.call} {request.address}\n")
        counts["answers"] += 1
        if where == "answer" and counts["answers"] == 8:
            die()
        return drawn(request)

    def dying_log(self: Scene, phase: Any, *args: Any, **more: Any) -> int:
        if self.tick == 2 and phase == where:
            die()
        return log(self, phase, *args, **more)

    def dying_many(self: SqliteStore, statement: str, values: Any) -> None:
        many(self, statement, values)
        counts["appends"] += statement.startswith("INSERT INTO events")
        if where == "transaction" and counts["appends"] == 4:
            die()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scene, "log", dying_log)
        patch.setattr(SqliteStore, "_many", dying_many)
        run(SPEC, store=SqliteStore(path), sim="s", backends={"m": Server(answer, max_batch=1)})


@pytest.mark.parametrize("where", PLACES)
def test_a_killed_run_goes_on_and_asks_nothing_twice(where: str, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    killed(path, where)
    asked = dict(line.split() for line in path.with_suffix(".asked").read_text().splitlines())
    store, server = SqliteStore(path), Server()
    journaled = {f"{call.tick}/{call.agent}/{call.index}": call.address for call in store.calls("s")}
    assert len(asked) - len(journaled) <= 1  # the one whose answer the kill cut off
    ticks = sum(event.kind == "tick.committed" for event in store.events("s"))
    assert ticks == (1 if where == "answer" else 2)
    store.acquire("s", "the dead", 0.0, steal=True)
    result = run(SPEC, store=store, sim="s", backends={"m": server})
    assert result.hash == run(SPEC, backends={"m": Server()}).hash
    assert not journaled.keys() & set(server.places)
    store.close()


@pytest.mark.parametrize("snapshots", [True, False])
def test_a_run_in_pieces_is_a_run_in_one(snapshots: bool) -> None:
    store = MemoryStore()
    for _ in range(4):
        if store.find("s") and not snapshots:
            store.drop_snapshots("s")
        result = run(SPEC, store=store, sim="s", backends={"m": Server()}, ticks=1)
    assert result.status == "ended"
    assert result.hash == run(SPEC, backends={"m": Server()}).hash


def test_an_ended_run_is_told_again_and_asks_nothing() -> None:
    store, server = MemoryStore(), Server()
    first = run(SPEC, store=store, sim="s", backends={"m": Server()})
    again = run(SPEC, store=store, sim="s", backends={"m": server})
    assert (again.hash, again.status, again.outcome) == (first.hash, "ended", first.outcome)
    assert server.asked == []


def test_another_owner_cannot_run_it_meanwhile_and_a_stale_one_cannot_write() -> None:
    store = MemoryStore()
    engine = Engine(spec("conditional", "conditional"), store, "s")
    old = store.acquire("s", "old", 30.0)
    with pytest.raises(LeaseError, match="run by another process"):
        run(spec("conditional", "conditional"), store=store, sim="s")
    store.acquire("s", "new", 30.0, steal=True)
    draft = EventDraft("start", "sim.created", {"fingerprint": engine.game.fingerprint})
    with pytest.raises(LeaseError, match="taken over"):
        store.append(old, list(seal([draft], 0, 0, "0" * 64, 0.0)))


def test_a_corrupted_log_is_found_at_its_event(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    run(SPEC, store=store, sim="s", backends={"m": Server()}, ticks=3)
    store.close()
    with sqlite3.connect(tmp_path / "s.db") as connection:
        query = "SELECT seq FROM events WHERE kind = 'action.taken' AND tick = 1 ORDER BY seq LIMIT 1"
        (seq,) = connection.execute(query).fetchone()
        connection.execute("UPDATE events SET payload = replace(payload, '\"ok\"', '\"no\"') WHERE seq = ?", (seq,))
    connection.close()
    with pytest.raises(CorruptLogError, match="not whole") as caught:
        run(SPEC, store=SqliteStore(tmp_path / "s.db"), sim="s", backends={"m": Server()})
    assert f"event {seq} (action.taken, tick 1) was altered" in str(caught.value)


def test_changed_code_is_found_where_the_history_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    run(SPEC, store=store, sim="s", backends={"m": Server()}, ticks=2)
    store.drop_snapshots("s")
    monkeypatch.setattr(PublicGoods, "metrics", lambda self, state: {"mean_contribution": 0.0})
    with pytest.raises(CorruptLogError, match="do not lead to the recorded world") as caught:
        run(SPEC, store=store, sim="s", backends={"m": Server()})
    place = next(event.seq for event in store.events("s") if event.kind == "metric.recorded")
    assert f"event {place}, tick 0" in str(caught.value)


def test_a_name_cannot_be_taken_by_another_spec() -> None:
    store = MemoryStore()
    run(SPEC, store=store, sim="s", backends={"m": Server()}, ticks=1)
    with pytest.raises(SimulationError, match="another simulation called s"):
        run(SPEC.model_copy(update={"seed": 5}), store=store, sim="s", backends={"m": Server()})


def test_limits_may_change_between_attempts() -> None:
    store = MemoryStore()
    run(SPEC, store=store, sim="s", backends={"m": Server()}, ticks=1)
    longer = SPEC.model_copy(update={"budgets": SPEC.budgets.model_copy(update={"max_calls": 999})})
    assert run(longer, store=store, sim="s", backends={"m": Server()}).status == "ended"


def test_a_stopped_run_stays_stopped() -> None:
    store = MemoryStore()
    run(SPEC, store=store, sim="s", backends={"m": Server()}, ticks=1)
    store.post("s", Control("c", "stop", {}))
    for _ in range(2):
        result = run(SPEC, store=store, sim="s", backends={"m": Server()})
        assert (result.status, result.tick) == ("stopped", 1)
