"""Who told whom, and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from steerline.simulation.event import Event, EventKind

TALK: tuple[EventKind, ...] = ("msg.sent", "msg.delivered")
"""The events that it takes."""


def heard_by(events: Iterable[Event]) -> Counter[tuple[str, str]]:
    """(sender, receiver) to messages delivered.

    Args:
        events: of a run from its beginning; kinds other than `TALK` do not matter.
    """
    senders: dict[str, str] = {}
    heard: Counter[tuple[str, str]] = Counter()
    for event in events:
        if event.kind == "msg.sent":
            senders[event.payload["id"]] = str(event.payload["sender"])
        elif event.kind == "msg.delivered":
            heard.update((senders[event.payload["id"]], str(to)) for to in event.payload["recipients"])
    return heard
