"""The stack's life with small web servers in place of Ray, MLflow and the endpoint."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import stat
import sys
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from steerline.errors import StackError
from steerline.orchestration import processes
from steerline.orchestration import stack as stacks
from steerline.orchestration.ports import is_free
from steerline.orchestration.stack import Stack

SERVER = """
import http.server, os, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["PATH"].encode())
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
FAILS = "raise SystemExit('no room left')"


def serve(port: int, script: str = SERVER) -> list[str]:
    return [sys.executable, "-c", script, str(port)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stacks, "_ray_command", lambda stack, ports, cpus: serve(stack.dashboard_port))
    monkeypatch.setattr(stacks, "_mlflow_command", lambda stack: serve(stack.mlflow_port))
    monkeypatch.setattr(stacks, "_endpoint_command", lambda stack, config, port: serve(port))
    monkeypatch.chdir(tmp_path)
    Path("serve.yaml").write_text("applications: []")
    yield tmp_path / "home"
    stacks.down(tmp_path / "home")


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def pids(stack: Stack) -> list[int]:
    return [record.pid for record in stack.servers.values()]


def test_up_starts_both_servers_once_and_down_ends_them(folder: Path) -> None:
    said: list[str] = []
    stack, started = stacks.up(folder, standard_ports=False, tell=said.append)
    assert started
    assert "ray is ready" in "\n".join(said)
    assert "mlflow is ready" in "\n".join(said)
    assert stacks.up(folder) == (stack, False)
    assert stacks.running(folder) == stack
    assert stacks.environment(folder)["MLFLOW_TRACKING_URI"] == stack.tracking_uri
    assert stacks.down(folder)
    assert stacks.running(folder) is None
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids(stack))
    assert not stack.temporary.exists()
    assert not stacks.down(folder)


def test_state_and_token_are_this_users_alone(folder: Path) -> None:
    stack, _ = stacks.up(folder, standard_ports=False)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(stack.token_path.stat().st_mode) == 0o600
    assert stack.token_path.read_text() not in (folder / "stack.json").read_text()


def test_a_second_folder_has_a_stack_of_its_own(folder: Path, tmp_path: Path) -> None:
    first, _ = stacks.up(folder)
    second, started = stacks.up(tmp_path / "second")
    assert started
    assert not {first.dashboard_port, first.mlflow_port, first.gcs_port} & {
        second.dashboard_port,
        second.mlflow_port,
        second.gcs_port,
    }
    stacks.down(tmp_path / "second")
    assert stacks.running(folder) == first


def test_a_server_that_fails_takes_the_other_down_and_shows_its_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacks, "_mlflow_command", lambda stack: serve(stack.mlflow_port, FAILS))
    with pytest.raises(StackError, match="mlflow ended while starting") as caught:
        stacks.up(folder, standard_ports=False)
    assert "no room left" in str(caught.value)
    assert not (folder / "stack.json").exists()
    assert not [p for p in psutil.process_iter() if str(folder) in environment_of(p).get("STEERLINE_HOME", "")]


def kill(stack: Stack, name: str) -> None:
    os.kill(stack.servers[name].pid, signal.SIGKILL)
    while processes.find(stack.servers[name]) is not None:
        pass


def test_a_stack_whose_ray_has_ended_is_replaced(folder: Path) -> None:
    stack, _ = stacks.up(folder, standard_ports=False)
    kill(stack, "ray")
    assert stacks.running(folder) is None
    fresh, started = stacks.up(folder, standard_ports=False)
    assert started
    assert processes.find(stack.servers["mlflow"]) is None
    assert fresh.id != stack.id


def test_mlflow_that_has_ended_comes_back_on_its_port_and_jobs_go_on(folder: Path) -> None:
    stack, _ = stacks.up(folder, standard_ports=False)
    kill(stack, "mlflow")
    assert stacks.running(folder) is None
    again, started = stacks.up(folder, standard_ports=False)
    assert not started
    assert again.tracking_uri == stack.tracking_uri
    assert again.servers["ray"] == stack.servers["ray"]
    assert stacks.running(folder) == again


