"""The SQLite store does what a store must, and says what it cannot open."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steerline.errors import SimulationError, StoreAwayError
from steerline.simulation.store.base import Call, Store
from steerline.simulation.store.sqlite import SqliteStore
from tests.unit.simulation.store.conformance import *  # noqa: F403
from tests.unit.simulation.store.conformance import Clock, OpenStore
from tests.unit.simulation.store.engine import *  # noqa: F403


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    stores: list[SqliteStore] = []

    def opened(clock: Clock) -> Store:
        stores.append(SqliteStore(tmp_path / "folder" / "simulations.db", clock=clock))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def execute(tmp_path: Path) -> Callable[[str], None]:
    def run(statement: str) -> None:
        connection = sqlite3.connect(tmp_path / "folder" / "simulations.db")
        with connection:
            connection.execute(statement)
        connection.close()

    return run


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("these are notes and no database, " * 100)
    with pytest.raises(SimulationError, match="cannot be opened"):
        SqliteStore(path)


def test_a_file_that_another_process_holds_is_away_and_comes_back(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db", busy_s=0.01)
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreAwayError, match="does not answer"):
        store.create("s", {}, "f")
    other.execute("ROLLBACK")
    assert store.create("s", {}, "f").sim == "s"
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        store._query("SELECT * FROM missing")
    other.close()
    store.close()


def test_a_full_disk_keeps_nothing_of_a_transaction_and_is_away(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db", sync=False)
    store.create("s", {}, "f")
    lease = store.acquire("s", "me", 30.0)
    pages = store._query("PRAGMA page_count")[0][0]
    store._query(f"PRAGMA max_page_count = {pages + 1}")
    calls = [Call(0, "a", number, f"address-{number}", {}, {"text": "t" * 4000}) for number in range(50)]
    with pytest.raises(StoreAwayError, match="does not answer"):
        store.put_calls(lease, calls)
    assert list(store.calls("s")) == []
    store._query(f"PRAGMA max_page_count = {pages + 1000}")
    store.put_calls(lease, calls)
    assert len(list(store.calls("s"))) == 50
    store.close()


def test_calls_queue_no_longer_for_each_other_than_one_waits_for_the_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db", busy_s=0.01)
    holds, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store._transaction():
            holds.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    holds.wait(20)
    with pytest.raises(StoreAwayError, match="does not answer") as raised:
        store.find("s")
    done.set()
    holder.join()
    assert raised.value.got == "other calls wait for the file"
    assert store.find("s") is None
    store.close()
