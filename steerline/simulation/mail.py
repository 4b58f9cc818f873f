"""Messages from sending to delivery: who can hear them, what interceptors do to them, when they arrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steerline.simulation.event import EventKind
from steerline.simulation.interceptors import Parcel, intercept
from steerline.simulation.message import DataBlock, Draft, Message, TextBlock
from steerline.simulation.scene import Scene
from steerline.simulation.world import Flight

ENVIRONMENT = "environment"
"""The sender whom everybody hears."""


def deliver(scene: Scene) -> None:
    """Put what is due by now into the inboxes of the living."""
    world = scene.world
    fresh: dict[str, list[Message]] = {}
    on_their_way: list[Flight] = []
    for flight in world.flights:
        arrived = [to for to in flight.copies if flight.due[to] <= scene.tick]
        reached = [to for to in arrived if to in world.agents]
        for to in reached:
            fresh.setdefault(to, []).append(flight.copies[to])
        if reached:
            scene.log("deliver", "msg.delivered", {"id": flight.id, "recipients": reached}, cause=flight.sent)
        if len(arrived) < len(flight.copies):
            on_their_way.append(flight.without(arrived))
    world.flights = tuple(on_their_way)
    for to, messages in fresh.items():
        world.inbox[to] = (*world.inbox.get(to, ()), *messages)


def send(scene: Scene, drafts: Sequence[Draft], read: Mapping[str, tuple[str, ...]]) -> None:
    """Route what was said.

    Args:
        scene: the tick.
        drafts: what was said, in order.
        read: by agent, the ids of the messages it had just read.
    """
    flights: list[Flight] = []
    for number, draft in enumerate(drafts):
        routes = _routes(scene, draft)
        message = _message(scene, draft, f"{scene.tick}.{scene.round}.{number}", tuple(routes), read)
        cause = scene.causes.get(draft.sender)
        sent = scene.log("route", "msg.sent", message.to_json(), draft.sender, cause)
        due = {recipient: scene.tick + delay for recipient, delay in routes.items()}
        parcel = Parcel(message, dict.fromkeys(routes, message), due)
        if draft.sender != ENVIRONMENT:
            _pass_interceptors(scene, parcel, sent)
        if parcel.copies:
            flights.append(Flight(message.id, sent, parcel.copies, parcel.due))
    scene.world.flights += tuple(flights)


def _pass_interceptors(scene: Scene, parcel: Parcel, sent: int) -> None:
    for place, spec in enumerate(scene.game.spec.interceptors):
        world, max_text = scene.world, scene.game.spec.max_text
        for notice in intercept(spec, place, parcel, world.counters, scene.rng, scene.tick, max_text):
            kind: EventKind = "msg.blocked" if notice.blocked else "msg.changed"
            payload = {"id": parcel.message.id, **notice.payload}
            scene.log("route", kind, payload, parcel.message.sender, sent)


def _message(
    scene: Scene, draft: Draft, name: str, recipients: tuple[str, ...], read: Mapping[str, tuple[str, ...]]
) -> Message:
    text = scene.cleaned("route", draft.sender, draft.text)
    blocks = (TextBlock(text), *(() if draft.data is None else (DataBlock(draft.data),)))
    return Message(
        id=name,
        tick=scene.tick,
        sender=draft.sender,
        recipients=recipients,
        blocks=blocks,
        channel=draft.channel,
        paradigm=draft.paradigm,
        caused_by=read.get(draft.sender, ()),
    )


def _routes(scene: Scene, draft: Draft) -> dict[str, int]:
    """Those who receive a message, with the ticks that it takes to each."""
    world = scene.world
    if draft.sender == ENVIRONMENT:
        routes: Mapping[str, int] = dict.fromkeys(world.agents, 0)
    else:
        routes = scene.game.topology.routes(world.topology, draft)
    meant = None if draft.recipients is None else set(draft.recipients)
    return {to: delay for to, delay in routes.items() if to in world.agents and (meant is None or to in meant)}