def test_mlflow_whose_worker_has_outlived_it_comes_back_on_its_port_and_jobs_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {SERVER!r}, sys.argv[1]])"
    monkeypatch.setattr(stacks, "_mlflow_command", lambda stack: serve(stack.mlflow_port, worker))
    stack, _ = stacks.up(folder, standard_ports=False)
    kill(stack, "mlflow")
    assert not is_free(stack.mlflow_port)
    again, started = stacks.up(folder, standard_ports=False)
    assert not started
    assert again.tracking_uri == stack.tracking_uri
    assert again.servers["ray"] == stack.servers["ray"]
    assert stacks.running(folder) == again


def test_mlflow_whose_port_another_program_has_taken_comes_back_with_a_new_stack(folder: Path) -> None:
    stack, _ = stacks.up(folder, standard_ports=False)
    kill(stack, "mlflow")
    with socket.create_server(("127.0.0.1", stack.mlflow_port)):
        fresh, started = stacks.up(folder, standard_ports=False)
    assert started
    assert fresh.mlflow_port != stack.mlflow_port


def test_clients_elsewhere_do_not_leak_into_the_servers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://elsewhere:8265")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another cluster's")
    stack, _ = stacks.up(folder, standard_ports=False)
    inside = psutil.Process(stack.servers["ray"].pid).environ()
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN"} & inside.keys()
    assert inside["RAY_AUTH_TOKEN_PATH"] == str(stack.token_path)
    assert inside["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_without_a_stack_its_environment_is_an_error_that_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no local stack") as caught:
        stacks.environment(tmp_path)
    assert caught.value.fix == "steerline up"


def test_job_logs_survive_down(folder: Path) -> None:
    stack, _ = stacks.up(folder, standard_ports=False)
    logs = stack.temporary / "session_2026-01-01_00-00-00_000000_1" / "logs"
    logs.mkdir(parents=True)
    (logs / "job-driver-run-a1.log").write_text("trained\n")
    stacks.down(folder)
    assert (folder / "logs" / "jobs" / "run-a1.log").read_text() == "trained\n"


def test_the_state_file_reads_back_whole(folder: Path) -> None:
    stack, _ = stacks.up(folder, standard_ports=False)
    assert json.loads((folder / "stack.json").read_text())["servers"].keys() == {"ray", "mlflow"}
    assert stacks.running(folder) == stack


def test_an_endpoint_is_started_where_it_is_wanted_also_beside_a_stack_that_runs(folder: Path) -> None:
    plain, _ = stacks.up(folder, standard_ports=False)
    assert plain.endpoint is None
    stack, started = stacks.up(folder, endpoint=Path("serve.yaml"), standard_ports=False)
    assert not started
    assert stack.servers.keys() == {"ray", "mlflow", "endpoint"}
    assert stacks.up(folder) == (stack, False)
    assert stacks.up(folder, endpoint=Path("serve.yaml")) == (stack, False)
    assert stacks.running(folder) == stack
    stacks.down(folder)
    assert processes.find(stack.servers["endpoint"]) is None


def test_an_endpoint_that_has_ended_comes_back_on_its_port_and_jobs_do_not_notice(folder: Path) -> None:
    stack, _ = stacks.up(folder, endpoint=Path("serve.yaml"), standard_ports=False)
    kill(stack, "endpoint")
    assert stacks.running(folder) == stack
    again, started = stacks.up(folder, endpoint=Path("serve.yaml"), standard_ports=False)
    assert not started
    assert again.endpoint == stack.endpoint
    assert again.servers["ray"] == stack.servers["ray"]
    assert again.servers["endpoint"] != stack.servers["endpoint"]


def test_an_endpoint_that_fails_takes_only_what_was_started_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = stacks.up(folder, standard_ports=False)
    monkeypatch.setattr(stacks, "_endpoint_command", lambda stack, config, port: serve(port, FAILS))
    with pytest.raises(StackError, match="endpoint ended while starting") as caught:
        stacks.up(folder, endpoint=Path("serve.yaml"), standard_ports=False)
    assert "no room left" in str(caught.value)
    assert stacks.running(folder) is not None
    stacks.down(folder)
    with pytest.raises(StackError):
        stacks.up(folder, endpoint=Path("serve.yaml"), standard_ports=False)
    assert stacks.running(folder) is None
    assert not (folder / "stack.json").exists()
    assert processes.find(plain.servers["ray"]) is None


