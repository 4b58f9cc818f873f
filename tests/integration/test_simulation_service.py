"""The service of simulations on real servers: MLflow has what ended, and a replica that is killed loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from ray import serve
from ray.util.state import list_actors

from services.deployments import build
from steerline.config.inference import LocalBackendSpec, NoisyBackendSpec
from steerline.config.serving import ServingSpec
from steerline.config.simulation import SimulationSpec
from steerline.config.tracking import TrackingSpec
from steerline.inference.backends.noisy import NoisyBackend
from steerline.orchestration.ports import free_ports
from steerline.orchestration.stack import Stack
from steerline.serving.recording import MlflowRecording
from steerline.serving.simulations import HostLimits, SimulationHost
from steerline.simulation.game import Game
from steerline.simulation.replay import fork
from steerline.simulation.runner import run
from steerline.simulation.store.sqlite import SqliteStore
from steerline.tracking.connection import connect
from steerline.tracking.queries import find_run
from tests.integration.cluster import serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]

T = TypeVar("T")
NOISY = {"kind": "noisy", "answers": ["ANSWER: 3", "ANSWER: 9"]}
SPEC = NoisyBackendSpec.model_validate(NOISY)


def game(ticks: int, seed: int = 0) -> dict[str, Any]:
    agents = [{"id": name, "brain": {"kind": "llm", "model": "noisy"}} for name in ("ann", "bob")]
    return {
        "scenario": "public_goods",
        "params": {"rounds": ticks},
        "max_ticks": ticks,
        "seed": seed,
        "agents": agents,
        "durability": {"sync": False},
    }


def eventually(look: Callable[[], T | None], within_s: float = 300.0) -> T:
    """What `look` finds; other processes are at work, so it is asked again for a while."""
    deadline = time.monotonic() + within_s
    while (found := look()) is None:
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found


def test_what_ended_is_in_mlflow_once_with_the_models_it_used(stack: Stack, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "simulations.db")
    spec = SimulationSpec.model_validate({**game(3), "models": {"noisy": {"backend": {"kind": "served", "name": "m"}}}})
    weights = LocalBackendSpec.model_validate(
        {"model": {"source": {"kind": "random", "architecture": "llama"}}}  # what the service says answers as `m`
    )
    recording = MlflowRecording(TrackingSpec(uri=stack.tracking_uri), tmp_path / "spool", {"m": weights})
    sim = "sim-recorded"
    store.create(sim, spec.model_dump(mode="json"), Game.of(spec).fingerprint)

    async def play(one: str) -> None:
        store.want(one)
        async with SimulationHost(
            store, {"m": NoisyBackend(SPEC)}, recording=recording, limits=HostLimits(look_every_s=0.05)
        ):
            async with asyncio.timeout(300):
                while store.hosted(one).due is not None:  # type: ignore[union-attr]
                    await asyncio.sleep(0.05)

    asyncio.run(play(sim))
    recording.record(store, sim)
    found, client = find_run(stack.tracking_uri, sim), connect(stack.tracking_uri)
    assert found.status == "FINISHED"
    kept = client.get_run(found.ref.run_id)
    assert kept.data.tags["steerline.kind"] == "simulation"
    assert kept.data.tags["steerline.hash"] == store.find(sim).hash  # type: ignore[union-attr]
    assert "random llama" in kept.data.tags["steerline.parent.model_noisy"]
    history = client.get_metric_history(found.ref.run_id, "mean_contribution")
    assert [point.step for point in history] == [0, 1, 2]
    artefacts = {file.path for file in client.list_artifacts(found.ref.run_id, "simulations")}
    assert {f"simulations/{name}" for name in ("events.jsonl.gz", "transcript.jsonl", "manifest.json")} <= artefacts
    traces = client.search_traces(locations=[found.ref.experiment_id], run_id=found.ref.run_id)
    assert len(traces) == 1
    asyncio.run(fork(store, sim, "sim-fork", 1))
    asyncio.run(play("sim-fork"))
    forked = client.get_run(find_run(stack.tracking_uri, "sim-fork").ref.run_id)
    assert forked.data.tags["steerline.parent.simulation"] == found.ref.run_id
    store.close()


@pytest.fixture
def endpoint(request: pytest.FixtureRequest, stack: Stack, tmp_path: Path) -> Iterator[str]:
    """The endpoint, with leases of so many seconds."""
    (port,) = free_ports(1)
    spec = {
        "models": {"noisy": NOISY},
        "store": str(tmp_path / "simulations.db"),
        "access": {"required": False},
        "limits": {"lease_s": request.param, "simulations": 4},
        "tracking": None,
        "console": False,
    }
    with serving(stack, port):
        serve.run(build(ServingSpec.model_validate(spec)), name="steerline", route_prefix="/")
        yield f"http://127.0.0.1:{port}"


def replicas_that_play() -> list[int]:
    """Process ids of the replicas that play simulations."""
    actors = list_actors(filters=[("state", "=", "ALIVE")], limit=1000)
    return [actor.pid for actor in actors if "Simulations" in actor.class_name]


def followed(endpoint: str, sim: str) -> list[int]:
    """Numbers of a simulation's events as a reader gets them who comes again until the end."""
    seen: list[int] = []
    with httpx.Client(base_url=endpoint, timeout=60, headers={"Accept": "text/event-stream"}) as client:
        while True:
            with client.stream(
                "GET", f"/v1/simulations/{sim}/events", params={"after": seen[-1] if seen else 0}
            ) as answer:
                for line in answer.iter_lines():
                    if line.startswith("id: "):
                        seen.append(int(line.removeprefix("id: ")))
                    if line == "event: end":
                        return seen


