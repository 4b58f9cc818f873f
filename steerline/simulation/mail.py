"""Messages from sending to delivery: who can hear them, what interceptors do to them, when they arrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from steerline.simulation.event import EventKind, Phase
from steerline.simulation.game import Game
from steerline.simulation.message import DataBlock, Draft, Message, TextBlock
from steerline.simulation.text import clean
from steerline.simulation.world import Flight, World

ENVIRONMENT = "environment"
"""The sender whom everybody hears."""


class Log(Protocol):
    """Takes down an event."""

    def __call__(self, phase: Phase, kind: EventKind, payload: dict[str, Any], agent: str | None = None) -> None: ...


class Mail:
    """The post of one tick; it changes the world it was given.

    Args:
        game: the rules.
        world: the world that the tick is making.
        log: takes down what happens.
    """

    def __init__(self, game: Game, world: World, log: Log) -> None:
        self._game = game
        self._world = world
        self._log = log
        self._sent = 0

    def deliver(self, tick: int) -> None:
        """Put what is due by this tick into the inboxes of the living."""
        world = self._world
        due = [flight for flight in world.flights if flight.due <= tick]
        if not due:
            return
        world.flights = tuple(flight for flight in world.flights if flight.due > tick)
        reached: dict[str, list[str]] = {}
        for flight in due:
            if flight.recipient in world.agents:
                world.inbox[flight.recipient] = (*world.inbox.get(flight.recipient, ()), flight.message)
                reached.setdefault(flight.message.id, []).append(flight.recipient)
        for message, recipients in reached.items():
            self._log("deliver", "msg.delivered", {"id": message, "recipients": recipients})

    def send(self, drafts: Sequence[Draft], tick: int, round_: int, read: Mapping[str, tuple[str, ...]]) -> None:
        """Route what was said in a round.

        Args:
            drafts: what was said, in order.
            tick: number of the tick.
            round_: number of the sub-round.
            read: by agent, the ids of the messages it had just read.
        """
        for draft in drafts:
            message = self._message(draft, tick, round_, read.get(draft.sender, ()))
            self._log("route", "msg.sent", message.to_json(), draft.sender)
            for recipient in message.recipients:
                self._world.flights += (Flight(tick, recipient, message),)

    def _message(self, draft: Draft, tick: int, round_: int, caused_by: tuple[str, ...]) -> Message:
        self._sent += 1
        text = clean(draft.text, self._game.spec.max_text).text
        blocks = (TextBlock(text), *(() if draft.data is None else (DataBlock(draft.data),)))
        return Message(
            id=f"{tick}.{round_}.{self._sent}",
            tick=tick,
            sender=draft.sender,
            recipients=tuple(self._hearers(draft)),
            blocks=blocks,
            channel=draft.channel,
            paradigm=draft.paradigm,
            caused_by=caused_by,
        )

    def _hearers(self, draft: Draft) -> list[str]:
        world = self._world
        if draft.sender == ENVIRONMENT:
            hearers: Sequence[str] = list(world.agents)
        else:
            hearers = self._game.topology.hearers(world.topology, draft)
        meant = None if draft.recipients is None else set(draft.recipients)
        return [agent for agent in hearers if agent in world.agents and (meant is None or agent in meant)]
