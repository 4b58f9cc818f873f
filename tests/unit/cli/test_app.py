from __future__ import annotations

import subprocess
import sys

import pytest

from steerline import __version__

COMMANDS = [
    *("validate", "preview", "schema"),
    *("submit", "status", "logs", "stop", "resume"),
    *("export", "compare", "lineage"),
    "simulate",
    *("doctor", "up", "down"),
]
HEAVY = "torch ray mlflow transformers datasets deepspeed numpy pydantic httpx psutil"


def test_the_command_line_starts_without_any_heavy_library() -> None:
    script = f"import sys, steerline.cli.app; print([n for n in {HEAVY.split()!r} if n in sys.modules])"
    started = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert started.stdout.strip() == "[]"


def test_the_version_is_printed(steerline) -> None:
    assert steerline("--version")[:2] == (0, f"steerline {__version__}\n")


def test_help_lists_every_command(steerline) -> None:
    ran = steerline("--help")
    assert ran.code == 0
    assert all(command in ran.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_commands_help_shows_an_example(steerline, command: str) -> None:
    ran = steerline(command, "--help")
    assert ran.code == 0
    assert f"steerline {command}" in ran.out.partition("Example")[2]


def test_an_error_is_one_message_with_its_exit_code(steerline) -> None:
    ran = steerline("validate", "nowhere.yaml")
    assert (ran.code, ran.out) == (2, "")
    assert "nowhere.yaml" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_traceback_is_shown_on_request(steerline, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    from steerline.errors import ConfigError

    arguments = ["validate", "nowhere.yaml"]
    if how == "option":
        arguments.insert(0, "--traceback")
    else:
        monkeypatch.setenv("STEERLINE_TRACEBACK", "1")
    with pytest.raises(ConfigError):
        steerline(*arguments)


def test_an_unknown_option_is_the_users_error(steerline) -> None:
    ran = steerline("validate", "--nonsense")
    assert ran.code == 2
    assert "--nonsense" in ran.err
