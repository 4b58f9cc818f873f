"""The service of simulations in tests: its HTTP surface, and a host that plays what it is asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from services.http import errors
from services.http.access import Access, Admission
from services.http.limits import Slots
from services.parts import Parts
from services.simulation.api import router
from steerline.config.serving import ServingSpec
from steerline.inference.request import Backend
from steerline.serving.keys import KeyBook
from steerline.serving.simulations import SimulationHost
from steerline.serving.usage import UsageBook
from steerline.simulation.store.base import Store
from steerline.simulation.store.sqlite import SqliteStore
from tests.unit.serving.hosting import host
from tests.unit.simulation.worlds import Server

SPEC: dict[str, Any] = {
    "models": {"m": {"kind": "noisy"}, "other": {"kind": "noisy", "seed": 1}},
    "access": {"required": False},
    "console": False,
}
ROUNDS = 4


def game(*brains: dict[str, Any] | str, **changes: Any) -> dict[str, Any]:
    """A public goods game of agents a, b, c, as a request posts it; a text is a scripted policy."""
    agents = [
        {"id": name, "brain": {"kind": "scripted", "policy": brain} if isinstance(brain, str) else brain}
        for name, brain in zip("abcdefgh", brains, strict=False)
    ]
    rounds = changes.pop("rounds", ROUNDS)
    form = {"scenario": "public_goods", "params": {"rounds": rounds}, "max_ticks": rounds, "agents": agents}
    return {**form, **changes}


def llm(model: str = "m", **more: Any) -> dict[str, Any]:
    return {"kind": "llm", "model": model, **more}


class LocalHosts:
    """One host in this process, or none."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.host: SimulationHost | None = None

    async def wake(self, sim: str) -> None:
        self.woken.append(sim)
        if self.host is not None:
            self.host.wake()


class NoInference:
    """Simulations reach models by their hosts."""

    async def models(self) -> list[Any]:
        return []


def parts_of(store: Store, folder: Path, hosts: LocalHosts, **changes: Any) -> Parts:
    spec = ServingSpec.model_validate({**SPEC, **changes})
    return Parts(spec, NoInference(), store, hosts, KeyBook(folder / "keys.json"))  # type: ignore[arg-type]


def application(parts: Parts) -> FastAPI:
    """The routes about simulations alone, which is several times faster to make than the whole application."""
    app, access, limits = FastAPI(), parts.spec.access, parts.spec.limits
    usage = UsageBook(parts.keys.file.with_name("usage.db"))
    app.state.access = Access(access, parts.keys, usage, limits.requests_per_minute)
    app.state.streams = Slots(limits.streams, "event streams")
    errors.install(app)
    app.add_middleware(Admission)
    app.router.routes += router(parts).routes
    return app


@asynccontextmanager
async def service(
    folder: Path, backends: Mapping[str, Backend] | None = None, **changes: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Store]]:
    """A client of the service, and its store. `backends` of none plays nothing."""
    store, hosts = SqliteStore(folder / "simulations.db", sync=False), LocalHosts()
    app = application(parts_of(store, folder, hosts, **changes))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        if backends is None:
            yield client, store
        else:
            async with host(store, backends=backends) as hosts.host:
                yield client, store
    store.close()


def models() -> dict[str, Server]:
    return {"m": Server(), "other": Server()}


async def reached(client: httpx.AsyncClient, sim: str, *statuses: str) -> dict[str, Any]:
    """A simulation, once it stands in one of some ways."""
    async with asyncio.timeout(20):
        while True:
            view: dict[str, Any] = (await client.get(f"/v1/simulations/{sim}")).json()
            if view["status"] in statuses:
                return view
            await asyncio.sleep(0.005)


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The application on a port of this machine, with streams as they are; its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(20)
