"""What tests ask the session's cluster."""

from __future__ import annotations

import time

import ray

from steerline.training.ray_trainer import cluster_nodes


def wait_until_cpus_are_free() -> None:
    """Wait until nothing runs in the cluster.

    Raises:
        AssertionError: something does after a minute.
    """
    cluster_nodes()
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.2)
