"""What an agent may do, and what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

ParseStatus = Literal["ok", "repaired", "defaulted"]
"""Read as asked for; read with a guess, or the default in its place. The last two carry a reason and are counted."""


@dataclass(frozen=True, slots=True)
class FreeText:
    """Any text."""

    max_chars: int = 4000
    default: str = ""

    def instruction(self) -> str:
        """How a prompt asks for it."""
        return "Answer in plain text."


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the options."""

    options: tuple[str, ...]
    default: str

    def instruction(self) -> str:
        """How a prompt asks for it."""
        return "End with a line `ANSWER: x`, where x is one of: " + ", ".join(self.options) + "."


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int
    default: int

    def instruction(self) -> str:
        """How a prompt asks for it."""
        return f"End with a line `ANSWER: x`, where x is a whole number from {self.low} to {self.high}."


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `low` to `high`, both included."""

    low: float
    high: float
    default: float

    def instruction(self) -> str:
        """How a prompt asks for it."""
        return f"End with a line `ANSWER: x`, where x is a number from {self.low:g} to {self.high:g}."


@dataclass(frozen=True, slots=True)
class Structured:
    """A JSON object that fits a JSON schema."""

    schema: dict[str, Any]
    default: dict[str, Any]

    def instruction(self) -> str:
        """How a prompt asks for it."""
        fields = ", ".join(f'"{name}"' for name in self.schema.get("properties", {}))
        return f"Answer with one JSON object with the fields {fields} and nothing else."


ActionSpec = FreeText | Choice | Integer | Number | Structured
"""What an agent may do at a turn. `default` is taken when nothing can be read, and that is recorded."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a text was read as."""

    payload: Any
    """Plain data of the kind that was asked for."""
    status: ParseStatus = "ok"
    reason: str = ""
    """Why it was repaired or defaulted."""


@dataclass(frozen=True, slots=True)
class Action:
    """What an agent did at a turn."""

    agent: str
    tick: int
    payload: Any
    raw_text: str
    parse: ParseStatus = "ok"
    reason: str = ""
