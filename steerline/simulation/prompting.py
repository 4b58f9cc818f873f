"""How a prompt is put together: what stays the same comes first, what others said is marked as theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from steerline.config.simulation_agents import Profile
from steerline.simulation.message import Message
from steerline.simulation.observation import Observation, Prompt
from steerline.simulation.text import quoted


def compose(rules: str, observation: Observation, profile: Profile) -> Prompt:
    """A prompt from a scenario's rules, who the agent is, and what it sees at its turn."""
    system = "\n\n".join(part for part in (rules, describe(profile)) if part)
    return Prompt(system, "\n\n".join(_parts(observation)))


def describe(profile: Profile) -> str:
    """A profile in words."""
    lines = [f"You are {profile.role}." if profile.role else ""]
    for name in ("traits", "goals", "skills", "constraints"):
        items: Sequence[str] = getattr(profile, name)
        if items:
            lines.append(f"Your {name}: {'; '.join(items)}.")
    return "\n".join(line for line in lines if line)


def conversation(messages: Sequence[Message]) -> str:
    """Messages in words, each line of them marked as somebody else's."""
    return "\n".join(f"{message.sender} said:\n{quoted(message.text)}" for message in messages)


def _parts(observation: Observation) -> Iterator[str]:
    if observation.memory:
        yield f"What you remember:\n{observation.memory}"
    if observation.messages:
        yield conversation(observation.messages)
    if observation.text:
        yield observation.text
    if observation.private:
        yield f"Only you know: {observation.private}"
    yield observation.legal.instruction()
