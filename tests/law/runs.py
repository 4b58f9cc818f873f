"""Tiny runs, whole: config to exported model, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steerline.config.finetune import FinetuneSpec
from steerline.training.history import read_history
from steerline.training.job import Failure, Job, Outcome
from steerline.training.worker import Surroundings, work
from steerline.training.workers import Workers

ARITHMETIC = {"kind": "task", "task": "arithmetic"}


def arithmetic(size: int, seed: int) -> dict[str, Any]:
    """A synthetic data set."""
    return {
        "source": {"kind": "synthetic", "generator": "arithmetic", "size": size, "seed": seed},
        "format": ARITHMETIC,
    }


def tiny_config(**changes: Any) -> dict[str, Any]:
    """A run of a few seconds; `training_num_steps=3` changes `training.num_steps`, and so on."""
    config: dict[str, Any] = {
        "kind": "finetune",
        "name": "tiny",
        "model": {
            "source": {
                "kind": "random",
                "architecture": "gpt2",
                "overrides": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "resid_pdrop": 0.1},
            }
        },
        "data": {"train": [arithmetic(40, 0)], "heldout": [arithmetic(8, 1)], "max_length_tokens": 256},
        "objective": {"steering": {"entropy": {"strength": 0.01}}},
        "training": {
            "num_steps": 6,
            "global_batch_size": 4,
            "micro_batch_size": 2,
            "precision": "fp32",
            "schedule": {"warmup_steps": 2},
            "save_every_steps": 2,
            "keep_checkpoints": 2,
        },
        "zero": {"stage": 0},
        "evaluation": {
            "num_bootstrap": 100,
            "tasks": [{"name": "sums", "method": "generate", "max_new_tokens": 4, "dataset": arithmetic(6, 2)}],
        },
        "tracking": {"system_metrics_every_s": None},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = config
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value
    return config


def tiny_job(folder: Path, **changes: Any) -> Job:
    """A tiny run in `folder`, recorded nowhere."""
    folder.mkdir(parents=True, exist_ok=True)
    return Job(FinetuneSpec.model_validate(tiny_config(**changes)), folder)


def carry_out(job: Job, *, stop_after: int | None = None) -> tuple[Outcome | Failure, list[str]]:
    """One attempt at the run by one worker, and the lines it said.

    Args:
        job: the run.
        stop_after: ask it to stop after this many steps of this attempt.
    """
    said: list[str] = []
    steps = 0

    def leaving() -> bool:
        nonlocal steps
        steps += 1
        if steps == stop_after:
            job.stop_request.touch()
        return False

    job.stop_request.unlink(missing_ok=True)
    return work(job, Surroundings(Workers(), said.append, leaving)), said


def losses(job: Job) -> dict[str, dict[int, float]]:
    """Training and held-out losses and gradient norms by step."""
    return {name: steps for name, steps in read_history(job.folder).items() if "loss" in name or "norm" in name}
