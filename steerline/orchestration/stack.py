"""A Ray head, an MLflow server and, where wanted, an endpoint on this machine's loopback interface, and nothing else.

Each is a process of its own, recorded in the state folder: what `up` started, `down` ends, and only that. Ports are
free ones, Ray's temporary folder is new, and the token file belongs to this stack, so several stacks live side by side.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from steerline.errors import StackError
from steerline.home import HOME_VARIABLE, home
from steerline.orchestration import auth, processes
from steerline.orchestration import endpoint as endpoints
from steerline.orchestration.health import Server, wait_until_healthy
from steerline.orchestration.ports import HOST, free_ports, is_free
from steerline.orchestration.processes import MARK, ProcessRecord
from steerline.orchestration.stack_folders import locked, temporary_folder, usable
from steerline.orchestration.tracking_database import database_uri

_STATE_FILE = "stack.json"
STANDARD_PORTS = (8265, 5000)
_OBJECT_STORE_BYTES = 200 * 2**20
# A driver that is stopped saves a checkpoint first; Ray's own default of 3 s is too short for that.
STOP_WAIT_S = 60
# Its models may have to be fetched first.
_ENDPOINT_DEADLINE_S = 600.0
# Its replicas have 30 s for the ticks that are under way.
_ENDPOINT_END_S = 45.0
# Settings of another cluster or server in the caller's environment must not reach ours.
_FOREIGN = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_TMPDIR")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Stack:
    """A local stack: its servers, where they listen and what belongs to them."""

    id: str
    folder: Path
    """State folder: token, database, artefacts, logs."""
    temporary: Path
    """Ray's own folder of sockets and session logs."""
    dashboard_port: int
    gcs_port: int
    mlflow_port: int
    servers: Mapping[str, ProcessRecord]
    """The processes started so far: `ray`, `mlflow`, and `endpoint` where it is wanted."""
    endpoint_port: int | None = None

    @property
    def address(self) -> str:
        """Where jobs are submitted; also the dashboard."""
        return f"http://{HOST}:{self.dashboard_port}"

    @property
    def tracking_uri(self) -> str:
        """The MLflow server."""
        return f"http://{HOST}:{self.mlflow_port}"

    @property
    def endpoint(self) -> str | None:
        """The endpoint, where one was started."""
        return None if self.endpoint_port is None else f"http://{HOST}:{self.endpoint_port}"

    @property
    def token_path(self) -> Path:
        """The token file, readable by this user alone."""
        return self.folder / "auth_token"

    def environment(self) -> dict[str, str]:
        """What a client of this stack needs in its environment: `ray job submit`, `ray.init()` and MLflow read it."""
        return {
            "RAY_ADDRESS": f"{HOST}:{self.gcs_port}",
            # Job clients take this before RAY_ADDRESS.
            "RAY_API_SERVER_ADDRESS": self.address,
            auth.MODE_VARIABLE: "token",
            auth.TOKEN_PATH_VARIABLE: str(self.token_path),
            # Otherwise Ray replaces 127.0.0.1 by an address that other machines can reach.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            HOME_VARIABLE: str(self.folder),
        }


_STATE = TypeAdapter(Stack)


def up(
    state_dir: Path | str | None = None,
    *,
    num_cpus: int | None = None,
    endpoint: Path | None = None,
    standard_ports: bool = True,
    tell: Tell = lambda _: None,
) -> tuple[Stack, bool]:
    """Start the stack, or what is missing of it, and wait until its servers answer.

    Args:
        state_dir: where its state lives; none takes `$STEERLINE_HOME`, else `.steerline`.
        num_cpus: CPUs that Ray may hand out; none takes what the machine has.
        endpoint: Serve config of an endpoint, started in the working directory; none starts none.
        standard_ports: listen on 8265, 5000 and 8000 when they are free.
        tell: is called with a line now and then.

    Returns:
        the stack, and whether its Ray and MLflow were started by this call.

    Raises:
        StackError: a server ended or did not answer in time, and a stack that this call had started is ended again;
            or the state folder or the endpoint's config cannot be used.
    """
    folder = _folder(state_dir)
    # Before anything is started, which takes a while.
    config = None if endpoint is None else endpoints.read(endpoint)
    with locked(folder):
        earlier = _read(folder)
        stack = None if earlier is None else _cleared(earlier)
        started = stack is None or not _can_go_on(stack)
        if stack is None or started:
            if stack is not None:
                tell("a part of the stack has ended; starting afresh")
                _end(stack)
            stack = _start(folder, num_cpus, standard_ports, tell)
        else:
            if "mlflow" not in stack.servers:
                stack = _launch(stack, "mlflow", _mlflow_command(stack), tell)
            wait_until_healthy(_checks(stack), tell)
        if config is not None and "endpoint" not in stack.servers:
            stack = _serve(stack, config, standard_ports, started, tell)
        return stack, started


