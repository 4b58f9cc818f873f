"""What the entry points of all jobs share."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import entry
from steerline.config.kinds import JOB_KINDS
from steerline.config.load import Loaded
from steerline.errors import DataError, PreflightError
from steerline.orchestration import preflight
from steerline.orchestration.preflight.core import Finding, Report, failure, warning
from steerline.training import opening, ray_trainer
from tests.unit.experiments.jobs import games

EACH = pytest.mark.parametrize("kind", sorted(JOB_KINDS))


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """A test leaves SIGTERM as it found it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What preflight finds: a list that a test fills."""
    findings: list[Finding] = []

    def look(*_: object, **__: object) -> Report:
        return Report(tuple(f for f in findings if f.fatal), tuple(f for f in findings if not f.fatal))

    monkeypatch.setattr(preflight, "preflight", look)
    monkeypatch.setattr(ray_trainer, "cluster_nodes", list)
    return findings


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why MLflow was told that the run did not start."""
    reasons: list[str] = []
    monkeypatch.setattr(opening, "close_if_unstarted", lambda spec, error: reasons.append(str(error)))
    return reasons


class Scripted:
    """A driver that does what it is told."""

    def __init__(self, does: Any) -> None:
        self.run = does


def loaded() -> Loaded[Any]:
    return Loaded(games(), {}, (Path("x.yaml"),))


@EACH
def test_every_kind_of_job_has_an_entry_point_whose_help_teaches(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module(f"jobs.{kind}").main(["--help"])
    said = capsys.readouterr().out
    assert f"usage: python -m jobs.{kind} " in said
    assert f"python -m jobs.{kind} jobs/configs/" in said
    assert "exit codes:\n  0 finished   2 config   3 preflight" in said
    assert "130 stopped" in said


@EACH
def test_a_bad_config_ends_every_job_with_the_configs_exit_code(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(f"kind: {kind}\nnaem: x\n")
    assert importlib.import_module(f"jobs.{kind}").main([str(file)]) == 2
    assert "naem" in capsys.readouterr().err


@EACH
def test_a_config_of_another_kind_is_sent_to_its_own_entry_point(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(__file__).parents[3] / "jobs" / "configs" / "simulate_public_goods.yaml"
    if kind != "simulate":
        assert importlib.import_module(f"jobs.{kind}").main([str(file)]) == 2
        assert "python -m jobs.simulate FILE" in capsys.readouterr().err


def test_an_interrupted_job_ends_with_130(tmp_path: Path) -> None:
    file = Path(__file__).parents[3] / "jobs" / "configs" / "simulate_public_goods.yaml"

    def carry_out(_: object) -> int:
        raise KeyboardInterrupt

    assert entry.main("jobs.simulate", "", carry_out, [str(file)]) == entry.STOPPED_EXIT_CODE == 130


def test_overrides_reach_the_job(tmp_path: Path) -> None:
    file = Path(__file__).parents[3] / "jobs" / "configs" / "simulate_public_goods.yaml"
    names: list[str] = []

    def carry_out(given: Loaded[Any]) -> int:
        names.append(given.spec.name)
        return 0

    assert entry.main("jobs.simulate", "", carry_out, [str(file), "--set", "name=other"]) == 0
    assert names == ["other"]


def test_what_preflight_finds_wrong_stops_the_job_before_its_driver_is_made(
    found: list[Finding], told: list[str]
) -> None:
    found.append(failure("no disk"))
    with pytest.raises(PreflightError, match="no disk"):
        entry.check_and_run(loaded(), lambda _: pytest.fail("made"))
    assert len(told) == 1
    assert "no disk" in told[0]


def test_a_warning_is_said_and_the_job_runs(found: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    found.append(warning("little disk"))
    assert entry.check_and_run(loaded(), lambda _: Scripted(lambda: 7)) == 7
    assert "warning: " in (said := capsys.readouterr().err)
    assert "little disk" in said


def test_an_error_of_the_driver_is_told_to_a_run_that_was_only_scheduled(found: list[Finding], told: list[str]) -> None:
    def fail() -> int:
        raise DataError("no rows")

    with pytest.raises(DataError):
        entry.check_and_run(loaded(), lambda _: Scripted(fail))
    assert len(told) == 1
    assert "no rows" in told[0]


def test_sigterm_interrupts_a_job_unless_its_driver_saves_first(found: list[Finding]) -> None:
    def terminated() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    with pytest.raises(KeyboardInterrupt):
        entry.check_and_run(loaded(), lambda _: Scripted(terminated))
    asked: list[str] = []

    def saving(_: object) -> Scripted:
        entry.on_sigterm(lambda: asked.append("save"))
        return Scripted(terminated)

    assert entry.check_and_run(loaded(), saving) == 0
    assert asked == ["save"]
