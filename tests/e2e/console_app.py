"""The real application for the console's tests: a store on the disk, a real host, a model that says how it is steered.

`python -m tests.e2e.console_app FOLDER` prints its address and a key, and serves until it is told to end.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import uvicorn

from services.app import web_app
from services.inference.port import ModelCard
from services.parts import Parts
from steerline.config.serving import ServingSpec
from steerline.inference.backends.scripted import ScriptedBackend, spoken
from steerline.inference.request import Delta, GenRequest, GenResult
from steerline.serving.keys import SCOPES, KeyBook
from steerline.serving.simulations import SimulationHost
from steerline.simulation.store.opening import open_store

MODEL = "voice"
PAIR = {
    "about": "Two who discuss, and one who writes the answer",
    "simulation": {
        "scenario": "discussion",
        "max_ticks": 3,
        "params": {"rounds": 1},
        "models": {MODEL: {"backend": {"kind": "served", "name": MODEL}}},
        "agents": [
            {"id": "plain", "brain": {"kind": "llm", "model": MODEL}},
            {"id": "writer", "profile": {"role": "editor"}, "brain": {"kind": "llm", "model": MODEL}},
        ],
    },
}
"""A team."""


def say(request: GenRequest) -> str:
    """A text that shows the steering of its request, and an answer that scenarios can read."""
    boost = None if request.steering is None else request.steering.boost
    strength = 0.0 if boost is None else boost.strength
    manner = f"Steered with {strength:g}, I look where I seldom look." if strength else "I speak as I always do."
    return f"{manner}\nANSWER: {round(4 + 4 * strength)}"


class Voices:
    """The one model, as the HTTP layer reaches it."""

    async def models(self) -> list[ModelCard]:
        return [ModelCard(MODEL, 1_700_000_000, about="says how it is steered")]

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        return [spoken(request, say(request)) for request in requests]

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        result = spoken(request, say(request))
        for word in result.text.split(" "):
            yield Delta(word + " ")
        yield Delta("", result=result)


class Bell:
    """Wakes the one host."""

    def __init__(self, host: SimulationHost) -> None:
        self._host = host

    async def wake(self, sim: str) -> None:
        self._host.wake()


async def serve(folder: Path) -> None:
    spec = ServingSpec.model_validate({"tracking": None, "models": {MODEL: {"kind": "noisy"}}, "teams": {"pair": PAIR}})
    store, keys = open_store(str(folder / "simulations.db")), KeyBook(folder / "keys.json")
    key, _ = keys.create("console", SCOPES)
    async with SimulationHost(store, {MODEL: ScriptedBackend(say)}) as host:
        app = web_app(Parts(spec, Voices(), store, Bell(host), keys))
        # The log of requests would fill a pipe that nobody reads.
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        sys.stdout.write(f"http://127.0.0.1:{port} {key}\n")
        sys.stdout.flush()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave, server)
        await serving
    store.close()


def leave(server: uvicorn.Server) -> None:
    """At once: readers of events would otherwise be waited for."""
    server.should_exit = server.force_exit = True


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
