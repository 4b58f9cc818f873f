"""Checks of the machine, the cluster, the memory and the tracking server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from steerline.config.training import TrainingSpec, ZeroSpec
from steerline.orchestration.preflight.memory import checkpoint_bytes, state_bytes
from tests.unit.orchestration.preflight_scenes import find, job, model_folder, nodes, only

GIB = 2**30


def test_a_folder_that_can_be_made_passes(tmp_path: Path) -> None:
    assert find("storage", job(tmp_path, f"cluster.storage_path={tmp_path}/new/runs")) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "job.yaml"]


def test_storage_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    spec = job(tmp_path, f"cluster.storage_path={tmp_path}/file/runs")
    assert "is not a folder" in only(find("storage", spec), fatal=True)
    bucket = job(tmp_path, "cluster.storage_path=s3://b/r")
    assert "through the file system" in only(find("storage", bucket), fatal=True)
    spec = job(tmp_path, f"cluster.storage_path={tmp_path}/new")
    # The superuser may write anywhere, so the permission itself is faked.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert "cannot be written" in only(find("storage", spec), fatal=True)


def test_a_disk_without_room_for_the_checkpoints_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(tmp_path / "m", {"w": (1024, 1024)})
    spec = job(tmp_path, f"model.source={{kind: local, path: {folder}}}", "cluster.storage_path=" + str(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    # Three checkpoints of 14 bytes a parameter and an export of 2.
    needed = 2**20 * (3 * 14 + 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    assert "3 checkpoints" in only(find("disk", spec), fatal=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert find("disk", spec) == []
    assert find("disk", job(tmp_path)) == []


STEERED = "objective.steering.entropy.strength=0.01"


def test_without_a_compiler_steering_on_cpus_is_said_to_be_slower(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    bare = {"PATH": str(tools)}
    steered = job(tmp_path, STEERED)
    assert "no `g++`" in only(find("compiler", steered, environment=bare), fatal=False)
    assert "no `my-c++`" in only(find("compiler", steered, environment={**bare, "CXX": "my-c++"}), fatal=False)
    compiler = tools / "my-c++"
    compiler.write_text("")
    compiler.chmod(0o755)
    assert find("compiler", steered, environment={**bare, "CXX": "my-c++"}) == []


@pytest.mark.parametrize("other", [("seed=1",), (STEERED, "cluster.use_gpu=true")])
def test_nothing_else_needs_a_compiler(tmp_path: Path, other: tuple[str, ...]) -> None:
    assert find("compiler", job(tmp_path, *other), environment={"PATH": str(tmp_path)}) == []


@pytest.mark.parametrize(
    ("sizes", "workers", "use_gpu", "fits"),
    [
        ([(4, 0)], 2, False, 2),
        ([(4, 0)], 3, False, 2),
        ([(3, 0), (3, 0)], 3, False, 2),
        ([(3, 0), (3, 0)], 2, False, 2),
        ([(16, 1), (16, 1)], 2, True, 2),
        ([(16, 0)], 1, True, 0),
        ([(1, 4)], 1, True, 0),
    ],
)
def test_workers_find_room_on_single_nodes(
    tmp_path: Path, sizes: list[tuple[float, float]], workers: int, use_gpu: bool, fits: int
) -> None:
    wanted = f"cluster={{num_workers: {workers}, cpus_per_worker: 2, use_gpu: {str(use_gpu).lower()}}}"
    found = find("workers", job(tmp_path, wanted), nodes(*sizes))
    if fits >= workers:
        assert found == []
    else:
        assert f"room for {fits} of {workers} workers" in only(found, fatal=True)


def test_the_smaller_job_that_is_named_keeps_whole_micro_batches(tmp_path: Path) -> None:
    spec = job(tmp_path, "cluster.num_workers=4")
    assert "set `cluster.num_workers: 2`" in only(find("workers", spec, nodes((3, 0))), fatal=True)


def test_a_cluster_that_can_grow_only_warns(tmp_path: Path) -> None:
    growing = replace(nodes((1, 0)), can_grow=True)
    assert "room for 1 of 4 workers now" in only(
        find("workers", job(tmp_path, "cluster.num_workers=4"), growing), fatal=False
    )


def test_an_unknown_cluster_is_not_judged(tmp_path: Path) -> None:
    spec = job(tmp_path, "cluster.num_workers=4")
    for check in ("workers", "memory", "gpus", "shared-storage"):
        assert find(check, spec) == []


def test_several_nodes_need_shared_storage(tmp_path: Path) -> None:
    two = nodes((4, 0), (4, 0))
    assert "another folder on each node" in only(
        find("shared-storage", job(tmp_path, "cluster.num_workers=2"), two), fatal=False
    )
    spec = job(tmp_path, "cluster={num_workers: 2, storage_path: /mnt/shared}")
    assert "relative" not in only(find("shared-storage", spec, two), fatal=False)
    assert find("shared-storage", job(tmp_path), two) == []
    assert find("shared-storage", job(tmp_path, "cluster.num_workers=2"), nodes((4, 0))) == []


def test_gpus_that_are_not_used_or_lack_bf16_are_warned_of(tmp_path: Path) -> None:
    on_gpu = "cluster.use_gpu=true"
    assert "uses none" in only(find("gpus", job(tmp_path), nodes((4, 2))), fatal=False)
    assert "T4" in only(find("gpus", job(tmp_path, on_gpu), nodes((4, 2), gpu_type="T4")), fatal=False)
    assert find("gpus", job(tmp_path, on_gpu, "training.precision=fp32"), nodes((4, 2), gpu_type="T4")) == []
    assert find("gpus", job(tmp_path, on_gpu), nodes((4, 2), gpu_type="A100")) == []


@pytest.mark.parametrize(
    ("zero", "precision", "workers", "device", "host"),
    [
        (ZeroSpec(stage=0), "bf16", 4, 16, 0),
        (ZeroSpec(stage=1), "bf16", 4, 2 + 2 + 3, 0),
        (ZeroSpec(stage=2), "bf16", 4, 2 + 0.5 + 3, 0),
        (ZeroSpec(stage=3), "bf16", 4, 0.5 + 0.5 + 3, 0),
        (ZeroSpec(stage=0), "fp32", 4, 16, 0),
        (ZeroSpec(stage=1), "fp32", 4, 4 + 4 + 2, 0),
        (ZeroSpec(stage=2, offload_optimizer=True), "bf16", 4, 2 + 0.5, 3),
        (ZeroSpec(stage=3, offload_optimizer=True, offload_parameters=True), "bf16", 4, 0.5, 3.5),
    ],
)
def test_the_state_follows_the_zero_papers_formula(
    zero: ZeroSpec, precision: str, workers: int, device: float, host: float
) -> None:
    training = TrainingSpec.model_validate({"num_steps": 1, "precision": precision})
    state = state_bytes(1000, 1000, zero=zero, training=training, num_workers=workers)
    assert (state.device, state.host) == (1000 * device, 1000 * host)


def test_frozen_weights_have_neither_gradients_nor_optimiser_state() -> None:
    training = TrainingSpec(num_steps=1)
    assert state_bytes(1000, 10, zero=ZeroSpec(), training=training, num_workers=1).device == 2000 + 10 * 14
    assert checkpoint_bytes(1000, 10, training=training) == 2000 + 10 * 12


def test_a_state_beyond_the_gpu_is_refused_and_partitioning_lets_it_in(tmp_path: Path) -> None:
    seven_billion = model_folder(tmp_path / "m", {"a.weight": (70_000, 100_000)})
    base = [f"model.source={{kind: local, path: {seven_billion}}}", "cluster={num_workers: 4, use_gpu: true}"]
    four = nodes((16, 4), gpu_type="A100")
    text = only(find("memory", job(tmp_path, *base), four), fatal=True)
    assert "104.3 GiB of 80.0 GiB, before activations (7000M parameters" in text
    assert find("memory", job(tmp_path, *base, "zero.stage=3"), four) == []
    assert find("memory", job(tmp_path, *base, "model.lora.rank=8"), four) == []
    assert find("memory", job(tmp_path, *base), nodes((16, 4))) == []


def test_a_state_beyond_the_nodes_memory_is_a_warning(tmp_path: Path) -> None:
    billion = model_folder(tmp_path / "m", {"a.weight": (10_000, 100_000)})
    spec = job(tmp_path, f"model.source={{kind: local, path: {billion}}}", "cluster.num_workers=2")
    assert "29.8 GiB of 16.0 GiB" in only(find("memory", spec, nodes((4, 0), memory_gib=16)), fatal=False)
    assert "nearly fills" in only(find("memory", spec, nodes((4, 0), memory_gib=32)), fatal=False)
    assert find("memory", spec, nodes((4, 0), memory_gib=64)) == []


@contextmanager
def serving(status: int) -> Iterator[str]:
    """A server that answers every GET with this status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_tracking_server_that_answers_passes(tmp_path: Path) -> None:
    with serving(200) as address:
        assert find("tracking", job(tmp_path, f"tracking.uri={address}")) == []
        assert find("tracking", job(tmp_path), environment={"MLFLOW_TRACKING_URI": address + "/"}) == []


def test_another_server_at_that_address_is_refused(tmp_path: Path) -> None:
    with serving(404) as address:
        assert "HTTP 404" in only(find("tracking", job(tmp_path, f"tracking.uri={address}")), fatal=True)


def test_a_tracking_server_that_is_away_or_unnamed_is_refused(tmp_path: Path) -> None:
    with serving(200) as gone:
        pass
    text = only(find("tracking", job(tmp_path), environment={"MLFLOW_TRACKING_URI": gone}), fatal=True)
    assert "does not answer" in text
    assert "MLFLOW_TRACKING_URI" in text
    assert "no tracking server is named" in only(find("tracking", job(tmp_path)), fatal=True)


def test_a_password_in_the_address_is_not_shown(tmp_path: Path) -> None:
    with serving(500) as address:
        secret = address.replace("http://", "http://me:hunter2@")
        assert "hunter2" not in only(find("tracking", job(tmp_path, f"tracking.uri={secret}")), fatal=True)


def test_a_local_database_needs_no_server(tmp_path: Path) -> None:
    assert find("tracking", job(tmp_path, "tracking.uri=sqlite:///mlflow.db")) == []