def down(state_dir: Path | str | None = None, *, tell: Tell = lambda _: None) -> bool:
    """End the recorded processes and everything they started; other clusters on the machine are left alone.

    Job logs are kept under `logs/jobs` of the state folder.

    Returns:
        whether there was anything to end.

    Raises:
        StackError: a process could not be ended.
    """
    folder = _folder(state_dir)
    if not folder.is_dir():
        return False
    with locked(folder):
        stack = _read(folder)
        if stack is None:
            return False
        tell("stopping " + ", ".join(stack.servers))
        _end(stack)
        return True


def running(state_dir: Path | str | None = None) -> Stack | None:
    """The stack of this state folder if its Ray and MLflow run."""
    stack = _read(_folder(state_dir))
    return stack if stack is not None and _all_run(stack) else None


def environment(state_dir: Path | str | None = None) -> dict[str, str]:
    """The environment for clients of the running stack.

    Raises:
        StackError: no stack runs.
    """
    stack = running(state_dir)
    if stack is None:
        raise StackError("no local stack is running", where=str(_folder(state_dir)), fix="steerline up")
    return stack.environment()


def _start(folder: Path, num_cpus: int | None, standard_ports: bool, tell: Tell) -> Stack:
    dashboard, mlflow, gcs, *ray_ports = free_ports(9, STANDARD_PORTS if standard_ports else ())
    stack = Stack(
        id=uuid.uuid4().hex,
        folder=folder,
        temporary=temporary_folder(),
        dashboard_port=dashboard,
        gcs_port=gcs,
        mlflow_port=mlflow,
        servers={},
    )
    try:
        with usable(folder):
            auth.create_token(stack.token_path)
        commands = {"ray": _ray_command(stack, ray_ports, num_cpus), "mlflow": _mlflow_command(stack)}
        for name, command in commands.items():
            stack = _launch(stack, name, command, tell)
        wait_until_healthy(_checks(stack), tell)
    except BaseException:
        _end(stack)
        raise
    return stack


def _launch(stack: Stack, name: str, command: list[str], tell: Tell) -> Stack:
    """The stack with another server."""
    tell(f"starting {name}")
    # Nothing is started that could not be noted. `down` finds by its mark what is killed before it is.
    _write(stack)
    log = stack.folder / "logs" / f"{name}.log"
    try:
        record = processes.start(command, _server_environment(stack), log)
    except OSError as error:
        raise StackError(
            f"{name} could not be started",
            where=str(log),
            got=error,
            expected="a program that can be run, room for a further process, and a log that can be written",
            fix="make room; `steerline doctor` lists what this machine lacks",
        ) from error
    stack = dataclasses.replace(stack, servers={**stack.servers, name: record})
    # At once, so that `down` finds it even if this process is killed now.
    _write(stack)
    return stack


def _serve(stack: Stack, config: Mapping[str, Any], standard_ports: bool, started: bool, tell: Tell) -> Stack:
    """The stack with its endpoint. Where that fails, a stack that this call had started is ended."""
    # Serve outlives the process that deployed it, and keeps its port.
    port = stack.endpoint_port or free_ports(1, (endpoints.STANDARD_PORT,) if standard_ports else ())[0]
    try:
        beside = _checks(stack)
        command = _endpoint_command(stack, config, port)
        stack = _launch(dataclasses.replace(stack, endpoint_port=port), "endpoint", command, tell)
        new = [server for server in _checks(stack) if server not in beside]
        wait_until_healthy(new, tell, beside=beside, deadline_s=_ENDPOINT_DEADLINE_S)
    except BaseException:
        if started:
            _end(stack)
        raise
    return stack


def _endpoint_command(stack: Stack, config: Mapping[str, Any], port: int) -> list[str]:
    with usable(stack.folder):
        return endpoints.command(config, stack.folder, f"{HOST}:{stack.gcs_port}", port)


