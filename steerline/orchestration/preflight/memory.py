"""How many bytes the state of a training run takes.

Per parameter, in the notation of the ZeRO paper (arXiv 1910.02054, section 3): weights w, gradients g, optimiser k.

    bf16:  w = 2, g = 2, k = 12   (float32 master weight, first and second moment)
    fp32:  w = 4, g = 4, k = 8    (first and second moment)

With P parameters, T of them trained, on N workers, each worker holds

    stage 0:  w P     + g T     + k T
    stage 1:  w P     + g T     + k T / N
    stage 2:  w P     + g T / N + k T / N
    stage 3:  w P / N + g T / N + k T / N

Offloading the optimiser moves k T / N to host memory, offloading parameters moves w P / N. On top, and not counted
here, come activations (they grow with `micro_batch_size` x `max_length_tokens`), communication buckets
(`zero.bucket_bytes`) and fragmentation. So the figure is a lower bound: what exceeds it cannot run.
"""

from __future__ import annotations

from dataclasses import dataclass

from steerline.config.training import TrainingSpec, ZeroSpec

_PER_PARAMETER = {"bf16": (2, 2, 12), "fp32": (4, 4, 8)}


@dataclass(frozen=True)
class StateBytes:
    """Bytes of one worker's share."""

    device: float
    """On its accelerator; on CPU, in host memory."""
    host: float
    """Moved to host memory by offloading."""


def state_bytes(
    num_parameters: int, num_trained: int, *, zero: ZeroSpec, training: TrainingSpec, num_workers: int
) -> StateBytes:
    """Weights, gradients and optimiser state of one worker, by the formula above."""
    w, g, k = _PER_PARAMETER[training.precision]
    weights = w * num_parameters / (num_workers if zero.stage == 3 else 1)
    gradients = g * num_trained / (num_workers if zero.stage >= 2 else 1)
    optimiser = k * num_trained / (num_workers if zero.stage >= 1 else 1)
    host = (weights if zero.offload_parameters else 0) + (optimiser if zero.offload_optimizer else 0)
    return StateBytes(weights + gradients + optimiser - host, host)


def checkpoint_bytes(num_parameters: int, num_trained: int, *, training: TrainingSpec) -> float:
    """One checkpoint, all workers together: weights and optimiser state, at any stage."""
    w, _, k = _PER_PARAMETER[training.precision]
    return w * num_parameters + k * num_trained


def export_bytes(num_parameters: int, *, training: TrainingSpec) -> float:
    """The exported model."""
    return _PER_PARAMETER[training.precision][0] * num_parameters
