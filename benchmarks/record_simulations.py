"""Records short simulations of real SmolLM2 agents, which the tests replay without a model.

Three agents debate a sum twice, once all plain and once with InfoSteer acting in the third; three play public goods,
the first of them steered, and are asked again where an answer cannot be read. All three simulations share one loaded
model and its batches. They are kept in `tests/fixtures/simulation`. What a prompt says is part of a recording: after a
change of prompts, record again.

    python -m benchmarks.record_simulations
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steerline.config.simulation import SimulationSpec
from steerline.inference.backends.open import open_backend
from steerline.inference.client import InferenceClient
from steerline.simulation.bundle import Bundle, read_bundle, write_bundle
from steerline.simulation.engine import Surroundings
from steerline.simulation.replay import replay_strictly
from steerline.simulation.result import Result
from steerline.simulation.runner import play
from steerline.simulation.store.memory import MemoryStore

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "simulation"
MODEL = {"kind": "local", "model": {"source": {"kind": "packaged", "name": "smollm2-135m-instruct"}}, "device": "cpu"}
INFOSTEER = {
    "strength": 1.0,
    "fraction": 0.01,
    "scale": 2.0,
    "select": "magnitude",
    "mean": "abs",
    "keep_sign": True,
    "active_in": "both",
}
# Who recorded a run, on which machine and with which packages, is nobody's business but theirs.
PRIVATE = ("provenance", "packages", "platform")


def player(name: str, max_tokens: int, boost: dict[str, Any] | None = None, attempts: int = 1) -> dict[str, Any]:
    """An agent whose words SmolLM2 says, under a steering or none."""
    sampling = {"temperature": 0.7, "max_tokens": max_tokens}
    brain = {"kind": "llm", "model": "smollm2", "sampling": sampling, "attempts": attempts}
    return {"id": name, "brain": brain if boost is None else {**brain, "steering": {"boost": boost}}}


def spec(name: str, scenario: str, agents: Sequence[dict[str, Any]], **more: Any) -> SimulationSpec:
    """A simulation of agents that share the model."""
    models = {"smollm2": {"backend": MODEL}}
    fields = {"name": name, "scenario": scenario, "agents": agents, "models": models, **more}
    return SimulationSpec.model_validate_json(json.dumps(fields))


def specs() -> list[SimulationSpec]:
    """What is recorded."""
    debate: dict[str, Any] = {"params": {"rounds": 1, "low": 2, "high": 9}, "max_ticks": 3}
    debaters = [player("ada", 48), player("ben", 48)]
    return [
        spec("debate-plain", "debate", [*debaters, player("cleo", 48)], **debate),
        spec("debate-steered", "debate", [*debaters, player("cleo", 48, INFOSTEER)], **debate),
        spec(
            "public-goods-steered",
            "public_goods",
            [player("ada", 24, INFOSTEER, attempts=2), player("ben", 24, attempts=2), player("cleo", 24, attempts=2)],
            params={"rounds": 3},
            max_ticks=3,
        ),
    ]


async def record(folder: Path) -> list[Result]:
    """Play all of them together and write their bundles."""
    wanted, store = specs(), MemoryStore()
    models = {alias: open_backend(ref.backend) for alias, ref in wanted[0].models.items()}
    async with InferenceClient(models) as client:
        around = Surroundings(client=client)
        played = [play(one, store=store, sim=one.name, around=around) for one in wanted]
        results = list(await asyncio.gather(*played))
    for result in results:
        place = write_bundle(result, store, folder / result.sim) / "manifest.json"
        kept = json.loads(place.read_bytes())
        public = {name: value for name, value in kept.items() if name not in PRIVATE}
        place.write_text(json.dumps(public, indent=2, sort_keys=True) + "\n")
    return results


def row(bundle: Bundle) -> str:
    """A recording as a line of the table in docs/simulation.md."""
    turns = [event for event in bundle.events if event.kind in ("action.taken", "action.invalid")]
    read = sum(event.kind == "action.taken" for event in turns)
    usage = [call.result["usage"] for call in bundle.calls]
    prompts, completions = (sum(one[f"{kind}_tokens"] for one in usage) for kind in ("prompt", "completion"))
    name = bundle.manifest["sim"]
    return f"| `{name}` | {len(turns)} | {len(usage)} | {prompts} and {completions} | {read} of {len(turns)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the bundles go")
    folder = parser.parse_args().folder
    start = time.perf_counter()
    results = asyncio.run(record(folder))
    print(f"recorded in {time.perf_counter() - start:.0f} s")
    for result in results:
        bundle = read_bundle(folder / result.sim)
        start = time.perf_counter()
        again = asyncio.run(replay_strictly(bundle.spec, bundle.events, bundle.calls))
        seconds = time.perf_counter() - start
        assert again.hash == result.hash, f"{result.sim}: the replay has another hash"
        print(f"{row(bundle)} replayed in {seconds * 1000:.0f} ms; {result.metrics[-1]}")


if __name__ == "__main__":
    main()
