"""An episode as a trace: a span for the whole, for each tick, and for each turn of an agent with its model call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steerline.simulation.event import Event
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.store.base import Call
from steerline.tracking.backend import Trace, TraceSpan

MOST_TURNS = 1000
"""Turns above which a sample of them gets spans."""

_TURNS = ("action.taken", "action.invalid")


def episode(name: str, result: Result, calls: Sequence[Call]) -> Trace:
    """The trace of a simulation.

    A tick lasts from the commit before it to its own. A turn begins with its tick and takes as long as its model calls
    took; a turn without calls takes no time that anybody measured.

    Args:
        name: the trace's.
        result: the simulation.
        calls: its journal.
    """
    own: dict[tuple[int, str], list[Call]] = {}
    for call in calls:
        own.setdefault((call.tick, call.agent), []).append(call)
    ticks: dict[int, list[Event]] = {}
    for event in result.events:
        ticks.setdefault(event.tick, []).append(event)
    shown = _sample(result)
    spans: list[TraceSpan] = []
    before = _ns(result.events[0].wall_time)
    first = before
    for tick, events in ticks.items():
        end = max(before, _ns(events[-1].wall_time))
        place = len(spans) + 1
        spans.append(TraceSpan(f"tick {tick}", "CHAIN", before, end, 0, outputs=_metrics(events)))
        for event in events:
            if event.seq in shown:
                assert event.agent is not None
                spans.append(_turn(event, own.get((tick, event.agent), []), before, end, place))
        before = end
    whole = TraceSpan(
        result.spec.scenario,
        "CHAIN",
        first,
        before,
        inputs={"params": result.spec.params, "seed": result.spec.seed},
        outputs=dict(result.outcome),
        attributes={"status": result.status, "reason": result.reason, "hash": result.hash, "turns shown": len(shown)},
    )
    return Trace(name, (whole, *spans), ok=result.status != "stopped")


def _turn(event: Event, calls: Sequence[Call], start: int, tick_end: int, parent: int) -> TraceSpan:
    said = event.payload
    seconds = sum(float(call.result["seconds"]) for call in calls)
    attributes: dict[str, Any] = {"tick": event.tick, "parse": said["parse"], "reason": said["reason"] or None}
    if calls:
        usage = [call.result["usage"] for call in calls]
        attributes |= {
            "gen_ai.usage.input_tokens": sum(one["prompt_tokens"] for one in usage),
            "gen_ai.usage.output_tokens": sum(one["completion_tokens"] for one in usage),
            "steering": calls[-1].request["steering"],
        }
    return TraceSpan(
        str(event.agent),
        "AGENT",
        start,
        min(tick_end, start + int(seconds * 1e9)),
        parent,
        inputs=calls[-1].request["messages"] if calls else None,
        outputs={"answer": said["payload"], "text": said["text"]},
        attributes=attributes,
    )


def _sample(result: Result) -> frozenset[int]:
    """Numbers of the turns that get spans: all of them, or `MOST_TURNS` drawn by their places."""
    turns = [event.seq for event in result.events if event.kind in _TURNS and event.agent is not None]
    if len(turns) <= MOST_TURNS:
        return frozenset(turns)
    rng = CounterRng(result.spec.seed)
    return frozenset(sorted(turns, key=lambda seq: rng.uniform("trace", str(seq)))[:MOST_TURNS])


def _metrics(events: Sequence[Event]) -> Mapping[str, float] | None:
    return next((event.payload["values"] for event in events if event.kind == "metric.recorded"), None)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
