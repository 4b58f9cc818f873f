"""What an agent sees at its turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steerline.simulation.action import ActionSpec
from steerline.simulation.message import Message


@dataclass(frozen=True, slots=True)
class Observation:
    """What an agent sees at its turn. The scenario fills the first part, the engine the second."""

    legal: ActionSpec
    """What it may do."""
    text: str
    """What it sees of the world, in words."""
    private: str = ""
    """What it alone knows, in words (a hidden role, a signal)."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The same as plain data, for scripted policies. It must say no more than the texts do."""

    agent: str = ""
    """Who sees it."""
    tick: int = 0
    messages: tuple[Message, ...] = ()
    """What it was told since its last turn, in order of sending."""
    memory: str = ""
    """What it remembers, in words."""
    round: int = 0
    """Number of the sub-round inside the tick."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked."""

    system: str
    """The part that stays the same from turn to turn, so that a server can keep it."""
    user: str
    """The part of this turn."""
