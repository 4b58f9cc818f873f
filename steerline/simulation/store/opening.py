"""The store that an address names."""

from __future__ import annotations

from pathlib import Path

from steerline.errors import SimulationError
from steerline.home import home
from steerline.simulation.store.base import Store
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.store.sqlite import BUSY_S, SqliteStore

MEMORY = "memory"
DEFAULT_FILE = "simulations.db"


def open_store(address: str | None = None, *, sync: bool = True, busy_s: float = BUSY_S) -> Store:
    """Open a store.

    Args:
        address: `memory`, a file, or `postgresql://user@host/database`; none takes `simulations.db` in the Steerline
            home.
        sync: whether a committed tick survives a power cut; a PostgreSQL server decides that itself.
        busy_s: seconds that a call waits for a file that another process holds; a PostgreSQL server holds up nobody.

    Raises:
        SimulationError: it cannot be opened, or the address is of another kind.
    """
    if address == MEMORY:
        return MemoryStore()
    if address is not None and "://" in address:
        if not address.startswith(("postgresql://", "postgres://")):
            raise SimulationError(
                "there is no store of this kind",
                got=address.partition("://")[0],
                expected="memory, a file, or postgresql://user@host/database",
            )
        from steerline.simulation.store.postgres import PostgresStore

        return PostgresStore(address)
    return SqliteStore(Path(address) if address is not None else home() / DEFAULT_FILE, sync=sync, busy_s=busy_s)