def _ray_command(stack: Stack, ports: list[int], num_cpus: int | None) -> list[str]:
    metrics, client, agent, agent_grpc, node_manager, object_manager = ports
    command = [
        # A child that blocks, not a daemon: its pid heads everything Ray starts.
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--node-ip-address={HOST}", f"--dashboard-host={HOST}", f"--temp-dir={stack.temporary}"),
        *(f"--port={stack.gcs_port}", f"--dashboard-port={stack.dashboard_port}"),
        *(f"--metrics-export-port={metrics}", f"--ray-client-server-port={client}"),
        *(f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"),
        *(f"--node-manager-port={node_manager}", f"--object-manager-port={object_manager}"),
        # The system picks workers' ports, so that two clusters on a machine cannot want the same.
        *("--min-worker-port=0", "--max-worker-port=0", f"--object-store-memory={_OBJECT_STORE_BYTES}"),
    ]
    return command if num_cpus is None else [*command, f"--num-cpus={num_cpus}"]


def _mlflow_command(stack: Stack) -> list[str]:
    store = stack.folder / "mlflow"
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(stack.mlflow_port)),
        *("--workers", "1", "--backend-store-uri", database_uri(store)),
        *("--serve-artifacts", "--artifacts-destination", str(store / "artifacts")),
    ]


def _server_environment(stack: Stack) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    client = {name: value for name, value in stack.environment().items() if name not in _FOREIGN}
    return {
        **inherited,
        **client,
        # Drivers and workers call `python` and `ray` of this environment.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
        # A single node has nowhere to move its work to.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        # Scheduled server-side work, which nothing here uses, would take several more processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        MARK: stack.id,
        # Ray renames its processes, which overwrites their environment in the process table, mark included.
        "SPT_NOENV": "1",
    }


def _checks(stack: Stack) -> list[Server]:
    urls = {
        "ray": f"{stack.address}/api/jobs/",
        "mlflow": f"{stack.tracking_uri}/health",
        "endpoint": f"{stack.endpoint}/readyz",
    }
    headers = {"ray": auth.headers(stack.environment())}
    return [
        Server(name, urls[name], process, stack.folder / "logs" / f"{name}.log", headers.get(name, {}))
        for name, process in stack.servers.items()
    ]


def _end(stack: Stack) -> None:
    endpoint = stack.servers.get("endpoint")
    if endpoint is not None:
        # `serve run` ends its replicas in good order only then: they hand over what they play.
        processes.interrupt(endpoint, _ENDPOINT_END_S)
    left = processes.end(stack.servers.values(), stack.id)
    if left:
        raise StackError(
            "some processes of the stack could not be ended",
            where=str(stack.folder),
            got=f"pids {', '.join(map(str, left))}",
            fix="end them by hand, then `steerline down` again",
        )
    with usable(stack.folder):
        _keep_job_logs(stack)
        shutil.rmtree(stack.temporary, ignore_errors=True)
        _state_file(stack.folder).unlink(missing_ok=True)


def _keep_job_logs(stack: Stack) -> None:
    kept = stack.folder / "logs" / "jobs"
    for log in stack.temporary.glob("session_2*/logs/job-driver-*.log"):
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy2(log, kept / log.name.removeprefix("job-driver-"))


def _folder(state_dir: Path | str | None) -> Path:
    return home() if state_dir is None else Path(state_dir).absolute()


def _state_file(folder: Path) -> Path:
    return folder / _STATE_FILE


def _all_run(stack: Stack) -> bool:
    # Jobs need these two; a missing endpoint is started beside them.
    return {"ray", "mlflow"} <= _living(stack).servers.keys()


def _can_go_on(stack: Stack) -> bool:
    """Whether what has ended can be started beside its Ray: jobs that are going know MLflow's port."""
    return "ray" in stack.servers and ("mlflow" in stack.servers or is_free(stack.mlflow_port))


def _cleared(stack: Stack) -> Stack:
    """The stack without servers that have ended, whose workers are ended too: they may keep the port."""
    living = _living(stack)
    for name in stack.servers.keys() - living.servers.keys():
        processes.end_orphans(stack.servers[name], stack.id)
    return living


def _living(stack: Stack) -> Stack:
    """The stack without servers that have ended."""
    servers = {name: record for name, record in stack.servers.items() if processes.find(record) is not None}
    return dataclasses.replace(stack, servers=servers)


def _write(stack: Stack) -> None:
    file = _state_file(stack.folder)
    draft = file.with_suffix(".new")
    with usable(stack.folder):
        draft.write_bytes(_STATE.dump_json(stack, indent=2))
        draft.replace(file)


def _read(folder: Path) -> Stack | None:
    file = _state_file(folder)
    with usable(folder):
        text = file.read_bytes() if file.is_file() else None
    try:
        return None if text is None else _STATE.validate_json(text)
    except ValidationError as error:
        raise StackError(
            "the state of the local stack cannot be read",
            where=str(file),
            got=error,
            fix="end what is left of it by hand (`ps`), and remove the file",
        ) from error
