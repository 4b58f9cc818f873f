"""What stands between a message and its delivery. Each interceptor sees what those before it left."""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

from steerline.config.simulation_topology import (
    DelayInterceptor,
    DropInterceptor,
    EditInterceptor,
    FaultInterceptor,
    InterceptorSpec,
    MessageMatch,
    ModerateInterceptor,
    RateLimitInterceptor,
)
from steerline.simulation.message import Message, TextBlock
from steerline.simulation.rng import CounterRng


@dataclass
class Parcel:
    """A message on its way, with a copy for each agent that is to receive it."""

    message: Message
    copies: dict[str, Message]
    due: dict[str, int]
    """First tick in which each copy may arrive."""


@dataclass(frozen=True)
class Notice:
    """What an interceptor did, for the log."""

    blocked: bool
    payload: dict[str, Any]


def intercept(
    spec: InterceptorSpec,
    place: int,
    parcel: Parcel,
    counters: MutableMapping[str, int],
    rng: CounterRng,
    tick: int,
    max_text: int,
) -> Iterator[Notice]:
    """Let an interceptor at a parcel, which it changes.

    Args:
        spec: the interceptor.
        place: its place in the chain.
        parcel: the message.
        counters: what interceptors count over the run.
        rng: draws of the tick.
        tick: now.
        max_text: longest text that one leaves, in characters; what is beyond is cut.
    """
    caught = [to for to, copy in parcel.copies.items() if _matches(spec.match, copy, to)]
    if not caught:
        return
    rng, sender = rng.within(f"interceptor{place}"), parcel.message.sender
    match spec:
        case DropInterceptor():
            lost = [to for to in caught if rng.uniform(parcel.message.id, to) < spec.probability]
            yield from _block(parcel, lost, "drop", "lost on its way")
        case RateLimitInterceptor():
            sent = _count(counters, f"rate/{place}/{tick}/{sender}")
            if sent > spec.per_tick:
                yield from _block(parcel, caught, "rate_limit", f"message {sent} of {spec.per_tick} in this tick")
        case ModerateInterceptor():
            yield from _moderate(spec, place, parcel, caught, counters)
        case EditInterceptor():
            for recipient in caught:
                text = parcel.copies[recipient].text
                # One that multiplies a text must not have the next one multiply that.
                edited = re.sub(spec.pattern, spec.replacement, text)[:max_text]
                yield from _change(parcel, recipient, edited, "edit")
        case FaultInterceptor():
            for recipient in caught:
                draws = rng.within(f"{parcel.message.id}/{recipient}")
                if draws.uniform("fault") < spec.probability:
                    yield from _change(parcel, recipient, _falsified(parcel.copies[recipient].text, draws), "fault")
        case DelayInterceptor():
            parcel.due |= {recipient: parcel.due[recipient] + spec.ticks for recipient in caught}
            yield Notice(False, {"recipients": caught, "by": "delay", "ticks": spec.ticks})


def _matches(match: MessageMatch, message: Message, recipient: str) -> bool:
    return (
        (match.senders is None or message.sender in match.senders)
        and (match.recipients is None or recipient in match.recipients)
        and (match.ticks is None or message.tick in match.ticks)
        and (match.pattern is None or re.search(match.pattern, message.text) is not None)
    )


def _moderate(
    spec: ModerateInterceptor, place: int, parcel: Parcel, caught: list[str], counters: MutableMapping[str, int]
) -> Iterator[Notice]:
    key = f"offences/{place}/{parcel.message.sender}"
    if spec.mute_after is not None and counters.get(key, 0) >= spec.mute_after:
        yield from _block(parcel, caught, "moderate", "the sender is muted")
        return
    words = "|".join(re.escape(word) for word in spec.forbidden)
    bad = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
    found = {to: word[0] for to in caught if (word := bad.search(parcel.copies[to].text)) is not None}
    if found:
        _count(counters, key)
    for forbidden in dict.fromkeys(found.values()):
        offended = [to for to, said in found.items() if said == forbidden]
        yield from _block(parcel, offended, "moderate", f"forbidden: {forbidden}")


def _block(parcel: Parcel, recipients: list[str], by: str, why: str) -> Iterator[Notice]:
    for recipient in recipients:
        del parcel.copies[recipient]
    if recipients:
        yield Notice(True, {"recipients": recipients, "by": by, "why": why})


def _change(parcel: Parcel, recipient: str, text: str, by: str) -> Iterator[Notice]:
    copy = parcel.copies[recipient]
    if text == copy.text:
        return
    rest = tuple(block for block in copy.blocks if not isinstance(block, TextBlock))
    parcel.copies[recipient] = replace(copy, blocks=(TextBlock(text), *rest))
    yield Notice(False, {"recipients": [recipient], "by": by, "text": text})


def _falsified(text: str, rng: CounterRng) -> str:
    """The text with one digit changed; as it is where it has none."""
    digits = [place for place, sign in enumerate(text) if sign in "0123456789"]
    if not digits:
        return text
    place = rng.choice(digits, "digit")
    wrong = (int(text[place]) + rng.integer(1, 9, "by")) % 10
    return f"{text[:place]}{wrong}{text[place + 1 :]}"


def _count(counters: MutableMapping[str, int], key: str) -> int:
    counters[key] = counters.get(key, 0) + 1
    return counters[key]
