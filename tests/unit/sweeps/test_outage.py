"""A sweep whose tracking server goes away while it goes on: it ends soon, and says what is missing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from steerline.config.load import Loaded
from steerline.sweeps import sweep as sweeps
from steerline.sweeps.board import Board
from steerline.sweeps.ledger import Ledger
from steerline.sweeps.sweep import Sweep
from steerline.tracking.references import RunRef
from tests.unit.sweeps.sweeps import LightTrials, sweep
from tests.unit.tracking.fake import RUN


class Server(ThreadingHTTPServer):
    """Finds no runs, and takes none; then it accepts without an answer, is gone, or refuses all it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hangs, self.refuses, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()

    def hang(self) -> None:
        self.hangs.set()

    def refuse(self) -> None:
        self.refuses.set()

    def end(self) -> None:
        self.ended.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.hangs.is_set():
            self.server.ended.wait()
            return
        known = self.path.endswith("/runs/search")
        refused = self.server.refuses.is_set()
        self.send_response(200 if known else 400 if refused else 503)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        refusal = {"error_code": "INVALID_PARAMETER_VALUE", "message": "no experiment 7"}
        self.wfile.write(json.dumps(refusal if refused and not known else {}).encode())

    def do_GET(self) -> None:
        self.headers["Content-Length"] = "0"
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    if not made.ended.is_set():
        made.end()


def test_the_report_is_drawn_while_the_server_takes_the_last_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERLINE_HOME", str(tmp_path))
    drawing, waited = threading.Event(), []

    def carry_out(board: Board, kind: LightTrials, run: RunRef, folder: Path, tell: Any) -> None:
        trials = board.take(3)
        results = list(zip(trials, kind.evaluate(trials), strict=True))
        board.put(results)
        for trial, found in results:
            tell(trial, found)

    def draw(*_: object) -> dict[str, str]:
        drawing.set()
        return {}

    class Slow(Mock):
        def record(self, *_: object, **__: object) -> None:
            waited.append(drawing.wait(20))

    monkeypatch.setattr(sweeps, "open_run", lambda *_: RUN)
    monkeypatch.setattr(sweeps, "carry_out", carry_out)
    monkeypatch.setattr(sweeps, "write_report", draw)
    monkeypatch.setattr(sweeps, "Recorder", Mock())
    monkeypatch.setattr("steerline.sweeps.record.Children", Slow)
    assert Sweep(Loaded(sweep(), {}, ()), LightTrials()).run() == 0
    assert waited == [True] * 3


@pytest.mark.parametrize(
    ("away", "stopped", "said"),
    [
        ("hang", False, "not yet in MLflow"),
        ("end", True, "not yet in MLflow"),
        ("refuse", False, "refused by MLflow at"),
    ],
)
def test_a_sweep_ends_soon_without_its_server_and_says_how_the_rest_gets_there(
    away: str,
    stopped: bool,
    said: str,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STEERLINE_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    run = RunRef(f"http://127.0.0.1:{server.server_port}", "1", "0" * 32)
    work = Sweep(Loaded(sweep(), {}, ()), LightTrials(), patience_s=0.5)
    began: list[float] = []

    def carry_out(board: Board, kind: LightTrials, run: RunRef, folder: Path, tell: Any) -> None:
        trials = board.take(3)
        if stopped:
            work.request_stop()
        getattr(server, away)()
        results = list(zip(trials, kind.evaluate(trials), strict=True))
        board.put(results)
        began.append(time.monotonic())
        for trial, found in results:
            tell(trial, found)

    monkeypatch.setattr(sweeps, "open_run", lambda *_: run)
    monkeypatch.setattr(sweeps, "carry_out", carry_out)
    assert work.run() == (130 if stopped else 0)
    # At most four requests of a second each one after another, the report, and a slow machine.
    assert time.monotonic() - began[0] < 60
    assert len(Ledger(work.folder).records) == 3
    (line,) = (line for line in capsys.readouterr().out.splitlines() if said in line)
    assert "3 trials" in line
    assert (away == "refuse") == ("INVALID_PARAMETER_VALUE: no experiment 7" in line)
    assert f"steerline resume {work.name}" in line
