"""The store on a real PostgreSQL server does what a store must."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator

import pytest

from steerline.errors import SimulationError
from steerline.simulation.store.base import Store
from tests.integration.mlflow_fixture import Postgres
from tests.unit.simulation.store.conformance import *  # noqa: F403
from tests.unit.simulation.store.conformance import Clock, OpenStore
from tests.unit.simulation.store.engine import *  # noqa: F403

pytest.importorskip("psycopg", reason="PostgreSQL is reached through psycopg, which is not installed")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("initdb") is None, reason="no PostgreSQL server on this machine"),
]


def plain_uri(database: Postgres) -> str:
    return database.uri.replace("+psycopg", "")


def wait_until_ready(uri: str, timeout_s: float = 120.0) -> None:
    """The port is open a moment before the server takes connections."""
    import psycopg

    deadline = time.monotonic() + timeout_s
    while True:
        try:
            psycopg.connect(uri).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    database = Postgres()
    database.start()
    wait_until_ready(plain_uri(database))
    yield database
    database.remove()


@pytest.fixture
def open_store(database: Postgres) -> Iterator[OpenStore]:
    import psycopg

    from steerline.simulation.store.postgres import PostgresStore

    uri = plain_uri(database)
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    stores: list[PostgresStore] = []

    def opened(clock: Clock) -> Store:
        stores.append(PostgresStore(uri, clock=clock))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def execute(database: Postgres) -> Callable[[str], None]:
    import psycopg

    def run(statement: str) -> None:
        with psycopg.connect(plain_uri(database), autocommit=True) as connection:
            connection.execute(statement)

    return run


def test_a_store_whose_server_went_away_connects_again(database: Postgres, open_store: OpenStore) -> None:
    store = open_store(Clock())
    store.create("s", {}, "f" * 64)
    database.stop()
    with pytest.raises(SimulationError, match="does not answer"):
        store.list()
    database.start()
    wait_until_ready(plain_uri(database))
    assert [record.sim for record in store.list()] == ["s"]
