"""What this machine needs, what of it is missing, and how to mend that."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import httpx
from rich import box
from rich.markup import escape
from rich.table import Table

from steerline.data.catalogue import ENTRIES
from steerline.data.packaged import cache_dir
from steerline.home import home
from steerline.orchestration import auth, stack
from steerline.orchestration.ports import is_free
from steerline.orchestration.stack import STANDARD_PORTS, Stack

_PYTHON = (3, 11)
_DISK_GIB = 5.0
_TIMEOUT_S = 5.0
_INSTALL = "make install"
_INSTALL_COMPILER = "apt install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora), or name a compiler by CXX"


class Verdict(StrEnum):
    """What a check concludes."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; everything works without it, or it is a matter of what the machine is for."""
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One check's answer."""

    check: str
    verdict: Verdict
    found: str
    fix: str = ""

    @property
    def missing(self) -> bool:
        """Whether something necessary is missing."""
        return self.verdict is Verdict.MISSING

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {name: str(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Packaged:
    """A model or data set that a registry package carries."""

    name: str
    package: str
    rows: str
    size_mib: str
    licence: str


def examine() -> list[Finding]:
    """Run every check."""
    local = stack.running()
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _compiler,
        _torch,
        _libraries,
        _versions,
        lambda: _token(local),
        lambda: _servers(local),
        _disk,
        _cache,
    )
    return [finding for check in checks for finding in check()]


def build() -> list[Finding]:
    """Compile the CPU kernels of steering now, so that no job has to. Nothing else of ours is compiled."""
    from steerline.steering import native

    try:
        return [Finding("kernels", Verdict.OK, str(native.build()))]
    except subprocess.CalledProcessError as error:
        return [Finding("kernels", Verdict.MISSING, error.stderr.strip() or str(error), "a C++ compiler with OpenMP")]
    except OSError as error:
        return [Finding("kernels", Verdict.MISSING, str(error), _INSTALL_COMPILER)]


def findings_table(findings: list[Finding]) -> Table:
    """The findings for a terminal."""
    styles = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.MISSING: "bold red"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(overflow="fold")
    for finding in findings:
        verdict = f"[{styles[finding.verdict]}]{finding.verdict}[/]"
        advice = f"\n[dim]to mend it:[/] {escape(finding.fix)}" if finding.fix else ""
        table.add_row(finding.check, verdict, escape(finding.found) + advice)
    return table


def packaged() -> list[Packaged]:
    """The catalogue of models and data sets inside registry packages."""
    return [
        Packaged(
            name=name,
            package=f"{entry.archive.registry}:{entry.archive.package}=={entry.archive.version}",
            rows="model" if entry.rows is None else str(entry.rows),
            size_mib=f"{entry.archive_bytes / 2**20:.1f}",
            licence=entry.licence,
        )
        for name, entry in sorted(ENTRIES.items())
    ]


def packaged_table(rows: list[Packaged]) -> Table:
    """The catalogue for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("package")
    table.add_column("rows", justify="right")
    table.add_column("MiB", justify="right")
    table.add_column("licence", overflow="fold")
    for row in rows:
        table.add_row(row.name, row.package, row.rows, row.size_mib, escape(row.licence))
    return table


def _python() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= _PYTHON:
        yield Finding("python", Verdict.OK, f"{found} at {sys.executable}")
    else:
        yield Finding("python", Verdict.MISSING, found, "install Python 3.11 or newer, then `make install`")


def _compiler() -> Iterator[Finding]:
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    if path is None:
        found = f"no {name} on PATH; steering on CPUs runs without its kernels: same results, slower"
        yield Finding("C++ compiler", Verdict.NOTE, found, _INSTALL_COMPILER)
        return
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=30)
    yield Finding("C++ compiler", Verdict.OK, (version.stdout.splitlines() or [path])[0])


def _torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding("torch", Verdict.MISSING, "not installed", _INSTALL)
        return
    import torch

    yield Finding("torch", Verdict.OK, f"{torch.__version__}, {torch.get_num_threads()} threads here")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield Finding("GPU", Verdict.OK, names)
    else:
        yield Finding(
            "GPU", Verdict.NOTE, "none; training runs on the CPU", "use a small model, or a cluster with GPUs"
        )


def _libraries() -> Iterator[Finding]:
    for name in ("ray", "deepspeed", "transformers", "mlflow"):
        # Importing all of them would take half a minute and, for some, compile things.
        if importlib.util.find_spec(name) is None:
            yield Finding(name, Verdict.MISSING, "not installed", _INSTALL)
        else:
            yield Finding(name, Verdict.OK, importlib.metadata.version(name))


def _versions() -> Iterator[Finding]:
    constraints = Path(__file__).parents[1] / "constraints.txt"
    if not constraints.is_file():
        return  # an installed wheel: whoever installed it chose the versions
    pins = re.findall(r"^([\w.-]+)==(\S+)", constraints.read_text(), flags=re.MULTILINE)
    installed = {distribution.name.lower(): distribution.version for distribution in importlib.metadata.distributions()}
    # Local builds such as 2.13.0+cpu satisfy the pin.
    other = [
        f"{name} {version}, tested with {pin}"
        for name, pin in pins
        if (version := installed.get(name.lower())) is not None and version.partition("+")[0] != pin
    ]
    if other:
        yield Finding("versions", Verdict.NOTE, "; ".join(other), f"{_INSTALL} installs the tested ones")
    else:
        yield Finding("versions", Verdict.OK, "those of constraints.txt")


def _token(local: Stack | None) -> Iterator[Finding]:
    if os.environ.get(auth.TOKEN_VARIABLE):
        yield Finding("token", Verdict.OK, f"in {auth.TOKEN_VARIABLE}")
        return
    path = local.token_path if local is not None else auth.token_path()
    if not path.is_file():
        fix = "`steerline up` makes one for the local stack; for another cluster export RAY_AUTH_TOKEN_PATH"
        yield Finding("token", Verdict.NOTE, f"no file {path}", fix)
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Finding("token", Verdict.MISSING, f"others can read {path} ({mode:o})", f"chmod 600 {path}")
    else:
        yield Finding("token", Verdict.OK, str(path))


def _servers(local: Stack | None) -> Iterator[Finding]:
    if local is not None:
        yield Finding("local stack", Verdict.OK, f"{local.address} (Ray), {local.tracking_uri} (MLflow)")
    else:
        yield Finding("local stack", Verdict.NOTE, "not running", "steerline up")
        taken = [str(port) for port in STANDARD_PORTS if not is_free(port)]
        if taken:
            found = f"{', '.join(taken)} taken by other programs"
            yield Finding("ports", Verdict.NOTE, found, "none needed: `steerline up` takes other ports")
        else:
            yield Finding("ports", Verdict.OK, f"{', '.join(map(str, STANDARD_PORTS))} free")
    given = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    if given and given.startswith("http"):
        yield _cluster(given.rstrip("/"), local)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or (local.tracking_uri if local is not None else None)
    if uri is None:
        yield Finding("MLflow", Verdict.NOTE, "no server named", "steerline up, or export MLFLOW_TRACKING_URI")
    elif uri.startswith("http"):
        yield _mlflow(uri.rstrip("/"))


def _cluster(address: str, local: Stack | None) -> Finding:
    environment = local.environment() if local is not None and local.address == address else os.environ
    status = _status(f"{address}/api/version", auth.headers(environment))
    if status == httpx.codes.OK:
        return Finding("cluster", Verdict.OK, address)
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        fix = "export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE holding the cluster's token"
        return Finding("cluster", Verdict.MISSING, f"{address} refuses the token", fix)
    fix = "unset RAY_ADDRESS and RAY_API_SERVER_ADDRESS, or start that cluster"
    return Finding("cluster", Verdict.MISSING, f"{address} does not answer", fix)


def _mlflow(uri: str) -> Finding:
    if _status(f"{uri}/health", {}) == httpx.codes.OK:
        return Finding("MLflow", Verdict.OK, uri)
    fix = "start it, or unset MLFLOW_TRACKING_URI; runs go on without it and hand in their records later"
    return Finding("MLflow", Verdict.MISSING, f"{uri} does not answer", fix)


def _status(url: str, headers: dict[str, str]) -> int | None:
    try:
        return httpx.get(url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=False).status_code
    except httpx.TransportError:
        return None


def _disk() -> Iterator[Finding]:
    for name, folder in (("disk for runs", home()), ("disk for the cache", cache_dir())):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free / 2**30
        if free < _DISK_GIB:
            fix = "free some, or move it: STEERLINE_HOME for runs, STEERLINE_CACHE for the cache"
            yield Finding(name, Verdict.MISSING, f"{free:.1f} GiB free at {existing}", fix)
        else:
            yield Finding(name, Verdict.OK, f"{free:.0f} GiB free at {existing}")


def _cache() -> Iterator[Finding]:
    folder = cache_dir()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield Finding("cache", Verdict.MISSING, f"{existing} cannot be written", "export STEERLINE_CACHE=FOLDER")
        return
    archives = sum(1 for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    yield Finding("cache", Verdict.OK, f"{folder}, {archives} files" if archives else f"{folder}, empty")