@pytest.mark.parametrize("endpoint", [2.0], indirect=True)
def test_killing_a_replica_under_load_loses_no_event_and_no_simulation(endpoint: str) -> None:
    ticks, count, replicas = 300, 6, replicas_that_play()
    assert replicas
    with httpx.Client(base_url=endpoint, timeout=60) as client:
        made = [client.post("/v1/simulations", json=game(ticks, seed)) for seed in range(count)]
        assert {answer.status_code for answer in made} == {202}, made[0].text
        sims = [answer.json()["id"] for answer in made]
        views = lambda: [client.get(f"/v1/simulations/{sim}").json() for sim in sims]  # noqa: E731
        reader = ThreadPoolExecutor(1).submit(followed, endpoint, sims[0])
        eventually(lambda: client.get(f"/v1/simulations/{sims[0]}").json()["tick"] > 20 or None)
        before = {sim: client.get(f"/v1/simulations/{sim}/events").text.splitlines() for sim in sims}
        for pid in replicas:
            os.kill(pid, signal.SIGKILL)
        assert any(view["status"] == "running" for view in views())
        eventually(lambda: all(view["status"] == "ended" for view in views()) or None)
        assert reader.result(300) == list(range(1, views()[0]["events"] + 1))
        spec = SimulationSpec.model_validate(client.get(f"/v1/simulations/{sims[0]}").json()["spec"])
        for sim, seed in zip(sims, range(count), strict=True):
            after = client.get(f"/v1/simulations/{sim}/events").text.splitlines()
            assert after[: len(before[sim])] == before[sim]
            alone = run(spec.model_copy(update={"seed": seed}), backends={"noisy": NoisyBackend(SPEC)})
            assert client.get(f"/v1/simulations/{sim}").json()["hash"] == alone.hash


@pytest.mark.parametrize("endpoint", [600.0], indirect=True)
def test_an_endpoint_that_ends_gives_its_leases_back_long_before_they_run_out(endpoint: str, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "simulations.db")
    sim = httpx.post(f"{endpoint}/v1/simulations", json=game(1500), timeout=60).json()["id"]
    eventually(lambda: store.hosted(sim).ticks > 20 or None)  # type: ignore[union-attr]
    assert list(store.runnable(1)) == []
    serve.delete("steerline")
    eventually(lambda: list(store.runnable(1)) == [sim] or None)

    async def go_on() -> None:
        async with SimulationHost(store, {"noisy": NoisyBackend(SPEC)}, limits=HostLimits(look_every_s=0.05)):
            async with asyncio.timeout(300):
                while store.find(sim).status != "ended":  # type: ignore[union-attr]
                    await asyncio.sleep(0.05)

    asyncio.run(go_on())
    record = store.find(sim)
    assert record is not None
    alone = run(SimulationSpec.model_validate(record.spec), backends={"noisy": NoisyBackend(SPEC)})
    assert record.hash == alone.hash
    store.close()
