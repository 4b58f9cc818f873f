"""A run that travels as a folder, and its reasoning traces."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from steerline.errors import CorruptLogError, SimulationError
from steerline.simulation.bundle import read_bundle, write_bundle
from steerline.simulation.replay import fork, replay_strictly
from steerline.simulation.result import Result
from steerline.simulation.runner import run
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.traces import traces, write_traces
from tests.unit.simulation.chat import chat
from tests.unit.simulation.worlds import MODEL, Server, drawn, llm, spec

SPEC = spec(llm(attempts=2, steering={"boost": {"strength": 0.5}}), llm(), "conditional")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def result(store: MemoryStore) -> Result:
    return run(SPEC, store=store, sim="s", backends={"m": Server()})


def test_a_bundle_is_replayed_without_its_store(result: Result, store: MemoryStore, tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(result, store, tmp_path / "run"))
    assert asyncio.run(replay_strictly(bundle.spec, bundle.events, bundle.calls)).hash == result.hash


def test_a_manifest_says_what_the_run_was_made_of(result: Result, store: MemoryStore, tmp_path: Path) -> None:
    kept = read_bundle(write_bundle(result, store, tmp_path)).manifest
    assert (kept["hash"], kept["ticks"], kept["calls"], kept["seed"]) == (result.hash, 4, 8, 0)
    assert any(line.startswith("numpy==") for line in kept["packages"])
    assert "not" in kept["determinism"]
    asyncio.run(fork(store, "s", "t", 2))
    other = run(SPEC, store=store, sim="t", backends={"m": Server()})
    forked = read_bundle(write_bundle(other, store, tmp_path / "fork")).manifest["forked_from"]
    assert (forked["from"], forked["at"]) == ("s", 2)


def test_an_altered_bundle_is_refused(result: Result, store: MemoryStore, tmp_path: Path) -> None:
    path = write_bundle(result, store, tmp_path) / "events.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).replace(b'"parse":"ok"', b'"parse":"no"')
    path.write_bytes(gzip.compress(lines))
    with pytest.raises(CorruptLogError, match="not whole"):
        read_bundle(tmp_path)
    path.write_bytes(b"no gzip")
    with pytest.raises(SimulationError, match="cannot be read"):
        read_bundle(tmp_path)


def test_a_trace_says_who_was_asked_what_and_answered_what_under_which_steering(
    result: Result, store: MemoryStore, tmp_path: Path
) -> None:
    path = write_traces(result, store, tmp_path / "traces.jsonl.gz")
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert len(lines) == 12
    a, b, c = lines[:3]
    assert (a["agent"], a["model"], a["tick"]) == ("a", "m", 0)
    assert a["steering"]["boost"]["strength"] == 0.5
    assert b["steering"] is None
    assert c["prompt"] is None
    assert a["steps"] == ["I am a.\nANSWER: " + str(a["answer"])]
    assert "How many points" in a["question"]
    assert a["correct"] is None
    assert a["completion_tokens"] > 0


def test_a_trace_names_the_call_whose_answer_counted() -> None:
    store = MemoryStore()
    server = Server(lambda request: "hm" if len(request.messages) == 2 else drawn(request))
    result = run(spec(llm(attempts=2), "conditional"), store=store, sim="s", backends={"m": server})
    first = next(iter(traces(result, store)))
    assert first["calls"] == 2
    assert len(first["prompt"]) == 4
    assert "That could not be read" in first["prompt"][-1]


def test_a_trace_holds_the_messages_that_were_read() -> None:
    store = MemoryStore()
    result = run(
        chat("greet", llm(), models={"m": MODEL}), store=store, sim="s", backends={"m": Server(lambda r: "hi")}
    )
    last = list(traces(result, store))[-1]
    assert last["messages"] == [{"from": "a", "text": "a at 0.0"}]
