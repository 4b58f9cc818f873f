"""What clients are told about a served model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that requests may name."""

    id: str
    """By which requests name it."""
    created: int
    """Unix time, in seconds."""
    owned_by: str = "steerline"
    about: str = ""
    """One line for people."""
    fingerprint: str | None = None
    """Which weights answer, where that is known: the beginning of their digest or of their commit."""
