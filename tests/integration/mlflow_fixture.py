"""A real MLflow server that can be killed and started again on the same port and database, and a PostgreSQL for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from steerline.orchestration.ports import free_ports


class MlflowServer:
    """Owns one server process in its own process group. On SQLite in its folder unless told another database."""

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.folder = folder
        self.database = database or f"sqlite:///{folder}/mlflow.db"
        (self.port,) = free_ports(1)
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 300.0) -> None:
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        arguments += ["--backend-store-uri", self.database]
        arguments += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *arguments],
                stdout=log,
                stderr=log,
                # Job execution would start two more processes that no test needs.
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.uri}/health", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
        raise AssertionError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        """SIGKILL, the whole process group, as a machine that goes away."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Postgres:
    """Owns one PostgreSQL server with an empty data folder, on loopback, without passwords."""

    def __init__(self) -> None:
        # PostgreSQL refuses to run as root, and the folders of a test are private to whoever runs it.
        self._user = "postgres" if os.getuid() == 0 else None
        (self.port,) = free_ports(1)
        self.uri = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"
        self._home = Path(tempfile.mkdtemp(prefix="steerline-postgres-"))
        if self._user is not None:
            shutil.chown(self._home, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        initdb = ["initdb", "--pgdata", str(self._home / "data"), "--username=postgres", "--auth=trust", "--no-sync"]
        subprocess.run(initdb, user=self._user, cwd=self._home, check=True, capture_output=True)

    def start(self) -> None:
        arguments = ["-D", str(self._home / "data"), "-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._home)]
        self._process = subprocess.Popen(
            ["postgres", *arguments],
            user=self._user,
            cwd=self._home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120.0
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return
            time.sleep(0.05)
        raise AssertionError("PostgreSQL does not answer")

    def stop(self) -> None:
        """A fast shutdown: open transactions are broken off."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(120)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._home)
