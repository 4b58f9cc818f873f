"""A checkpoint in DeepSpeed's universal form, which any number of workers can load."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from steerline.errors import CheckpointError
from steerline.training.checkpoint import SHARDS, Checkpoint


def universal_shards(checkpoint: Checkpoint, stage: int) -> Path:
    """The universal form of a partitioned checkpoint's shards: made once, kept beside it until it is pruned.

    Conversion holds one worker's share of the optimiser state in memory at a time. Two processes that ask at once do it
    once.

    Args:
        checkpoint: verified, written at ZeRO stage 1, 2 or 3. Stage 0 partitions nothing and needs no other form.
        stage: that stage.

    Raises:
        CheckpointError: the conversion failed.
    """
    final = checkpoint.folder.with_name(checkpoint.folder.name + ".universal")
    with (checkpoint.folder.parent / ".universal.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            scratch = final.with_name(final.name + ".partial")
            shutil.rmtree(scratch, ignore_errors=True)
            _convert(checkpoint.folder / SHARDS, scratch / SHARDS, stage)
            scratch.rename(final)
    return final / SHARDS


def _convert(source: Path, target: Path, stage: int) -> None:
    # A process of its own: the converter forks workers, which a process with a running collective must not do.
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal"]
    command += ["--input_folder", str(source), "--output_folder", str(target)]
    command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    if stage < 3:
        command.append("--inject_missing_state")
    private = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {name: value for name, value in os.environ.items() if name not in private}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise CheckpointError(
            "the checkpoint could not be converted for another number of workers",
            where=str(source),
            got=done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}",
            fix="resume with the number of workers that wrote it, or free memory and disk and try again",
        )
