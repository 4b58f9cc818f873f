"""A town of scripted inhabitants under an epidemic, against Mesa on the same rules; what durability and memory cost.

    python -m benchmarks.simulation_population [--repetitions 5] [--inhabitants 10000] [--days 100]

Both contestants play the same rules on the same kinds of contacts, checked in this run: the infections of many small
towns must agree. Ours is a whole run with its hashed history, from the spec to the result; Mesa's is its steps alone,
without building the model and without a history. Immunity fades, so that all days have ill people. Neither waits for
anything, so that processor time is compared; durability, which waits for the disk, is compared by the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks import mesa_epidemic
from benchmarks.results import Report, Row, save
from benchmarks.timing import interleave, ratio
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_running import DurabilitySpec
from steerline.simulation.result import Result
from steerline.simulation.runner import play
from steerline.simulation.scenarios.epidemic import EpidemicParams, game
from steerline.simulation.store.base import Store
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.store.sqlite import SqliteStore

LARGE = 100_000
CONTACTS: dict[str, dict[str, Any]] = {
    "complete mixing": {"kind": "mixing", "r0": 2.0},
    "a small world of 6 neighbours": {"kind": "small_world", "degree": 6, "rewire": 0.1, "chance": 0.15},
}


def settings(inhabitants: int, days: int, contact: dict[str, Any]) -> dict[str, Any]:
    """One town, for either contestant."""
    ill = max(1, inhabitants // 100)
    return {
        "inhabitants": inhabitants,
        "days": days,
        "contact": contact,
        "ill_at_start": ill,
        "immunity_days": 30,
        "talk": False,
    }


def played(spec: SimulationSpec, store: Store | None = None) -> Result:
    """A run in an event loop that goes on after it, as in a service."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(play(spec, store=store))
    finally:
        loop.close()


def rate(params: dict[str, Any]) -> float:
    """Inhabitants times days in a second, of a whole run of ours."""
    spec = game(**params)
    start = time.process_time()
    result = played(spec)
    elapsed = time.process_time() - start
    assert result.tick == params["days"], result.reason
    return float(params["inhabitants"] * params["days"] / elapsed)


def mesa_rate(params: dict[str, Any], *, as_in_its_guide: bool = False) -> float:
    """The same of Mesa's steps."""
    town = EpidemicParams.model_validate(params)
    elapsed = mesa_epidemic.seconds(town, 0, params["days"], as_in_its_guide=as_in_its_guide)
    return float(params["inhabitants"] * params["days"] / elapsed)


def same_rules(contact: dict[str, Any], towns: int = 40) -> tuple[float, float, float]:
    """Infections a head of many small towns, of ours and of Mesa's, and how likely so great a difference is.

    Raises:
        AssertionError: the contestants do not play by the same rules.
    """
    params = settings(1000, 40, contact)
    spec = game(**params)
    ours = [played(spec.model_copy(update={"seed": n})).metrics[-1]["infections"] for n in range(towns)]
    theirs = [mesa_epidemic.infections(EpidemicParams.model_validate(params), n, 40) for n in range(towns)]
    p_value = float(stats.ttest_ind(ours, theirs, equal_var=False).pvalue)
    assert p_value > 0.001, (
        f"the contestants play by different rules: {statistics.fmean(ours)}, {statistics.fmean(theirs)}"
    )
    return statistics.fmean(ours), statistics.fmean(theirs), p_value


def kept_seconds(params: dict[str, Any], kind: str) -> float:
    """A run by the clock: kept in memory, in a file, in a file whose committed ticks are on the disk (fsync), or in one
    whose ticks are all committed one by one (each)."""
    spec = game(**params)
    if kind == "each":
        spec = spec.model_copy(update={"durability": DurabilitySpec(together_ms=0.0)})
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        store = MemoryStore() if kind == "memory" else SqliteStore(Path(folder) / "store.db", sync=kind != "file")
        start = time.perf_counter()
        played(spec, store)
        elapsed = time.perf_counter() - start
        store.close()
    return elapsed


