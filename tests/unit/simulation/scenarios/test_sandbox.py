"""What code that agents wrote can do, and what it cannot."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from steerline.errors import SimulationError
from steerline.simulation.scenarios import sandbox
from steerline.simulation.scenarios.sandbox import evaluate


def given(code: str, expression: str = "1") -> str:
    return evaluate(textwrap.dedent(code), (expression,))[0]


def test_expressions_are_evaluated_after_the_code() -> None:
    code = "import math\ndef f(x):\n    return math.floor(x) + 1\n"
    assert evaluate(code, ("f(2.5)", "[f(0), 'a']")) == ("3", "[1, 'a']")


def test_results_do_not_hold_addresses() -> None:
    assert given("def f(): pass", "f") == "<function f at 0x0>"


def test_errors_of_code_and_of_expressions_are_results() -> None:
    assert evaluate("def f(:", ("1", "2")) == ("!SyntaxError: invalid syntax (<string>, line 1)",) * 2
    assert evaluate("", ("1 / 0", "3")) == ("!ZeroDivisionError: division by zero", "3")


def test_code_reaches_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "Error" in given(f"import socket\nsocket.create_connection(('127.0.0.1', {port}))")
        # The C module behind it, loaded by hand, opens files before it could open a socket.
        assert given("import _socket").startswith("!ModuleNotFoundError")
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_system_call_by_hand_is_refused() -> None:
    opened = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\ngot = libc.socket(2, 1, 0), ctypes.get_errno()"
    assert given(opened, "got") == "(-1, 1)"


def test_code_reads_and_writes_no_file(tmp_path: Path) -> None:
    secret, target = tmp_path / "secret", tmp_path / "target"
    secret.write_text("key")
    assert given(f"text = open({str(secret)!r}).read()", "text").startswith("!PermissionError")
    assert given(f"open({str(target)!r}, 'w').write('x')").startswith("!PermissionError")
    assert given(f"import os\nnames = os.listdir({str(tmp_path)!r})", "names").startswith("!PermissionError")
    assert not target.exists()


def test_code_sees_no_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "key")
    assert "key" not in given("import os  # environment", "dict(os.environ)")


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.fork()",
        "import os\nos.execv('/bin/true', ['true'])",
        "import os\nos.kill(os.getppid(), 15)",
        "import time\ntime.sleep(60)",
        "import _thread\n_thread.start_new_thread(print, ())",
    ],
)
def test_code_starts_signals_and_awaits_nothing(code: str) -> None:
    assert "Error" in given(code)


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import _thread\nlock = _thread.allocate_lock()\nlock.acquire()\nlock.acquire()",
        "import os\nos._exit(0)",
        "import os\nos.write(1, b'x' * 10 ** 6)",
        "import os\nos.write(1, b'[1]')\nos._exit(0)",
    ],
)
def test_code_that_never_returns_or_breaks_off_is_stopped(code: str) -> None:
    assert evaluate(code, ("1", "2")) == (given(code),) * 2
    assert given(code).startswith("!Stopped")


def test_memory_and_the_length_of_results_are_limited() -> None:
    assert given("x = [0] * 10 ** 9").startswith("!MemoryError")
    assert len(given("", "'x' * 10 ** 6")) == 1000


def test_what_code_prints_is_no_result() -> None:
    assert given("print('[\"7\"]')", "2") == "2"


def test_hashes_and_random_numbers_are_the_same_in_every_process() -> None:
    code = "import random\nfound = random.random(), list({'a', 'b', 'c', 'd'})"
    first = given(code, "found")
    evaluate.cache_clear()
    assert given(code, "found") == first


def test_the_same_code_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = given("once = 1", "once")

    def no_process(*args: object, **kwargs: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", no_process)
    assert given("once = 1", "once") == first


def test_without_isolation_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SimulationError, match="cannot be isolated"):
        given("never = 1")


def test_a_process_that_could_not_lock_itself_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "OUTPUT", 0)  # it cannot even say that it is locked
    with pytest.raises(SimulationError, match="cannot be isolated"):
        given("unlocked = 1")
