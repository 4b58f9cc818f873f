"""The store on a real PostgreSQL server does what a store must."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from steerline.simulation.store.base import Store
from tests.integration.mlflow_fixture import Postgres
from tests.unit.simulation.store.conformance import *  # noqa: F403
from tests.unit.simulation.store.conformance import Clock, OpenStore

pytest.importorskip("psycopg", reason="PostgreSQL is reached through psycopg, which is not installed")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("initdb") is None, reason="no PostgreSQL server on this machine"),
]


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    database = Postgres()
    database.start()
    yield database
    database.remove()


@pytest.fixture
def open_store(database: Postgres) -> Iterator[OpenStore]:
    import psycopg

    from steerline.simulation.store.postgres import PostgresStore

    uri = database.uri.replace("+psycopg", "")
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
