"""What every store must do. A test module gives a fixture `open_store`, and imports these tests by `*`.

`open_store(clock)` opens the same store again each time: what one handle wrote, another one reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from steerline.errors import LeaseError, SimulationError
from steerline.simulation.event import GENESIS, Event, EventDraft, seal
from steerline.simulation.store.base import Call, Control, Lease, Snapshot, Store, Summary

OpenStore = Callable[..., Store]

__all__ = [
    "test_a_call_at_the_same_place_is_replaced",
    "test_a_control_is_posted_once_and_gone_once_applied",
    "test_a_failed_append_leaves_nothing",
    "test_a_lease_that_runs_keeps_others_out",
    "test_a_lease_that_was_released_or_has_run_out_is_free",
    "test_a_name_belongs_to_one_fingerprint",
    "test_a_pause_ends_every_request_and_can_be_taken_back_before",
    "test_a_request_that_comes_meanwhile_is_not_lost",
    "test_a_simulation_that_waits_is_runnable_at_its_time_and_when_it_is_nudged",
    "test_a_stopped_experiment_stays_stopped_for_all",
    "test_calls_are_found_by_place_and_by_address",
    "test_events_can_be_narrowed",
    "test_events_come_back_as_they_were_written",
    "test_events_must_follow",
    "test_experiments_are_kept_once_and_come_newest_first",
    "test_hosted_simulations_come_in_pages_newest_first",
    "test_hostile_text_is_kept_as_it_is",
    "test_operations_are_kept_in_order",
    "test_simulations_do_not_mix",
    "test_snapshots_are_found_by_tick_and_can_be_dropped",
    "test_summaries_say_how_many_stand_and_their_last_numbers",
    "test_what_is_wanted_is_runnable_until_it_stands_still",
    "test_writes_of_an_owner_that_was_replaced_are_refused",
]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(open_store: OpenStore, sim: str = "s", clock: Clock | None = None) -> tuple[Store, Lease]:
    store = open_store(clock or Clock())
    store.create(sim, {"name": sim}, "f" * 64)
    return store, store.acquire(sim, "me", 30.0)


def chain(texts: Sequence[str], seq: int = 0, prev: str = GENESIS) -> list[Event]:
    drafts = [EventDraft("resolve", "env.changed", {"text": text, "n": [1, 0.5, None]}, "a", 1) for text in texts]
    return list(seal(drafts, 3, seq, prev, 12.5))


def call(tick: int, agent: str, index: int, text: str = "t") -> Call:
    return Call(tick, agent, index, f"address-{tick}-{agent}-{index}", {"messages": [text]}, {"text": text})


def test_events_come_back_as_they_were_written(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    events = chain(["x", "y", "z"])
    store.append(lease, events[:2])
    store.append(lease, events[2:])
    again = open_store(Clock())
    assert list(again.events("s")) == events
    assert list(again.events("s", after=2)) == events[2:]
    record = again.find("s")
    assert record is not None
    assert (record.seq, record.hash, record.spec) == (3, events[-1].hash, {"name": "s"})


def test_events_must_follow(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    events = chain(["x", "y", "z"])
    store.append(lease, events[:1])
    for wrong in (events[2:], events[:1], chain(["other"], 1, "0" * 64)):
        with pytest.raises(SimulationError, match="do not follow"):
            store.append(lease, wrong)
    assert list(store.events("s")) == events[:1]


def test_a_failed_append_leaves_nothing(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    events = chain(["x", "y"])
    with pytest.raises(SimulationError):
        store.append(lease, [events[0], events[0]], snapshot=Snapshot(1, 1, events[0].hash, b"w"), applied=["c"])
    assert list(store.events("s")) == []
    assert store.snapshot("s") is None


def test_a_name_belongs_to_one_fingerprint(open_store: OpenStore) -> None:
    store, _ = opened(open_store)
    assert store.create("s", {}, "f" * 64).spec == {"name": "s"}
    with pytest.raises(SimulationError, match="another simulation called s"):
        store.create("s", {}, "e" * 64)


def test_writes_of_an_owner_that_was_replaced_are_refused(open_store: OpenStore) -> None:
    clock = Clock()
    store, old = opened(open_store, clock=clock)
    clock.now += 31
    new = open_store(clock).acquire("s", "other", 30.0)
    assert new.token > old.token
    writes: list[Callable[[], object]] = [
        lambda: store.append(old, chain(["x"])),
        lambda: store.put_calls(old, [call(0, "a", 0)]),
        lambda: store.set_status(old, "paused", ""),
        lambda: store.renew(old, 30.0),
    ]
    for write in writes:
        with pytest.raises(LeaseError, match="taken over"):
            write()
    store.release(old)
    store.append(new, chain(["y"]))
    assert [event.payload["text"] for event in store.events("s")] == ["y"]
    assert list(store.calls("s")) == []


def test_a_lease_that_runs_keeps_others_out(open_store: OpenStore) -> None:
    clock = Clock()
    store, lease = opened(open_store, clock=clock)
    clock.now += 29
    with pytest.raises(LeaseError, match="run by another process"):
        store.acquire("s", "other", 30.0)
    store.renew(lease, 30.0)
    clock.now += 29
    with pytest.raises(LeaseError):
        store.acquire("s", "other", 30.0)
    assert store.acquire("s", "other", 30.0, steal=True).token > lease.token


def test_a_lease_that_was_released_or_has_run_out_is_free(open_store: OpenStore) -> None:
    clock = Clock()
    store, lease = opened(open_store, clock=clock)
    store.release(lease)
    second = store.acquire("s", "other", 30.0)
    clock.now += 31
    assert store.acquire("s", "third", 30.0).token > second.token


def test_calls_are_found_by_place_and_by_address(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    calls = [call(1, "b", 0), call(0, "a", 1), call(0, "a", 0), call(10, "a", 0)]
    store.put_calls(lease, calls)
    again = open_store(Clock())
    assert [(c.tick, c.agent, c.index) for c in again.calls("s")] == [
        (0, "a", 0),
        (0, "a", 1),
        (1, "b", 0),
        (10, "a", 0),
    ]
    assert [c.tick for c in again.calls("s", first_tick=1)] == [1, 10]
    assert again.call_at("address-1-b-0") == calls[0]
    assert again.call_at("nowhere") is None


def test_a_call_at_the_same_place_is_replaced(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    store.put_calls(lease, [call(0, "a", 0, "old")])
    store.put_calls(lease, [call(0, "a", 0, "new")])
    assert [c.result["text"] for c in store.calls("s")] == ["new"]


def test_snapshots_are_found_by_tick_and_can_be_dropped(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    events = chain(["x", "y"])
    first, second = Snapshot(1, 1, events[0].hash, b"\x00one"), Snapshot(2, 2, events[1].hash, b"two")
    store.append(lease, events[:1], snapshot=first)
    store.append(lease, events[1:], snapshot=second)
    assert store.snapshot("s") == second
    assert store.snapshot("s", most=1) == first
    assert store.snapshot("s", most=0) is None
    store.drop_snapshots("s")
    assert store.snapshot("s") is None


def test_a_control_is_posted_once_and_gone_once_applied(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    first, second = Control("1", "message", {"text": "hi"}), Control("2", "answer", {"text": "no"})
    assert store.post("s", first)
    assert store.post("s", second)
    assert not open_store(Clock()).post("s", Control("1", "message", {"text": "other"}))
    assert list(store.controls("s")) == [first, second]
    store.append(lease, [], applied=["1"])
    assert list(store.controls("s")) == [second]
    assert not store.post("s", first)


def test_operations_are_kept_in_order(open_store: OpenStore) -> None:
    store, _ = opened(open_store)
    store.operate("s", "paused", {"why": "budget"})
    store.operate("s", "resumed", {})
    kept = open_store(Clock()).operations("s")
    assert [(o.time, o.kind, o.payload) for o in kept] == [
        (1000.0, "paused", {"why": "budget"}),
        (1000.0, "resumed", {}),
    ]


def test_simulations_do_not_mix(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    _, other = opened(open_store, "t")
    store.append(lease, chain(["x"]))
    store.append(other, chain(["y", "z"]))
    store.put_calls(other, [call(0, "a", 0)])
    store.post("t", Control("1", "pause", {}))
    assert len(list(store.events("s"))) == 1
    assert list(store.calls("s")) == []
    assert list(store.controls("s")) == []
    assert [record.sim for record in store.list()] == ["s", "t"]


def test_hostile_text_is_kept_as_it_is(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    text = "'; DROP TABLE events; -- \u0000 \ud800 \u202e ? %s \U0001f600"
    store.put_calls(lease, [call(0, "a", 0, text)])
    store.append(lease, chain([text]))
    again = open_store(Clock())
    assert next(iter(again.calls("s"))).result["text"] == text
    assert next(iter(again.events("s"))).payload["text"] == text


def test_events_can_be_narrowed(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    drafts = [EventDraft("decide", "action.taken", {}, agent) for agent in "abab"]
    drafts[1] = EventDraft("decide", "action.invalid", {}, "b")
    store.append(lease, list(seal(drafts, 7, 0, GENESIS, 0.0)))
    again = open_store(Clock())
    assert [e.seq for e in again.events("s", 1, 2)] == [2, 3]
    assert [e.seq for e in again.events("s", kinds=("action.taken",))] == [1, 3, 4]
    assert [e.seq for e in again.events("s", 1, 1, kinds=("action.taken", "action.invalid"), agent="b")] == [2]


def test_what_is_wanted_is_runnable_until_it_stands_still(open_store: OpenStore) -> None:
    clock = Clock()
    store = open_store(clock)
    for sim in ("first", "second", "never"):
        store.create(sim, {"name": sim}, "f" * 64)
    store.enlist("never")
    store.want("second")
    clock.now += 1
    store.want("first", 3)
    other = open_store(clock)
    assert list(other.runnable(10)) == ["second", "first"]
    assert list(other.runnable(1)) == ["second"]
    lease = store.acquire("first", "me", 30.0)
    assert list(other.runnable(10)) == ["second"]
    clock.now += 31
    assert list(other.runnable(10)) == ["second", "first"]
    hosted = store.hosted("first")
    assert hosted is not None
    assert (hosted.number, hosted.until, hosted.ticks, hosted.record.sim) == (1, 3, 0, "first")
    assert store.stand_still(lease, "paused", "enough", served=hosted.number)
    store.release(lease)
    assert list(other.runnable(10)) == ["second"]
    assert (other.find("first").status, other.find("first").reason) == ("paused", "enough")  # type: ignore[union-attr]
    assert store.hosted("nobody") is None


def test_a_request_that_comes_meanwhile_is_not_lost(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    store.want("s")
    open_store(Clock()).want("s", 5)
    assert store.stand_still(lease, "paused", "the first request was served", served=1)
    store.release(lease)
    assert list(store.runnable(1)) == ["s"]
    assert store.hosted("s").until == 5  # type: ignore[union-attr]


def test_a_pause_ends_every_request_and_can_be_taken_back_before(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    store.want("s")
    store.post("s", Control("p", "pause", {}))
    store.want("s")
    assert list(store.controls("s")) == []
    assert not store.stand_still(lease, "paused", "", served=1, pause="p")
    assert store.find("s").status == "created"  # type: ignore[union-attr]
    store.post("s", Control("q", "pause", {}))
    store.nudge("s")
    assert store.stand_still(lease, "paused", "", served=1, pause="q")
    store.release(lease)
    assert list(store.runnable(1)) == []
    assert list(store.controls("s")) == []


def test_a_simulation_that_waits_is_runnable_at_its_time_and_when_it_is_nudged(open_store: OpenStore) -> None:
    clock = Clock()
    store, lease = opened(open_store, clock=clock)
    store.nudge("s")
    assert store.hosted("s") is None
    store.want("s")
    store.stand_still(lease, "waiting", "", served=1, again_at=clock.now + 60)
    store.release(lease)
    assert list(store.runnable(1)) == []
    clock.now += 60
    assert list(store.runnable(1)) == ["s"]
    lease = store.acquire("s", "me", 30.0)
    store.stand_still(lease, "waiting", "", served=1)
    store.release(lease)
    assert list(store.runnable(1)) == []
    store.nudge("s")
    assert list(store.runnable(1)) == ["s"]
    lease = store.acquire("s", "me", 30.0)
    store.set_status(lease, "ended", "")
    store.release(lease)
    assert (list(store.runnable(1)), list(store.runnable(1, ended=True))) == ([], ["s"])
    lease = store.acquire("s", "me", 30.0)
    store.postpone(lease, None)
    store.release(lease)
    store.nudge("s")
    assert (list(store.runnable(1)), list(store.runnable(1, ended=True))) == ([], [])


def test_hosted_simulations_come_in_pages_newest_first(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    for sim in ("a", "b", "c"):
        store.create(sim, {"name": sim}, "f" * 64)
        store.enlist(sim)
    store.enlist("s")
    store.set_status(lease, "ended", "")
    first = store.hosted_page(2)
    assert [one.record.sim for one in first] == ["s", "c"]
    assert [one.record.sim for one in store.hosted_page(5, first[-1].place)] == ["b", "a"]
    assert [one.record.sim for one in store.hosted_page(5, statuses=("ended", "stopped"))] == ["s"]


def test_summaries_say_how_many_stand_and_their_last_numbers(open_store: OpenStore) -> None:
    store, lease = opened(open_store)
    store.create("b", {"name": "b"}, "f" * 64)
    store.create("nobody's", {}, "f" * 64)
    store.enlist("s")
    store.want("b")
    drafts = [EventDraft("metrics", "metric.recorded", {"values": {"share": share}}) for share in (0.5, 0.25)]
    store.append(lease, list(seal([*drafts, EventDraft("commit", "tick.committed", {})], 0, 0, GENESIS, 0.0)))
    store.set_status(lease, "ended", "")
    found = {one.sim: one for one in open_store(Clock()).summaries(["s", "b", "nobody's", "unheard of"])}
    assert found == {"s": Summary("s", "ended", None, {"share": 0.25}), "b": Summary("b", "created", 1000.0, None)}
    assert list(store.summaries([])) == []


def test_experiments_are_kept_once_and_come_newest_first(open_store: OpenStore) -> None:
    store, _ = opened(open_store)
    assert store.put_experiment("e", {"n": 1}) == {"n": 1}
    assert open_store(Clock()).put_experiment("e", {"n": 2}) == {"n": 1}
    store.put_experiment("f", {"n": 3})
    assert store.experiment("f") == {"n": 3}
    assert store.experiment("g") is None
    page = store.experiments(1)
    assert [content for _, content in page] == [{"n": 3}]
    assert [content for _, content in store.experiments(5, page[0][0])] == [{"n": 1}]


def test_a_stopped_experiment_stays_stopped_for_all(open_store: OpenStore) -> None:
    store = open_store(Clock())
    store.put_experiment("e", {"n": 1})
    store.put_experiment("f", {"n": 2})
    for _ in range(2):
        store.stop_experiment("e")
    assert [open_store(Clock()).is_stopped(name) for name in "ef"] == [True, False]
    assert store.experiment("e") == {"n": 1}
