from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from steerline.tracking import children
from steerline.tracking.children import Children
from tests.unit.tracking.fake import RUN


@dataclass
class Server:
    """Answers like MLflow's client, remembers each request, and is away for the requests in `away`."""

    requests: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    status: str = "RUNNING"
    away: set[int] = field(default_factory=set)

    def _asked(self, what: str) -> None:
        self.requests.append(what)
        if len(self.requests) in self.away:
            raise requests.ConnectionError

    def create_run(self, experiment_id: str, tags: dict[str, str], run_name: str) -> Any:
        self._asked("create")
        self.tags |= tags
        return SimpleNamespace(info=SimpleNamespace(run_id="1"), data=SimpleNamespace(params={}))

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        self._asked("log")
        self.metrics |= {one.key: one.value for one in metrics}
        self.params |= {one.key: one.value for one in params}
        self.tags |= {one.key: one.value for one in tags}

    def set_terminated(self, run_id: str, status: str) -> None:
        self._asked("end")
        self.status = status


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(children, "connect", lambda uri: made)
    monkeypatch.setattr(children, "search_runs", lambda *_: [])
    return made


def record(trials: Children) -> None:
    trials.record(
        "trial-0123",
        "scale=2 seed=0",
        kind="finetune",
        params={"scale": 2.0, "seed": 0},
        metrics={"heldout/loss_ce": 0.5},
        tags={"steerline.trial": "point"},
        status="FINISHED",
    )


def is_whole(server: Server) -> bool:
    named = server.tags["steerline.run_name"] == "trial-0123" and server.tags["mlflow.parentRunId"] == RUN.run_id
    told = server.params == {"scale": "2.0", "seed": "0"} and server.metrics == {"heldout/loss_ce": 0.5}
    return named and told and server.tags["steerline.trial"] == "point" and server.status == "FINISHED"


def test_a_trial_takes_three_requests(server: Server) -> None:
    record(Children(RUN))
    assert server.requests == ["create", "log", "end"]
    assert is_whole(server)


def test_a_trial_whose_server_goes_away_in_between_is_made_once_and_told_whole(server: Server) -> None:
    server.away = {2, 4}
    record(Children(RUN))
    assert server.requests == ["create", "log", "log", "end", "log", "end"]
    assert is_whole(server)
