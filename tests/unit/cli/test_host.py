from __future__ import annotations

import json

import pytest

from steerline import doctor
from steerline.doctor import Finding, Verdict


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
