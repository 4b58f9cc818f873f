"""What agents say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Paradigm = Literal["cooperate", "debate", "compete"]


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Words."""

    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class DataBlock:
    """Plain data, e.g. an opinion as a number."""

    data: Any
    kind: Literal["data"] = "data"


ContentBlock = TextBlock | DataBlock


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that a scenario wants sent. The engine routes it, lets interceptors at it, and gives it an id."""

    sender: str
    """An agent, or `environment`, which everybody hears."""
    text: str
    data: Any = None
    """Plain data that goes along."""
    recipients: tuple[str, ...] | None = None
    """Those it is meant for; none is all that the topology lets hear the sender. The topology holds in either case."""
    channel: str = ""
    """Topic, for a shared pool."""
    paradigm: Paradigm = "cooperate"


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way, or delivered."""

    id: str
    tick: int
    """Tick in which it was sent."""
    sender: str
    recipients: tuple[str, ...]
    blocks: tuple[ContentBlock, ...]
    channel: str = ""
    paradigm: Paradigm = "cooperate"
    caused_by: tuple[str, ...] = ()
    """Ids of the messages that the sender had just read."""

    @property
    def text(self) -> str:
        """Its words."""
        return "\n".join(block.text for block in self.blocks if isinstance(block, TextBlock))

    @property
    def data(self) -> Any:
        """Its data; none where it brings none."""
        # A loop, for among many agents everybody reads everybody's.
        for block in self.blocks:
            if isinstance(block, DataBlock):
                return block.data
        return None

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        # Written out, for `asdict` copies deeply and every message passes here.
        return {
            "id": self.id,
            "tick": self.tick,
            "sender": self.sender,
            "recipients": list(self.recipients),
            "blocks": [
                {"kind": "text", "text": block.text}
                if isinstance(block, TextBlock)
                else {"kind": "data", "data": block.data}
                for block in self.blocks
            ],
            "channel": self.channel,
            "paradigm": self.paradigm,
            "caused_by": list(self.caused_by),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Message:
        """From what `to_json` gave, also after a way through JSON."""
        blocks = tuple(TextBlock(b["text"]) if b["kind"] == "text" else DataBlock(b["data"]) for b in fields["blocks"])
        lists = {name: tuple(fields[name]) for name in ("recipients", "caused_by")}
        return cls(**{**fields, **lists, "blocks": blocks})
