"""Runs code that agents wrote, in a process without files, network and other processes, with limits."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from steerline.errors import SimulationError
from steerline.simulation.scenarios import sandbox_child

SECONDS = 1
"""Processor time that code may take."""

MEMORY = 512 * 2**20
"""Address space, in bytes, that the process may take, the interpreter included."""

OUTPUT = 64 * 1024
"""Bytes that it may write."""


@lru_cache(maxsize=4096)
def evaluate(code: str, expressions: tuple[str, ...]) -> tuple[str, ...]:
    """What expressions give after some code. The same code is run once: its results are remembered.

    Comparing a result with what was expected is left to the caller, so that code cannot pass a test but by computing
    the right value.

    Args:
        code: Python source, untrusted.
        expressions: Python expressions, untrusted, evaluated one after another.

    Returns:
        for each expression the `repr` of its value, or `!` and the error.

    Raises:
        SimulationError: code cannot be isolated on this machine.
    """
    if sys.platform != "linux" or platform.machine() not in sandbox_child.CALLS:
        raise _no_isolation(f"{sys.platform} on {platform.machine()}")
    request = {"code": code, "expressions": expressions, "memory": MEMORY, "seconds": SECONDS, "output": OUTPUT}
    # -S -s -P: nothing of the environment; hashes of strings must not differ from run to run.
    command = [sys.executable, "-S", "-s", "-P", "-B", str(Path(sandbox_child.__file__))]
    with tempfile.TemporaryFile() as output:  # its size is limited, a pipe's flow is not
        # No limit of wall time: what can neither sleep nor wait uses up its processor time.
        done = subprocess.run(
            command,
            input=json.dumps(request).encode(),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PYTHONHASHSEED": "0"},
            cwd="/",
            check=False,
        )
        output.seek(0)
        first, _, rest = output.read().partition(b"\n")
    if first != b"locked":
        raise _no_isolation(rest.decode(errors="replace")[-500:])
    return _results(rest, done.returncode, len(expressions))


def _results(text: bytes, code: int, count: int) -> tuple[str, ...]:
    """The results that a process wrote; what it did instead, where it wrote none."""
    try:
        results = json.loads(text)
    except ValueError:
        results = None
    if isinstance(results, list) and len(results) == count and all(isinstance(result, str) for result in results):
        return tuple(results)
    stopped = f"more than {SECONDS} s" if code in (-signal.SIGXCPU, -signal.SIGKILL) else "the process ended early"
    return (f"!Stopped: {stopped}",) * count


def _no_isolation(got: str) -> SimulationError:
    return SimulationError(
        "code that agents write cannot be isolated on this machine, so that none is run",
        got=got,
        expected=f"Linux with seccomp filters on {' or '.join(sandbox_child.CALLS)}",
        fix="run the scenario on such a machine",
    )
