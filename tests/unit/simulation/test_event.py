"""The chain of events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from steerline.simulation.event import GENESIS, Event, EventDraft, first_fault, seal


def chain(wall_time: float = 1.0) -> list[Event]:
    drafts = [EventDraft("resolve", "env.changed", {"n": n}) for n in range(4)]
    return list(seal(drafts, 0, 0, GENESIS, wall_time))


def test_a_chain_as_it_was_written_has_no_fault() -> None:
    assert first_fault(chain()) is None


def test_wall_time_is_not_part_of_the_hash() -> None:
    assert chain(1.0)[-1].hash == chain(2.0)[-1].hash


@pytest.mark.parametrize("changed", [{"payload": {"n": 9}}, {"tick": 5}, {"agent": "a"}, {"kind": "msg.sent"}])
def test_an_altered_event_is_found_where_it_stands(changed: dict[str, object]) -> None:
    events = chain()
    events[2] = replace(events[2], **changed)  # type: ignore[arg-type]
    assert "event 3" in str(first_fault(events))
    assert "altered" in str(first_fault(events))


def test_a_missing_event_is_found() -> None:
    events = chain()
    assert "event 2 is missing" in str(first_fault([events[0], *events[2:]]))


def test_an_event_that_was_altered_with_its_hash_breaks_the_chain_at_the_next() -> None:
    events = chain()
    (events[1],) = seal([EventDraft("resolve", "env.changed", {"n": 9})], 0, 1, events[0].hash, 1.0)
    assert "event 3 does not follow" in str(first_fault(events))
