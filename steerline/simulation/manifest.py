"""What a run was made of: enough to say whether another one may differ, and in what."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import steerline
from steerline.simulation.result import Result
from steerline.simulation.store.base import Store
from steerline.tracking.provenance import collect, to_metadata

FORMAT = "steerline-simulation/1"

DETERMINISTIC = (
    "Given the same spec and code, the world, scripted and stub brains, routing, interceptors, memory and draws are"
    " the same everywhere. Texts of live models and of people are not: they are in the log and the journal, from which"
    " a strict replay takes them."
)


def manifest(result: Result, store: Store) -> dict[str, Any]:
    """The manifest of a run, as plain data: code, packages, fingerprint, models, seed, machine, and where it stands."""
    record = store.find(result.sim)
    seen = collect(Path(steerline.__file__).parent)
    return {
        "format": FORMAT,
        "sim": result.sim,
        "fingerprint": "" if record is None else record.fingerprint,
        "scenario": result.spec.scenario,
        "seed": result.spec.seed,
        "status": result.status,
        "reason": result.reason,
        "ticks": result.tick,
        "events": len(result.events),
        "hash": result.hash,
        "calls": sum(1 for _ in store.calls(result.sim)),
        "models": {alias: ref.model_dump(mode="json") for alias, ref in result.spec.models.items()},
        "provenance": to_metadata(seen),
        "packages": seen.packages.splitlines(),
        "python": seen.python,
        "platform": platform.platform(),
        "forked_from": next((dict(o.payload) for o in store.operations(result.sim) if o.kind == "forked"), None),
        "determinism": DETERMINISTIC,
    }
