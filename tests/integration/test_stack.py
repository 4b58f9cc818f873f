from __future__ import annotations

import socket
import stat

import httpx
import psutil
import pytest

from steerline.orchestration import auth
from steerline.orchestration import stack as stacks

pytestmark = pytest.mark.integration


def test_the_job_server_wants_the_token(stack: stacks.Stack) -> None:
    with httpx.Client(base_url=stack.address, timeout=60) as client:
        for path in ("/api/jobs/", "/api/version"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 403
            assert client.get(path, headers=auth.headers(stack.environment())).status_code == 200


def test_only_this_user_can_read_the_token(stack: stacks.Stack) -> None:
    assert stat.S_IMODE(stack.token_path.stat().st_mode) == 0o600


def test_mlflow_answers_and_serves_its_store(stack: stacks.Stack) -> None:
    found = httpx.get(
        f"{stack.tracking_uri}/api/2.0/mlflow/experiments/get-by-name",
        params={"experiment_name": "Default"},
        timeout=60,
    )
    assert found.json()["experiment"]["artifact_location"].startswith("mlflow-artifacts:/")


def test_every_server_listens_on_loopback_alone(stack: stacks.Stack) -> None:
    listening = [
        connection.laddr.ip
        for record in stack.servers.values()
        for process in [psutil.Process(record.pid), *psutil.Process(record.pid).children(recursive=True)]
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_up_finds_the_running_stack(stack: stacks.Stack) -> None:
    again, started = stacks.up(stack.folder)
    assert not started
    assert again == stack


def test_another_stack_comes_and_goes_beside_it(stack: stacks.Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("other")
    other, started = stacks.up(folder, num_cpus=1)
    assert started
    family = [p for record in other.servers.values() for p in psutil.Process(record.pid).children(recursive=True)]
    assert len(family) > 5
    assert stacks.down(folder)
    assert not [process for process in family if process.is_running()]
    assert not other.temporary.exists()
    assert stacks.running(folder) is None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", other.dashboard_port)) != 0
    assert stacks.running(stack.folder) == stack
    answer = httpx.get(f"{stack.address}/api/jobs/", headers=auth.headers(stack.environment()), timeout=60)
    assert answer.status_code == 200