def test_another_programs_server_on_a_port_that_was_free_is_not_taken_for_ours(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ExitStack() as others:

        def late(stack: Stack) -> list[str]:
            server = others.enter_context(ThreadingHTTPServer(("127.0.0.1", stack.mlflow_port), Answer))
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            others.callback(server.shutdown)
            return serve(stack.mlflow_port, "import time; time.sleep(1); raise SystemExit('address already in use')")

        monkeypatch.setattr(stacks, "_mlflow_command", late)
        with pytest.raises(StackError, match="mlflow ended while starting") as caught:
            stacks.up(folder, standard_ports=False)
    assert "already in use" in str(caught.value)


@pytest.mark.parametrize("torn", ["", '{"id": "1"}', "[]"])
def test_a_state_file_that_a_full_disk_tore_is_named(torn: str, folder: Path) -> None:
    folder.mkdir()
    (folder / "stack.json").write_text(torn)
    for act in (stacks.up, stacks.down, stacks.running):
        with pytest.raises(StackError, match="cannot be read") as caught:
            act(folder)
        assert "stack.json" in str(caught.value)
    (folder / "stack.json").unlink()


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StackError, match="cannot be used") as caught:
        stacks.up(file)
    assert str(file) in str(caught.value)


def test_a_server_that_the_system_does_not_start_is_named_and_no_fault_of_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacks, "_mlflow_command", lambda stack: ["/nowhere/python"])
    with pytest.raises(StackError, match="mlflow could not be started") as caught:
        stacks.up(folder, standard_ports=False)
    assert "/nowhere/python" in str(caught.value)
    assert not (folder / "stack.json").exists()


def test_what_the_system_refuses_elsewhere_is_no_fault_of_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise ConnectionResetError("of a socket")

    monkeypatch.setattr(stacks, "wait_until_healthy", refused)
    with pytest.raises(ConnectionResetError, match="of a socket"):
        stacks.up(folder, standard_ports=False)


def test_a_state_that_cannot_be_written_is_a_fault_of_the_folder_and_leaves_no_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "stack.new").mkdir(parents=True)
    with pytest.raises(StackError, match="folder cannot be used") as caught:
        stacks.up(folder, standard_ports=False)
    assert str(folder) in str(caught.value)
    assert not [p for p in psutil.process_iter() if str(folder) in environment_of(p).get("STEERLINE_HOME", "")]


def test_where_the_state_cannot_be_written_no_server_is_started_beside_those_that_run(folder: Path) -> None:
    stack, _ = stacks.up(folder, standard_ports=False)
    kill(stack, "mlflow")
    (folder / "stack.new").mkdir()
    with pytest.raises(StackError, match="folder cannot be used"):
        stacks.up(folder, standard_ports=False)
    left = [p.pid for p in psutil.process_iter() if str(folder) in environment_of(p).get("STEERLINE_HOME", "")]
    assert left == [stack.servers["ray"].pid]


@pytest.mark.parametrize("refused", ["read_bytes", "unlink"])
def test_a_state_that_cannot_be_read_or_removed_is_a_fault_of_the_folder(
    refused: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks.up(folder, standard_ports=False)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(Path, refused, refuse)
        with pytest.raises(StackError, match="folder cannot be used") as caught:
            stacks.down(folder)
    assert "Input/output error" in str(caught.value)


def test_a_full_disk_under_rays_temporary_folder_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/sl-1")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(StackError, match="temporary folder cannot be made") as caught:
        stacks.up(folder, standard_ports=False)
    assert "/tmp/sl-1" in str(caught.value)


def test_nobody_waits_for_an_endpoint_whose_ray_has_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_ray(stack: Stack, config: object, port: int) -> list[str]:
        os.kill(stack.servers["ray"].pid, signal.SIGKILL)
        return serve(port, "import time; time.sleep(600)")

    monkeypatch.setattr(stacks, "_endpoint_command", without_ray)
    monkeypatch.setattr(stacks, "_ENDPOINT_DEADLINE_S", 10.0)
    with pytest.raises(StackError, match="ray ended while starting"):
        stacks.up(folder, endpoint=Path("serve.yaml"), standard_ports=False)
    assert not (folder / "stack.json").exists()
