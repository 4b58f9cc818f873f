"""Files of registered versions that were fetched to this machine: those loaded longest ago make room on the disk.

Processes may share the folder. Whoever has a version's model holds a lock on its files, which ends with the process.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from steerline.tracking.registry import Registered

log = logging.getLogger("steerline.serving")

_LOCK = ".lock"
"""How the lock of a version's files ends. It says how many bytes they have, and by its date when they were loaded."""
_LEFT_S = 86_400.0
"""Age from which nobody can be at work on it any more."""


class FetchedFiles:
    """Gets versions' files from a server, once.

    Args:
        folder: where they are kept.
        most: bytes above which files go that nobody uses; none keeps all.
        fetch: gets a version's files into a folder, unless they are there already; raises `TrackingError`.
    """

    def __init__(self, folder: Path, most: int | None, fetch: Callable[[Registered, Path], Path]) -> None:
        self._folder = folder
        self._most = most
        self._fetch = fetch

    @contextmanager
    def of(self, version: Registered) -> Iterator[Path]:
        """The folder of a version's files, which stay inside the `with` block.

        Raises:
            TrackingError: the server is away or refuses.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        files = self._folder / f"{version.name}-{version.version}"
        path = files.with_name(files.name + _LOCK)
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            # On a full disk, a lower bound makes room for what is fetched.
            self._make_room()
            files = self._fetch(version, files)
            path.write_text(str(sum(file.stat().st_size for file in files.rglob("*") if file.is_file())))
            self._make_room()
            yield files

    def _make_room(self) -> None:
        """Removes what was loaded longest ago and nobody uses now. Locks stay, for somebody may wait for them."""
        if self._most is None:
            return
        self._tidy()
        paths = sorted(self._folder.glob(f"*{_LOCK}"), key=lambda path: path.stat().st_mtime_ns)
        sizes = {path: int(path.read_text() or 0) for path in paths}
        surplus = sum(sizes.values()) - self._most
        for path, size in sizes.items():
            if surplus > 0 and size and self._remove(path):
                surplus -= size

    def _tidy(self) -> None:
        """Removes what processes left that died while they fetched, or removed: it has no lock."""
        long_ago = time.time() - _LEFT_S
        for left in self._folder.iterdir():
            if left.is_dir() and not left.with_name(left.name + _LOCK).exists():
                with suppress(FileNotFoundError):  # another process may be at it as well
                    if left.stat().st_mtime < long_ago:
                        rmtree(left)

    def _remove(self, path: Path) -> bool:
        """Removes the files of a lock, unless somebody uses them."""
        files = path.with_suffix("")
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            lock.truncate(0)
            if files.is_dir():
                # They go at once, so that half of them is never taken for all, should this process die meanwhile.
                with TemporaryDirectory(dir=self._folder) as scratch:
                    files.rename(Path(scratch) / "files")
        log.info("the files of %s make room", files.name)
        return True
