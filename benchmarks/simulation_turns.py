"""Agents that ask a model server: this engine and its client against the two patterns of the field.

    python -m benchmarks.simulation_turns [--repetitions 5] [--simulations 16] [--agents 64] [--ticks 5]
        [--elsewhere PYTHON]

The server is a thread that takes whatever is queued, one batch at a time, 20 ms and 0.5 ms an item, at most 64 items.
All contestants play the same games of public goods in the same engine with the same prompts, checked by the hash of
every history; what differs is how answers are fetched. Ours keeps its journal of calls meanwhile, the others keep none.

Other frameworks play the same rules in an interpreter of their own (`turns_elsewhere.py`), made by one command and
named by `--elsewhere elsewhere/bin/python`:

    python -m venv elsewhere && elsewhere/bin/pip install --only-binary :all: autogen-core==0.7.5 agentscope==2.0.11 \
        mesa-llm==0.2.0 mesa==3.3.1 gdm-concordia==2.1.0
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fake_server import ITEM_S, MOST, RULES, START_S, Server, answer
from benchmarks.results import Report, Row, save
from benchmarks.timing import Ratio, interleave, ratio
from steerline.config.inference import NoisyBackendSpec, SamplingSpec
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, LlmBrain
from steerline.config.simulation_running import ModelRef
from steerline.inference.client import Caller, InferenceClient
from steerline.inference.request import BackendLimits, ChatMessage, GenRequest, GenResult, Usage
from steerline.simulation.engine import Surroundings
from steerline.simulation.game import Game
from steerline.simulation.result import Result
from steerline.simulation.runner import play
from steerline.simulation.scenario import Scenario
from steerline.simulation.turn import Decider, Decision, Turn

ROOT = Path(__file__).resolve().parents[1]
SEMAPHORE = 128
# At temperature 0 the client would send what several games ask alike only once, and win by that.
WARM = SamplingSpec(temperature=1.0)
FRAMEWORKS = {
    "autogen": ("AutoGen's core runtime", "0.7.5"),
    "agentscope": ("AgentScope", "2.0.11"),
    "mesa-llm": ("Mesa-LLM", "0.2.0"),
    "concordia": ("Concordia", "2.1.0"),
}
"""What `turns_elsewhere` knows: title, and the version that it was written for."""


def game(seed: int, agents: int, ticks: int) -> SimulationSpec:
    """One game of public goods whose players all ask the model."""
    brain = LlmBrain(kind="llm", model="fake", sampling=WARM)
    return SimulationSpec(
        scenario="public_goods",
        params={"rounds": ticks},
        agents=tuple(AgentSpec(id=f"agent{n}", brain=brain) for n in range(agents)),
        max_ticks=ticks,
        seed=seed,
        models={"fake": ModelRef(backend=NoisyBackendSpec(kind="noisy"))},  # its place is taken by the server
    )


class OneByOne:
    """One call per agent, each awaited before the next."""

    def __init__(self, server: Server, scenario: Scenario) -> None:
        self._server = server
        self._scenario = scenario

    async def decide(self, turns: Sequence[Turn]) -> list[Decision]:
        return [Decision(await self._server.ask(self._prompt(turn))) for turn in turns]

    def _prompt(self, turn: Turn) -> str:
        prompt = self._scenario.prompt(turn.observation, turn.agent.profile)
        return f"{prompt.system}\n{prompt.user}"


class Gathered(OneByOne):
    """All agents of a simulation in one gather under a semaphore."""

    def __init__(self, server: Server, scenario: Scenario) -> None:
        super().__init__(server, scenario)
        self._free = asyncio.Semaphore(SEMAPHORE)

    async def decide(self, turns: Sequence[Turn]) -> list[Decision]:
        return list(await asyncio.gather(*map(self._one, turns)))

    async def _one(self, turn: Turn) -> Decision:
        async with self._free:
            return Decision(await self._server.ask(self._prompt(turn)))


class Ours:
    """The server as a backend of the client."""

    limits = BackendLimits(max_batch=MOST, in_flight=4)  # the server has a queue of its own

    def __init__(self, server: Server) -> None:
        self._server = server

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        asked = [self._server.ask("\n".join(request.prefix)) for request in requests]
        return [GenResult(await future, "stop", Usage(100, 3)) for future in asked]

    async def close(self) -> None:
        return None


class Immediate:
    """A model that takes no time."""

    limits = BackendLimits(max_batch=MOST)

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        return [GenResult(answer("\n".join(request.prefix)), "stop", Usage(100, 3)) for request in requests]

    async def close(self) -> None:
        return None


async def with_decider(specs: Sequence[SimulationSpec], kind: type[OneByOne], side_by_side: bool) -> list[Result]:
    """All games, together or one after another."""
    with Server() as server:

        def decider(spec: SimulationSpec) -> Decider:
            return kind(server, Game.of(spec).scenario)

        if side_by_side:
            return list(await asyncio.gather(*(play(spec, decider(spec)) for spec in specs)))
        return [await play(spec, decider(spec)) for spec in specs]


async def with_client(specs: Sequence[SimulationSpec]) -> list[Result]:
    """All games through one client."""
    with Server() as server:
        async with InferenceClient({"fake": Ours(server)}) as client:
            return list(await asyncio.gather(*(play(spec, around=Surroundings(client=client)) for spec in specs)))


async def without_waiting(specs: Sequence[SimulationSpec]) -> list[Result]:
    """All games through one client, with a model that takes no time."""
    async with InferenceClient({"fake": Immediate()}) as client:
        return list(await asyncio.gather(*(play(spec, around=Surroundings(client=client)) for spec in specs)))


async def client_alone(simulations: int, agents: int, ticks: int) -> None:
    """The same numbers of requests without an engine, with a model that takes no time."""

    async def ask(me: Caller, simulation: int) -> None:
        for tick in range(ticks):
            await me.ask_all(
                [
                    GenRequest(
                        "fake",
                        (ChatMessage("system", RULES), ChatMessage("user", f"Round {tick}, agent {agent}. {RULES}")),
                        sampling=WARM,
                        seed=tick,
                        simulation=str(simulation),
                        agent=str(agent),
                    )
                    for agent in range(agents)
                ]
            )

    async with InferenceClient({"fake": Immediate()}) as client:
        with client.caller() as me:
            await me.gather([partial(ask, simulation=n) for n in range(simulations)])


def elsewhere(python: Path, framework: str, simulations: int, agents: int, ticks: int) -> float | None:
    """Agent turns a second of another framework; none where it is not installed."""
    command = [str(python.absolute()), "-m", "benchmarks.turns_elsewhere", framework]
    size = [f"--simulations={simulations}", f"--agents={agents}", f"--ticks={ticks}"]
    done = subprocess.run([*command, *size], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{framework} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found.get("turns_per_second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="for `make bench`; there is no model to move")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--simulations", type=int, default=16)
    parser.add_argument("--agents", type=int, default=64)
    parser.add_argument("--ticks", type=int, default=5)
    parser.add_argument("--elsewhere", type=Path, metavar="PYTHON", help="an interpreter that has other frameworks")
    args = parser.parse_args()
    size = (args.simulations, args.agents, args.ticks)
    others = [name for name in FRAMEWORKS if args.elsewhere and elsewhere(args.elsewhere, name, 1, 2, 1) is not None]
    specs = [game(seed, args.agents, args.ticks) for seed in range(args.simulations)]
    one_tick = [game(seed, args.agents, 1) for seed in range(args.simulations)]
    per_tick = args.simulations * args.agents
    played: dict[int, list[str]] = {}

    def turns_a_second(games: Sequence[SimulationSpec], playing: Coroutine[Any, Any, list[Result]]) -> float:
        gc.collect()
        gc.freeze()  # or this contestant would search, again and again, what those before it left
        start = time.perf_counter()
        results = asyncio.run(playing)
        seconds = time.perf_counter() - start
        hashes = [result.hash for result in results]
        assert played.setdefault(games[0].max_ticks, hashes) == hashes, "the contestants played different games"
        return per_tick * games[0].max_ticks / seconds

    def own_ms(working: Coroutine[Any, Any, object]) -> float:
        start = time.process_time()
        asyncio.run(working)
        return (time.process_time() - start) / (per_tick * args.ticks) * 1000

    samples = interleave(
        {
            "ours": lambda: turns_a_second(specs, with_client(specs)),
            "gather": lambda: turns_a_second(specs, with_decider(specs, Gathered, side_by_side=True)),
            "in turn": lambda: turns_a_second(specs, with_decider(specs, OneByOne, side_by_side=True)),
            "one by one": lambda: turns_a_second(one_tick, with_decider(one_tick, OneByOne, side_by_side=False)),
            "engine, ms": lambda: own_ms(without_waiting(specs)),
            "client, ms": lambda: own_ms(client_alone(*size)),
            **{name: partial(elsewhere, args.elsewhere, name, *size) for name in others},
        },
        repetitions=args.repetitions,
    )
    save(report(samples, args))
    for name, values in samples.items():
        print(f"{name:<12}{statistics.median(values):10.3f}  ({min(values):.3f} to {max(values):.3f})")


def report(samples: dict[str, list[float]], args: argparse.Namespace) -> Report:
    """The rows that the issue asks for."""

    def times(against: str) -> Ratio:
        return ratio(samples, "ours", against)

    def own(name: str) -> str:
        values = samples[name]
        return f"{statistics.median(values):.3f} ms ({min(values):.3f} to {max(values):.3f})"

    what = f"agent turns a second, {args.simulations} simulations of {args.agents} agents"
    side_by_side, gather = times("in turn").median, times("gather").median
    rows = [
        Row(what, "one gather under a semaphore", ">= 1.0", str(times("gather")), gather >= 1.0),
        Row(what, "one call per agent awaited in turn, side by side", ">= 3", str(times("in turn")), side_by_side >= 3),
        Row(what, "one call per agent awaited in turn, game after game", "report", str(times("one by one")), None),
    ]
    for name, (title, version) in FRAMEWORKS.items():
        against = f"{title} {version}, all players of a round at once"
        if name in samples:
            found = times(name)
            rows.append(Row(what, against, ">= 1.0", str(found), found.median >= 1.0))
        else:
            rows.append(Row(what, against, ">= 1.0", "not installed", None))
    for name, part in (("engine, ms", "engine, journal and client"), ("client, ms", "client alone")):
        reached = statistics.median(samples[name]) <= 1
        rows.append(Row(f"processor time of an agent turn, {part}", "-", "<= 1 ms", own(name), reached))
    rate = statistics.median(samples["ours"])
    notes = [
        "All contestants play the same games in the same engine and end with the same hashes. Ours keeps its journal."
        " Other frameworks play the same rules in loops of their own, and keep neither log nor journal.",
        f"Ours made {rate:.0f} turns a second; a server without a pause makes {MOST / (START_S + ITEM_S * MOST):.0f}.",
    ]
    title = "Simulations that ask a model: agent turns a second"
    return Report("simulation_turns", title, "python -m benchmarks.simulation_turns", rows, notes)


if __name__ == "__main__":
    main()
