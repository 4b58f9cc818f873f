"""A run that is left goes on as if nothing had happened. See `store/engine.py` for runs that are killed."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest

from steerline.errors import CorruptLogError, LeaseError, SimulationError
from steerline.simulation.canonical import canonical, plain
from steerline.simulation.runner import run
from steerline.simulation.scenarios.public_goods import PublicGoods
from steerline.simulation.store.base import Control
from steerline.simulation.store.memory import MemoryStore
from tests.unit.simulation.store.engine import SPEC
from tests.unit.simulation.worlds import Server, spec


@pytest.mark.parametrize("snapshots", [True, False])
def test_a_run_in_pieces_is_a_run_in_one(snapshots: bool) -> None:
    store = MemoryStore()
    for _ in range(4):
        if store.find("s") and not snapshots:
            store.drop_snapshots("s")
        result = run(SPEC, store=store, sim="s", backends={"m": Server()}, ticks=1)
    assert result.status == "ended"
    assert result.hash == run(SPEC, backends={"m": Server()}).hash


def test_a_snapshot_that_another_version_packed_in_another_way_is_left_aside() -> None:
    store, one = MemoryStore(), spec("conditional", "conditional", durability={"snapshot_every": 1})
    run(one, store=store, sim="s", ticks=2)
    kept = store.snapshot("s")
    assert kept is not None
    fields = plain(zlib.decompress(kept.world))
    del fields["messages"]
    older = replace(kept, world=zlib.compress(canonical(fields)))
    store.append(store.acquire("s", "an older version", 0.0), [], snapshot=older)
    assert store.snapshot("s") == older
    assert run(one, store=store, sim="s").hash == run(one).hash


def test_an_ended_run_is_told_again_and_asks_nothing() -> None:
    store, server = MemoryStore(), Server()
    first = run(SPEC, store=store, sim="s", backends={"m": Server()})
    again = run(SPEC, store=store, sim="s", backends={"m": server})
    assert (again.hash, again.status, again.outcome) == (first.hash, "ended", first.outcome)
    assert server.asked == []


def test_another_owner_cannot_run_it_meanwhile() -> None:
    store, one = MemoryStore(), spec("conditional", "conditional")
    run(one, store=store, sim="s", ticks=1)
    lease = store.acquire("s", "somebody", 30.0)
    with pytest.raises(LeaseError, match="run by another process"):
        run(one, store=store, sim="s")
    store.release(lease)
    assert run(one, store=store, sim="s").status == "ended"


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


def test_a_run_that_fails_says_so_in_its_store_and_goes_on_once_it_is_mended() -> None:
    store, one = MemoryStore(), spec("conditional", "conditional")
    run(one, store=store, sim="s", ticks=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PublicGoods, "metrics", lambda self, state: {"share": 1 / state["nothing"]})
        with pytest.raises(KeyError):
            run(one, store=store, sim="s")
    record = store.find("s")
    assert record is not None
    assert (record.status, record.reason) == ("failed", "'nothing'")
    assert run(one, store=store, sim="s").hash == run(one).hash
