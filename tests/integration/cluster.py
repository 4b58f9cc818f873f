"""What tests ask the session's cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve

from steerline.orchestration.stack import Stack
from steerline.training.ray_trainer import cluster_nodes


@contextmanager
def serving(stack: Stack, port: int) -> Iterator[None]:
    """Serve in the session's cluster, on this port of loopback. A connection that an earlier test left is closed."""
    ray.shutdown()
    ray.init(address=stack.environment()["RAY_ADDRESS"], namespace="serve", log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
        yield
    finally:
        serve.shutdown()
        ray.shutdown()


def wait_until_cpus_are_free() -> None:
    """Wait until nothing runs in the cluster.

    Raises:
        AssertionError: something does after five minutes.
    """
    cluster_nodes()
    deadline = time.monotonic() + 300
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.2)
