"""Which store an address names."""

from __future__ import annotations

from pathlib import Path

import pytest

from steerline.errors import SimulationError
from steerline.home import HOME_VARIABLE
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.store.opening import open_store
from steerline.simulation.store.sqlite import SqliteStore


def test_memory_is_in_memory() -> None:
    assert isinstance(open_store("memory"), MemoryStore)


def test_a_path_is_an_sqlite_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "s.db"), sync=False)
    assert isinstance(store, SqliteStore)
    assert (tmp_path / "s.db").is_file()
    store.close()


def test_no_address_is_a_file_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    open_store().close()
    assert (tmp_path / "simulations.db").is_file()


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(SimulationError, match="no store of this kind"):
        open_store("mysql://somewhere/db")
