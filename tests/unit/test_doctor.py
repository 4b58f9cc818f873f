from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import httpx
import pytest

from steerline import doctor
from steerline.doctor import Verdict, examine
from steerline.orchestration import stack
from steerline.orchestration.ports import free_ports


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STEERLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "MLFLOW_TRACKING_URI", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


def found(check: str) -> doctor.Finding:
    return next(finding for finding in examine() if finding.check == check)


def test_every_finding_that_is_not_fine_says_how_to_mend_it() -> None:
    findings = examine()
    assert all(finding.fix for finding in findings if finding.verdict is not Verdict.OK)
    assert {"python", "C++ compiler", "torch", "GPU", "deepspeed", "versions", "token", "local stack"} <= {
        finding.check for finding in findings
    }


def test_a_missing_compiler_is_named_and_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    assert found("C++ compiler").verdict is Verdict.NOTE
    assert "slower" in found("C++ compiler").found
    assert "g++" in found("C++ compiler").fix


def test_the_kernels_are_built_ahead_into_the_cache(tmp_path: Path) -> None:
    (finding,) = doctor.build()
    assert finding.verdict is Verdict.OK
    assert Path(finding.found).is_relative_to(tmp_path / "cache")
    assert Path(finding.found).is_file()


@pytest.mark.parametrize(("compiler", "said"), [("no-such-compiler", "no-such-compiler"), ("false", "")])
def test_kernels_that_cannot_be_built_are_a_fault(monkeypatch: pytest.MonkeyPatch, compiler: str, said: str) -> None:
    monkeypatch.setenv("CXX", compiler)
    (finding,) = doctor.build()
    assert finding.missing
    assert said in finding.found
    assert finding.fix


def test_a_library_that_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name == "deepspeed" else name)
    assert found("deepspeed").missing
    assert not found("mlflow").missing


def test_versions_other_than_the_tested_ones_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    distribution = namedtuple("distribution", "name version")
    other = [distribution("Ray", "1.0.0"), distribution("torch", "2.13.0+cpu")]
    monkeypatch.setattr(doctor.importlib.metadata, "distributions", lambda: other)
    finding = found("versions")
    assert finding.verdict is Verdict.NOTE
    assert finding.found == "ray 1.0.0, tested with 2.60.0"


def test_a_token_that_others_can_read_is_a_fault(tmp_path: Path) -> None:
    assert found("token").verdict is Verdict.NOTE
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    assert found("token").missing
    assert found("token").fix == f"chmod 600 {token}"
    token.chmod(0o600)
    assert found("token").verdict is Verdict.OK
    assert "secret" not in str(examine())


def test_servers_that_do_not_answer_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    assert found("cluster").missing
    assert found("MLflow").missing


@pytest.mark.parametrize(("status", "text"), [(200, "http://h:1"), (401, "refuses the token")])
def test_a_clusters_answer_is_told_apart(monkeypatch: pytest.MonkeyPatch, status: int, text: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://h:1")
    monkeypatch.setattr(httpx, "get", lambda url, **kwargs: httpx.Response(status))
    assert text in found("cluster").found
    assert found("cluster").missing == (status != 200)


def test_a_full_disk_and_a_locked_cache_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 2**30))
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert found("disk for runs").missing
    assert found("cache").missing


def test_taken_standard_ports_are_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "is_free", lambda port: False)
    assert found("ports").verdict is Verdict.NOTE


def test_a_running_stack_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    local = stack.Stack("id", tmp_path, tmp_path, 1, 2, 3, {})
    monkeypatch.setattr(stack, "running", lambda: local)
    assert local.address in found("local stack").found
    assert found("MLflow").missing
