"""The folders of a stack: its state, on which one command at a time works, and Ray's own. Their faults are named."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from steerline.errors import StackError
from steerline.home import HOME_VARIABLE

# Unix socket paths hold about 100 characters, of which Ray needs about 65 below its temporary folder.
_LONGEST_TEMPORARY_FOLDER = 24


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Report what the system refuses as a fault of the folder. Holds what reads and writes its files, nothing else.

    Raises:
        StackError: the folder cannot be used.
    """
    try:
        yield
    except OSError as error:
        raise StackError(
            "the state folder cannot be used",
            where=str(folder),
            got=error,
            expected="a folder of yours on a disk with room",
            fix=f"make room, or name another one: export {HOME_VARIABLE}=FOLDER",
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder where there is none, and hold it: one `up` or `down` at a time.

    Raises:
        StackError: the folder cannot be used.
    """
    with ExitStack() as held:
        with usable(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = held.enter_context((folder / "stack.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def temporary_folder() -> Path:
    """A new folder for Ray's sockets and session logs, which nobody else may read.

    Raises:
        StackError: there is no room for it.
    """
    try:
        system = tempfile.gettempdir()
        parent = system if len(system) <= _LONGEST_TEMPORARY_FOLDER else "/tmp"  # mkdtemp makes it private  # noqa: S108
        return Path(tempfile.mkdtemp(prefix="sl-", dir=parent))
    except OSError as error:
        raise StackError(
            "Ray's temporary folder cannot be made",
            got=error,
            expected="a disk with room under the system's temporary folder",
            fix="make room, or name another one with a short path: export TMPDIR=FOLDER",
        ) from error
