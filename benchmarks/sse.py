"""Many readers of the events of simulations on one replica: how late events come, what they cost, what slow ones hold.

    python -m benchmarks.sse [--readers 200] [--simulations 4] [--seconds 10] [--rate 20]

The service's own application runs under uvicorn in a process of its own; the readers are asyncio sockets in this one.
Ticks are committed to the store at a steady rate, as a host does. An event is late by the time from the return of its
commit to its arrival at a reader. A slow reader is a connection from which nothing is read after the first bytes, with
20 MB of events to be sent to it.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.results import Report, Row, save
from steerline.simulation.event import GENESIS, EventDraft, seal
from steerline.simulation.game import Game
from steerline.simulation.scenarios.public_goods import game
from steerline.simulation.store.sqlite import SqliteStore

SLOW_READERS = 50
LONG_EVENTS, LONG_BYTES = 2000, 10_000
EVENTS, LENGTH = 10, 400
"""Of a tick."""
_SERVER = """
import sys
from pathlib import Path
import uvicorn
from services.app import web_app
from services.parts import Parts
from steerline.config.serving import ServingSpec
from steerline.serving.keys import KeyBook
from steerline.simulation.store.sqlite import SqliteStore

class Nobody:
    async def wake(self, sim): pass
    async def models(self): return []

folder, port = Path(sys.argv[1]), int(sys.argv[2])
spec = ServingSpec(access={"required": False}, limits={"streams": 2000}, tracking=None, console=False)
store, keys = SqliteStore(folder / "simulations.db", sync=False), KeyBook(folder / "keys.json")
parts = Parts(spec, Nobody(), store, Nobody(), keys)
uvicorn.run(web_app(parts), host="127.0.0.1", port=port, log_level="warning", backlog=2048)
"""


class Run:
    """A simulation whose ticks are committed by hand."""

    def __init__(self, store: SqliteStore, sim: str) -> None:
        spec = game([("ann", "conditional"), ("bob", "free_rider")], rounds=10_000)
        self.sim = sim
        self.commits: dict[int, float] = {}
        """Number of a tick's last event to when its commit returned."""
        self._store = store
        store.create(sim, spec.model_dump(mode="json"), Game.of(spec).fingerprint)
        store.enlist(sim)
        self._lease = store.acquire(sim, "benchmark", 3600.0)
        self._seq, self._hash, self._tick = 0, GENESIS, 0

    def commit(self, count: int, length: int) -> None:
        """Commit so many events with texts of this length."""
        drafts = [EventDraft("decide", "action.taken", {"text": "x" * length}, "ann") for _ in range(count)]
        events = list(seal(drafts, self._tick, self._seq, self._hash, time.time()))
        self._store.append(self._lease, events)
        self._seq, self._hash, self._tick = events[-1].seq, events[-1].hash, self._tick + 1
        self.commits[self._seq] = time.perf_counter()

    def end(self) -> None:
        """Say that it has ended."""
        self._store.set_status(self._lease, "ended", "the benchmark is over")


async def read(port: int, run: Run) -> tuple[int, list[float]]:
    """Follow a simulation to its end; how many events came, and how late the last of each tick was."""
    reader, writer = await opened(port, run.sim)
    events, late = 0, []
    async for line in reader:
        if line.startswith(b"id: "):
            events += 1
            if (committed := run.commits.get(int(line[4:]))) is not None:
                late.append(time.perf_counter() - committed)
        elif line.startswith(b"event: end"):
            break
    writer.close()
    return events, late


async def opened(port: int, sim: str, buffer: int = 2**20) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream of events whose first bytes have come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=buffer)
    writer.write(
        f"GET /v1/simulations/{sim}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()
    )
    await reader.readuntil(b"retry")
    return reader, writer


async def followed(port: int, runs: Sequence[Run], readers: int, seconds: float, rate: float) -> list[Any]:
    """Readers who follow runs while these go on."""
    tasks = [asyncio.create_task(read(port, runs[n % len(runs)])) for n in range(readers)]
    await asyncio.sleep(1.0)  # all are connected
    began = time.perf_counter()
    for number in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        await asyncio.to_thread(runs[number % len(runs)].commit, EVENTS, LENGTH)
    for run in runs:
        run.end()
    return await asyncio.gather(*tasks)


async def held_by_slow_readers(port: int, server: psutil.Process) -> float:
    """Bytes that the server holds for each reader who reads nothing."""
    first, connection = await opened(port, "long", 1024)
    await asyncio.sleep(2.0)
    before = server.memory_info().rss
    slow = [await opened(port, "long", 1024) for _ in range(SLOW_READERS)]
    await asyncio.sleep(5.0)
    held = (server.memory_info().rss - before) / SLOW_READERS
    for _, writer in [(first, connection), *slow]:
        writer.close()
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="for `make bench`; there is no model to move")
    parser.add_argument("--repetitions", type=int, default=1, help="for `make bench`; the readers are the repetitions")
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--simulations", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=20.0, help="ticks a second, of all simulations together")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as (port, server):
        store = SqliteStore(Path(name) / "simulations.db", sync=False)
        runs = [Run(store, f"s{number}") for number in range(args.simulations)]
        long = Run(store, "long")
        for _ in range(LONG_EVENTS // 100):
            long.commit(100, LONG_BYTES)
        cpu, began = sum(server.cpu_times()[:2]), time.perf_counter()
        found = asyncio.run(followed(port, runs, args.readers, args.seconds, args.rate))
        wall = time.perf_counter() - began
        share, rss = (sum(server.cpu_times()[:2]) - cpu) / wall, server.memory_info().rss
        held = asyncio.run(held_by_slow_readers(port, server))
    expected = sum(len(run.commits) * EVENTS for run in runs) * args.readers // args.simulations
    report(args, found, expected, share, rss, held)


def report(
    args: argparse.Namespace,
    found: Sequence[tuple[int, list[float]]],
    expected: int,
    share: float,
    rss: int,
    held: float,
) -> None:
    """Keep and show the figures."""
    late = sorted(value for _, values in found for value in values)
    cuts = statistics.quantiles(late, n=100)
    events = sum(count for count, _ in found)
    p50, p95, p99 = (f"{cuts[place - 1] * 1e3:.0f}" for place in (50, 95, 99))
    command = f"python -m benchmarks.sse --readers {args.readers} --rate {args.rate:g}"
    rows = [
        Row(
            f"events that reached {args.readers} readers", "", f"{expected}, each once", str(events), events == expected
        ),
        Row("lateness of an event, p50 / p95 / p99 ms", "", "report", f"{p50} / {p95} / {p99}", None),
        Row("cores that the server took", "", "report", f"{share:.2f}", None),
        Row("memory of the server, MB", "", "report", f"{rss / 1e6:.0f}", None),
        Row("held for a reader who reads nothing, kB", "20 MB to send", "< 1500", f"{held / 1e3:.0f}", held < 1.5e6),
    ]
    notes = [
        f"{args.simulations} simulations, {args.rate:g} ticks a second of {EVENTS} events with {LENGTH} characters."
    ]
    for row in rows:
        print(row.what, row.measured)
    save(Report("sse", "Readers of events", command, rows, notes))


@contextmanager
def served(folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The service in a process of its own: its port, and the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", _SERVER, str(folder), str(port)])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    main()
