from __future__ import annotations

import json

import pytest

from steerline import doctor
from steerline.doctor import Finding, Verdict


def test_doctor_prints_findings_with_their_remedy_and_fails_when_something_is_missing(
    steerline, monkeypatch: pytest.MonkeyPatch
) -> None:
    ninja = Finding("ninja", Verdict.MISSING, "not on PATH", "pip install ninja")
    findings = [ninja, Finding("disk", Verdict.OK, "9 GiB")]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    ran = steerline("doctor")
    assert ran.code == 1
    assert "pip install ninja" in ran.out
    assert json.loads(steerline("doctor", "--json").out)[0]["verdict"] == "missing"
    findings.pop(0)
    assert steerline("doctor").code == 0


def test_doctor_lists_the_packaged_resources(steerline) -> None:
    assert "smollm2-135m-instruct" in steerline("doctor", "--packaged").out
    rows = json.loads(steerline("doctor", "--packaged", "--json").out)
    assert {"name", "package", "rows", "size_mib", "licence"} == rows[0].keys()


def test_down_without_a_stack_says_so(steerline) -> None:
    ran = steerline("down")
    assert ran.code == 0
    assert "nothing was running" in ran.out
