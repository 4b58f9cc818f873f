from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steerline import doctor
from steerline.doctor import Finding, Verdict
from steerline.orchestration import stack as stacks
from steerline.orchestration.stack import Stack


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """The endpoints that `up` was asked for; nothing is started."""
    asked: list[Path | None] = []

    def up(*, endpoint: Path | None, **_: Any) -> tuple[Stack, bool]:
        asked.append(endpoint)
        port = None if endpoint is None else 8123
        (tmp_path / "home").mkdir(exist_ok=True)
        return Stack("id", tmp_path / "home", tmp_path, 8265, 6379, 5000, {}, port), True

    monkeypatch.setattr(stacks, "up", up)
    return asked


def test_doctor_prints_findings_with_their_remedy_and_fails_when_something_is_missing(
    steerline, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = Finding("torch", Verdict.MISSING, "not installed", "make install")
    findings = [torch, Finding("disk", Verdict.OK, "9 GiB")]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    ran = steerline("doctor")
    assert ran.code == 1
    assert "make install" in ran.out
    assert json.loads(steerline("doctor", "--json").out)[0]["verdict"] == "missing"
    findings.pop(0)
    assert steerline("doctor").code == 0


def test_doctor_builds_and_looks_at_nothing_else_when_asked_to(steerline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "build", lambda: [Finding("kernels", Verdict.MISSING, "no g++", "apt install g++")])
    ran = steerline("doctor", "--build")
    assert ran.code == 1
    assert "no g++" in ran.out
    assert "python" not in ran.out


def test_doctor_lists_the_packaged_resources(steerline) -> None:
    assert "smollm2-135m-instruct" in steerline("doctor", "--packaged").out
    rows = json.loads(steerline("doctor", "--packaged", "--json").out)
    assert {"name", "package", "rows", "size_mib", "licence"} == rows[0].keys()


def test_down_without_a_stack_says_so(steerline) -> None:
    ran = steerline("down")
    assert ran.code == 0
    assert "nothing was running" in ran.out


def test_up_starts_the_endpoint_and_says_where_its_first_key_lies(steerline, started, tmp_path: Path) -> None:
    (tmp_path / "deploy" / "serve").mkdir(parents=True)
    (tmp_path / "deploy" / "serve" / "simulation.yaml").touch()
    ran = steerline("up")
    assert started == [Path("deploy/serve/simulation.yaml")]
    assert "http://127.0.0.1:8123/console/" in ran.out
    assert str(tmp_path / "home" / "key") in ran.out
    assert (tmp_path / "home" / "key").read_text().strip() not in ran.out


def test_up_does_without_an_endpoint_when_told_to_and_outside_a_repository(steerline, started) -> None:
    assert "there is no deploy/serve/simulation.yaml here" in steerline("up").err
    ran = steerline("up", "--no-serve")
    assert not ran.err.count("warning")
    assert started == [None, None]
    assert "console" not in ran.out
    assert steerline("up", "--endpoint", "mine.yaml").code == 0
    assert started[-1] == Path("mine.yaml")
