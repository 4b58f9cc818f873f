"""Training under Ray Train: workers are started, watched and, when one dies, started again.

The only importer of `ray.train`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from steerline.config.cluster import ClusterSpec
from steerline.errors import SteerlineError, TrainingError
from steerline.training.job import Failure, Job, Outcome

T = TypeVar("T")

# A worker has the environment of its node's raylet, not that of the driver.
_PASSED_ON = (
    "RAY_ADDRESS",
    "DS_ACCELERATOR",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "STEERLINE_CACHE",
    "STEERLINE_HOME",
    "TOKENIZERS_PARALLELISM",
)

# By default glibc gives large blocks back to the kernel as soon as they are freed, and the kernel clears them page by
# page when the next step asks for them again: a tenth of a step on CPUs.
_KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(16 << 30)}


def cluster_nodes() -> list[dict[str, Any]]:
    """The cluster's nodes, after connecting to it; without `RAY_ADDRESS` a local one is started."""
    if not ray.is_initialized():
        # Train's controller and its placement-group cleaner look for their own cluster by this variable; where a second
        # cluster runs on the host they would find the wrong one, or none.
        address = os.environ.get("RAY_ADDRESS")
        ray.init(log_to_driver=True, runtime_env={"env_vars": {"RAY_ADDRESS": address}} if address else None)
    nodes: list[dict[str, Any]] = ray.nodes()
    return nodes


def train(job: Job) -> Outcome:
    """Carry a job out on the cluster, or go on with it where its checkpoints left off.

    Workers find the newest intact checkpoint themselves, so Ray keeps none; a run is resumed by its name alone, also
    with another number of workers.

    Raises:
        SteerlineError: the workers' own error, whatever it was.
        TrainingError: a worker died more often than `cluster.max_failures` allows.
    """
    cluster = job.spec.cluster
    job.folder.mkdir(parents=True, exist_ok=True)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=cluster.num_workers,
            use_gpu=cluster.use_gpu,
            resources_per_worker={"CPU": cluster.cpus_per_worker, **({"GPU": 1} if cluster.use_gpu else {})},
        ),
        run_config=RunConfig(
            name=job.name,
            storage_path=str(job.folder.parent),
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            worker_runtime_env={"env_vars": _environment(cluster)},
        ),
        torch_config=TorchConfig(backend="nccl" if cluster.use_gpu else "gloo"),
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        raise _unwrapped(error, job) from error
    ended: Outcome | Failure = result.return_value
    if isinstance(ended, Failure):
        raise ended.error
    return ended


def in_one_worker(work: Callable[[], T], cluster: ClusterSpec) -> T:
    """Run a function in one process of the cluster that has a worker's CPUs and GPU, again where that process dies.

    Raises:
        SteerlineError: the function's own error.
        TrainingError: the process died more often than `cluster.max_failures` allows.
    """
    (result,) = in_workers([work], cluster)
    return result


def in_workers(works: Sequence[Callable[[], T]], cluster: ClusterSpec) -> list[T]:
    """Run functions side by side, each as `in_one_worker` does. All have ended before the error of one is raised.

    Raises:
        SteerlineError: a function's own error.
        TrainingError: a process died more often than `cluster.max_failures` allows.
    """
    # Ray makes tasks of functions alone; what binds arguments to one is an argument itself.
    task = ray.remote(_called).options(
        num_cpus=cluster.cpus_per_worker,
        num_gpus=int(cluster.use_gpu),
        max_retries=cluster.max_failures,
        runtime_env={"env_vars": _environment(cluster)},
    )
    under_way = [task.remote(work) for work in works]
    ray.wait(under_way, num_returns=len(under_way), fetch_local=False)
    try:
        results: list[T] = ray.get(under_way)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, SteerlineError) else error from None
    except ray.exceptions.RayError as error:
        raise TrainingError(
            f"the worker died more than {cluster.max_failures} times",
            got=str(error).strip()[-2000:],
            fix="if it ran out of memory, take smaller batches or a smaller model",
        ) from error
    return results


def _called(work: Callable[[], T]) -> T:
    return work()


def _worker(config: dict[str, Any]) -> Outcome | Failure:
    # The driver does without DeepSpeed and the models.
    import torch
    from ray.train.torch import get_device

    from steerline.training.worker import Surroundings, work
    from steerline.training.workers import Workers

    job: Job = config["job"]
    torch.set_num_threads(max(1, int(job.spec.cluster.cpus_per_worker)))
    workers = Workers.of_process_group(get_device())
    return work(job, Surroundings(workers, _say, _Leaving(job.spec.cluster.preemptible)))


class _Leaving:
    """Whether Ray has said, since it was last asked, that a node of this run will be taken away.

    Asking is a barrier over all workers, so it is only done where nodes may be taken away.
    """

    def __init__(self, preemptible: bool) -> None:
        self._preemptible = preemptible
        self._heeded: object = None

    def __call__(self) -> bool:
        if not self._preemptible:
            return False
        notice = ray.train.get_preemption_info()
        is_new = notice is not None and notice != self._heeded
        self._heeded = notice
        return is_new


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def passed_on() -> dict[str, str]:
    """What of this process's environment the workers need too; the address is the connected cluster's."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    if ray.is_initialized():
        passed["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    return passed


def _environment(cluster: ClusterSpec) -> dict[str, str]:
    passed = passed_on()
    if not cluster.use_gpu:
        passed |= {"DS_ACCELERATOR": "cpu", **_KEEP_FREED_MEMORY}
    passed["OMP_NUM_THREADS"] = str(max(1, int(cluster.cpus_per_worker)))
    return passed


def _unwrapped(error: TrainingFailedError, job: Job) -> SteerlineError:
    failures = dict(error.worker_failures) if isinstance(error, WorkerGroupError) else {}
    for failure in failures.values():
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, SteerlineError):
            return cause
    first = next(iter(failures.items()), None)
    return TrainingError(
        f"training failed more than {job.spec.cluster.max_failures} times",
        where=f"{job.folder}" if first is None else f"worker {first[0]}",
        got=str(error if first is None else first[1]).strip()[-2000:],
        fix="submit the same config again: it resumes from its last checkpoint",
    )
