"""The paths that talk took through a run, from agents that had heard nothing to those whose answers came last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steerline.simulation.efficiency.measures import TURNS
from steerline.simulation.event import Event
from steerline.simulation.mail import ENVIRONMENT
from steerline.simulation.rng import CounterRng


@dataclass(frozen=True)
class Step:
    """A message of a path: who told whom, and in which tick."""

    tick: int
    sender: str
    recipient: str


Path = tuple[Step, ...]


@dataclass(frozen=True)
class _Message:
    tick: int
    sender: str
    caused_by: tuple[str, ...]


class Paths:
    """All paths of a run. A path is a chain of messages, each sent by somebody who had just read the one before; the
    first one's sender had read nothing, and the last one was read for somebody's last turn.

    Args:
        events: the log of the run.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._sent: dict[str, _Message] = {}
        self._ways: dict[str, int] = {}  # by message, the ways that lead to it
        read: dict[str, list[str]] = {}  # by agent, what it has been told since its last turn
        last: dict[str, list[str]] = {}  # by agent, what it had been told at its last turn
        for event in events:
            match event.kind:
                case "msg.sent" if event.payload["sender"] != ENVIRONMENT:
                    payload = event.payload
                    causes = tuple(cause for cause in payload["caused_by"] if cause in self._sent)
                    self._sent[payload["id"]] = _Message(payload["tick"], payload["sender"], causes)
                    self._ways[payload["id"]] = sum(self._ways[cause] for cause in causes) or 1
                case "msg.delivered" if event.payload["id"] in self._sent:
                    for agent in event.payload["recipients"]:
                        read.setdefault(agent, []).append(event.payload["id"])
                case kind if kind in TURNS:
                    last[str(event.agent)] = read.pop(str(event.agent), [])
        self._ends = [(message, agent) for agent in sorted(last) for message in last[agent]]

    def __len__(self) -> int:
        return sum(self._ways[message] for message, _ in self._ends)

    def __getitem__(self, number: int) -> Path:
        """A path by its number. There may be more of them than could be listed, so each is found by counting."""
        for message, agent in self._ends:
            if number < self._ways[message]:
                return self._leading_to(message, agent, number)
            number -= self._ways[message]
        raise IndexError(number)

    def some(self, most: int, rng: CounterRng) -> list[Path]:
        """All paths, or so many of them, drawn at random."""
        if len(self) <= most:
            return [self[number] for number in range(len(self))]
        numbers: dict[int, None] = {}
        draw = 0
        while len(numbers) < most:
            numbers[rng.integer(0, len(self) - 1, "path", draw=draw)] = None
            draw += 1
        return [self[number] for number in sorted(numbers)]

    def _leading_to(self, name: str, recipient: str, number: int) -> Path:
        steps: list[Step] = []
        while True:
            message = self._sent[name]
            steps.append(Step(message.tick, message.sender, recipient))
            if not message.caused_by:
                return tuple(reversed(steps))
            recipient = message.sender
            for cause in message.caused_by:
                if number < self._ways[cause]:
                    name = cause
                    break
                number -= self._ways[cause]
