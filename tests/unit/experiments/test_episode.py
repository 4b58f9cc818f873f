"""Episodes as traces, and what a job records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from steerline.config.simulation_running import BudgetSpec
from steerline.experiments import episode as module
from steerline.experiments.episode import episode
from steerline.experiments.host import play_all
from steerline.experiments.record import record, table
from steerline.simulation.cells import cells
from steerline.simulation.runner import run
from steerline.tracking.recorder import Recorder
from tests.unit.experiments.jobs import debates, games
from tests.unit.tracking.fake import RUN, FakeBackend


def test_an_episode_has_a_span_for_each_tick_and_each_turn() -> None:
    trace = episode("a debate", run(debates().simulation), ())
    whole, *rest = trace.spans
    assert whole.name == "debate"
    assert whole.parent is None
    assert whole.outputs["rounds"] == 1
    ticks = [n for n, span in enumerate(trace.spans) if span.kind == "CHAIN" and n > 0]
    turns = [span for span in rest if span.kind == "AGENT"]
    assert len(turns) == 6
    assert {span.parent for span in turns} <= set(ticks)
    assert turns[0].outputs["text"].startswith("ANSWER")
    assert turns[0].attributes["parse"] == "ok"
    assert all(span.start_ns <= span.end_ns for span in trace.spans)


def test_above_a_thousand_turns_a_sample_gets_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TURNS", 4)
    result = run(games().simulation)
    turns = [span for span in episode("x", result, ()).spans if span.kind == "AGENT"]
    assert len(turns) == 4 == episode("x", result, ()).spans[0].attributes["turns shown"]


def test_a_job_records_numbers_files_figures_and_traces(tmp_path: Path) -> None:
    found = cells(debates())
    played = dict(zip(found, play_all(found, tmp_path / "sims", 1, lambda _: None), strict=True))
    server = FakeBackend()
    with Recorder(RUN, tmp_path / "spool", backend=server) as recorder:
        record(recorder, None, played, tmp_path / "sims")
    assert {"simulations.json", "simulations.md", "figures/metrics.png", "figures/graph.png"} <= set(server.files)
    assert {"simulations/events.jsonl.gz", "simulations/transcript.jsonl"} <= set(server.files)
    assert [step for step, _ in server.history("accuracy")] == [0, 1]
    assert server.history("efficiency/messages") == [(2, 3.0)]
    assert set(server.traces) == {"seed=0"}
    assert len(server.traces["seed=0"].spans) > 6


def test_a_later_attempt_brings_its_own_means(tmp_path: Path) -> None:
    found = cells(games(seeds=(0, 1)))
    tight = [
        replace(cell, spec=cell.spec.model_copy(update={"budgets": BudgetSpec(max_seconds=1e-9)})) for cell in found
    ]
    server, sims = FakeBackend(), tmp_path / "sims"
    for attempt in (tight, found):
        played = dict(zip(attempt, play_all(attempt, sims, 1, lambda _: None), strict=True))
        with Recorder(RUN, tmp_path / "spool", backend=server) as recorder:
            record(recorder, None, played, sims)
    assert server.history("efficiency/turns") == [(2, 3.0), (6, 9.0)]


def test_the_table_has_a_line_for_each_simulation(tmp_path: Path) -> None:
    found = cells(games(seeds=(0, 1)))
    played = dict(zip(found, play_all(found, tmp_path, 2, lambda _: None), strict=True))
    lines = table(played).splitlines()
    assert len(lines) == 4
    assert "mean_contribution" in lines[0]
    assert lines[2].startswith("| seed=0 | ended | 3 |")