def peak(who: str) -> float:
    """Peak memory that a large population takes, in a process of its own, in MiB."""
    command = [sys.executable, "-m", "benchmarks.simulation_population", "--peak", who]
    return float(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def play_large(who: str) -> None:
    """What `peak` measures: all that Python and numpy allocate from here on. Prints the MiB."""
    params = settings(LARGE, 10, CONTACTS["complete mixing"])
    tracemalloc.start()
    if who == "ours":
        played(game(**params))
    elif who == "mesa":
        mesa_epidemic.infections(EpidemicParams.model_validate(params), 0, 10)
    elif who == "brains":
        brain = {"kind": "scripted", "policy": "considerate"}
        people = {"kind": "mix", "count": LARGE, "groups": [{"brain": brain}]}
        town = {"scenario": "epidemic", "params": {**params, "days": 1}, "topology": {"kind": "none"}, "max_ticks": 1}
        played(SimulationSpec.model_validate({**town, "population": people}))
    print(json.dumps(tracemalloc.get_traced_memory()[1] / 2**20))


def speed(inhabitants: int, days: int, repetitions: int) -> tuple[list[Row], list[str]]:
    """Against Mesa, in its fastest form and in the form of its guide."""
    rows, notes = [], []
    for name, contact in CONTACTS.items():
        ours, theirs, p_value = same_rules(contact)
        notes.append(f"Same rules, {name}: {ours:.3f} infections a head against {theirs:.3f} (p = {p_value:.2f}).")
        params = settings(inhabitants, days, contact)
        contestants: dict[str, Callable[[], float]] = {
            "ours": partial(rate, params),
            "mesa": partial(mesa_rate, params),
            "guide": partial(mesa_rate, params, as_in_its_guide=True),
        }
        interleave(contestants, repetitions=1)
        samples = interleave(contestants, repetitions=repetitions)
        what = f"inhabitants x days a second, {inhabitants} x {days}, {name}"
        found, guide = ratio(samples, "ours", "mesa"), ratio(samples, "ours", "guide")
        figure = f"{found} ({statistics.median(samples['ours']) / 1e6:.1f} million a second)"
        rows.append(Row(what, "Mesa, `AgentSet.do`", ">= 10", figure, found.median >= 10))
        rows.append(Row(what, "Mesa, `shuffle_do` and `DataCollector`", "report", str(guide), None))
    return rows, notes


def durability(inhabitants: int, days: int, repetitions: int) -> list[Row]:
    """What it costs to have each tick on the disk."""
    params = settings(inhabitants, days, CONTACTS["complete mixing"])
    kinds = {kind: partial(kept_seconds, params, kind) for kind in ("memory", "file", "fsync", "each")}
    interleave(kinds, repetitions=1)
    samples = interleave(kinds, repetitions=repetitions)
    found, alone = ratio(samples, "fsync", "file"), ratio(samples, "each", "file")
    each = (statistics.median(samples["fsync"]) - statistics.median(samples["file"])) / days * 1000
    tick = statistics.median(samples["file"]) / days * 1000
    what = f"time of {inhabitants} inhabitants x {days} days, every committed tick on the disk"
    figure = f"{found} ({each:.2f} ms added to ticks of {tick:.1f} ms)"
    return [
        Row(what, "the same file without fsync", "<= 1.3", figure, found.median <= 1.3),
        Row(what, "kept in memory", "report", str(ratio(samples, "fsync", "memory")), None),
        Row("the same, each tick committed by itself", "the file without fsync", "report", str(alone), None),
    ]


def memory() -> list[Row]:
    """Peak memory of large populations."""
    used = {who: peak(who) for who in ("ours", "mesa", "brains")}
    figures = {who: f"{mib:.1f} MiB, {mib * 2**20 / LARGE:.0f} bytes each" for who, mib in used.items()}
    what = f"peak memory, {LARGE} inhabitants"
    return [
        Row(f"{what} x 10 days", f"Mesa: {figures['mesa']}", "report", figures["ours"], None),
        Row(f"{what} with a profile and a brain each, x 1 day", "-", "report", figures["brains"], None),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="for `make bench`; there is no model to move")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--inhabitants", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--peak", choices=("ours", "mesa", "brains"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        play_large(args.peak)
        return 0
    rows, notes = speed(args.inhabitants, args.days, args.repetitions)
    rows += durability(args.inhabitants, args.days, args.repetitions)
    rows += memory()
    notes += [
        "Speeds are by processor time, one thread each. Ours holds the hashed history of the run; Mesa keeps counts.",
        "A day of this town is short: days of 20 ms together are one transaction, and none counts as committed before."
        " Where models answer, each tick is committed by itself.",
    ]
    title = "Simulations of populations: an epidemic"
    save(
        Report(
            "simulation_population",
            title,
            f"python -m benchmarks.simulation_population --repetitions {args.repetitions}",
            rows,
            notes,
        )
    )
    for row in rows:
        print(f"{row.what} against {row.against}: {row.measured}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
