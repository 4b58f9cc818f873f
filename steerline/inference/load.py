"""How much a model that answers in this process has on its hands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """Rows and pages of keys and values, at one moment."""

    running: int
    """Rows that passes compute."""
    waiting: int
    """Rows that have no place yet."""
    pages_used: int
    """Pages that running rows hold."""
    pages_kept: int
    """Pages of beginnings alone, kept for prompts that begin alike; they make room when others need it."""
    pages_free: int
    """Pages that nobody holds."""


class HasLoad(ABC):
    """A backend that knows its load. One whose model is on another server does not."""

    @property
    @abstractmethod
    def current_load(self) -> Load:
        """As it is now."""
