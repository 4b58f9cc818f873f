"""Agents that ask a model behind Ray Serve: one handle call per batch, as simulations here do, against one per agent.

    python -m benchmarks.simulation_serve [--repetitions 5] [--simulations 16] [--agents 64] [--ticks 5]

The deployment is a fake model that takes whatever is queued, one batch at a time (`@serve.batch`): 20 ms and 0.5 ms an
item, at most 64 items. One replica of it bounds what any contestant can reach, so two are measured as well. All
contestants play the same games of public goods in the same engine, in one driver process, checked by the hash of every
history; what differs is how answers are fetched. Ours keeps its journal meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from benchmarks.fake_server import ITEM_S, MOST, START_S, answer
from benchmarks.results import Report, Row, save
from benchmarks.simulation_turns import OneByOne, game
from benchmarks.timing import interleave, ratio
from services.serve_backend import ServedBackend, ServeInference
from steerline.config.simulation import SimulationSpec
from steerline.inference.client import InferenceClient
from steerline.inference.request import BackendLimits, GenRequest, GenResult, Usage
from steerline.orchestration import stack as stacks
from steerline.simulation.engine import Surroundings
from steerline.simulation.game import Game
from steerline.simulation.result import Result
from steerline.simulation.runner import play
from steerline.simulation.scenario import Scenario
from steerline.simulation.turn import Decision, Turn

ROOT = Path(__file__).resolve().parents[1]
REPLICAS = (1, 2)

Samples = dict[str, list[float]]
"""Of each contestant, turns a second."""


@serve.deployment(max_ongoing_requests=4 * 1024)
class FakeModel:
    """The fake model, asked by lists or one by one."""

    @serve.batch(max_batch_size=MOST, batch_wait_timeout_s=0.005, max_concurrent_batches=1)
    async def _said(self, prompts: list[str]) -> list[str]:
        await asyncio.sleep(START_S + ITEM_S * len(prompts))
        return [answer(prompt) for prompt in prompts]

    async def generate(self, requests: list[GenRequest]) -> list[GenResult]:
        """One result for each request, as the deployment of models gives them."""
        texts = await asyncio.gather(*(self._said("\n".join(request.prefix)) for request in requests))
        return [GenResult(text, "stop", Usage(100, 3)) for text in texts]

    async def one(self, prompt: str) -> str:
        """The answer to one prompt."""
        return str(await self._said(prompt))


class CallPerAgent(OneByOne):
    """One handle call for each agent, all of a tick at once: the obvious way to put agents on Serve."""

    def __init__(self, handle: DeploymentHandle[FakeModel], scenario: Scenario) -> None:
        self._handle = handle
        self._scenario = scenario

    async def decide(self, turns: Sequence[Turn]) -> list[Decision]:
        said = await asyncio.gather(*(self._one(turn) for turn in turns))
        return [Decision(text) for text in said]

    async def _one(self, turn: Turn) -> str:
        return str(await self._handle.one.remote(self._prompt(turn)))


async def call_per_agent(specs: Sequence[SimulationSpec], handle: DeploymentHandle[FakeModel]) -> list[Result]:
    """All games side by side, each agent with a call of its own."""
    deciders = [CallPerAgent(handle, Game.of(spec).scenario) for spec in specs]
    return list(await asyncio.gather(*(play(spec, by) for spec, by in zip(specs, deciders, strict=True))))


async def call_per_batch(specs: Sequence[SimulationSpec], handle: DeploymentHandle[FakeModel]) -> list[Result]:
    """All games side by side through one client, whose batches are one call each."""
    backend = ServedBackend("fake", ServeInference(handle), BackendLimits(max_batch=MOST, in_flight=4))
    async with InferenceClient({"fake": backend}) as client:
        return list(await asyncio.gather(*(play(spec, around=Surroundings(client=client)) for spec in specs)))


def measured(args: argparse.Namespace, replicas: int) -> Samples:
    """Agent turns a second of each contestant, with so many replicas of the model for each."""
    # With a handle each, since what its router has noted of a thousand short calls would misguide a few long ones.
    by_batch, by_agent = (_deployed(f"fake-{replicas}-{whose}", replicas) for whose in ("batch", "agent"))
    specs = [game(seed, args.agents, args.ticks) for seed in range(args.simulations)]
    turns, hashes = args.simulations * args.agents * args.ticks, list[list[str]]()

    def rate(playing: Coroutine[Any, Any, list[Result]]) -> float:
        start = time.perf_counter()
        results = asyncio.run(playing)
        seconds = time.perf_counter() - start
        hashes.append([result.hash for result in results])
        assert hashes[-1] == hashes[0], "the contestants played different games"
        return turns / seconds

    contestants = {
        "a batch": lambda: rate(call_per_batch(specs, by_batch)),
        "an agent": lambda: rate(call_per_agent(specs, by_agent)),
    }
    interleave(contestants, repetitions=1)
    return interleave(contestants, repetitions=args.repetitions)


def in_the_cluster(args: argparse.Namespace) -> dict[str, Samples]:
    """The samples by the number of replicas, taken in the cluster that the environment names."""
    ray.init(log_to_driver=False)
    serve.start(proxy_location="Disabled")
    try:
        return {str(replicas): measured(args, replicas) for replicas in REPLICAS}
    finally:
        serve.shutdown()
        ray.shutdown()


def _deployed(name: str, replicas: int) -> DeploymentHandle[FakeModel]:
    model = FakeModel.options(num_replicas=replicas, ray_actor_options={"num_cpus": 0})
    return serve.run(model.bind(), name=name, route_prefix=None)


def in_a_new_cluster() -> dict[str, Samples]:
    """The samples that this command gives in a cluster of its own; Ray reads where that is when it is imported."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack, _ = stacks.up(folder, standard_ports=False)
        try:
            command = [sys.executable, "-m", "benchmarks.simulation_serve", *sys.argv[1:]]
            environment = {**os.environ, **stack.environment(), "PYTHONPATH": str(ROOT)}
            subprocess.run([*command, "--samples", str(folder / "samples")], env=environment, cwd=ROOT, check=True)
        finally:
            stacks.down(folder)
        samples: dict[str, Samples] = json.loads((folder / "samples").read_text())
        return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="for `make bench`; there is no model to move")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--simulations", type=int, default=16)
    parser.add_argument("--agents", type=int, default=64)
    parser.add_argument("--ticks", type=int, default=5)
    parser.add_argument("--samples", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.samples is not None:
        args.samples.write_text(json.dumps(in_the_cluster(args)))
        return
    found = in_a_new_cluster()
    save(report(found, args))
    for replicas, samples in found.items():
        for name, values in samples.items():
            shown = f"{statistics.median(values):8.0f}  ({min(values):.0f} to {max(values):.0f})"
            print(f"{replicas} of the model, one call for {name:<9}{shown}")


def report(found: dict[str, Samples], args: argparse.Namespace) -> Report:
    """The row that the issue asks for, and that of more replicas."""
    what = f"agent turns a second through Ray Serve, {args.simulations} simulations of {args.agents} agents"
    rows, notes = [], []
    for replicas, samples in found.items():
        compared = ratio(samples, "a batch", "an agent")
        one = replicas == "1"
        times = "one replica" if one else f"{replicas} replicas"
        label = f"{what}, one handle call per batch, {times} of the model"
        goal, reached = (">= 3", compared.median >= 3) if one else ("report", None)
        rows.append(Row(label, "one handle call per agent", goal, str(compared), reached))
        rates = {name: statistics.median(values) for name, values in samples.items()}
        bound = int(replicas) * MOST / (START_S + ITEM_S * MOST)
        notes.append(
            f"With {times}, one call per batch: {rates['a batch']:.0f} turns a second; one per agent:"
            f" {rates['an agent']:.0f}; models without a pause make {bound:.0f}, {bound / rates['an agent']:.1f} times"
            " the latter."
        )
    notes.append(
        "The same games in the same engine, with the same hashes. Driver, Serve and the model share this machine."
    )
    return Report(
        "simulation_serve",
        "Simulations behind Ray Serve: agent turns a second",
        "python -m benchmarks.simulation_serve",
        rows,
        notes,
    )


if __name__ == "__main__":
    main()
