"""One optimiser step of the shipped config, started by DeepSpeed's own launcher: no Ray, no tracking, no checks.

Prints the time of day (seconds since 1970) at which that step was done.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch

from steerline.config.load import load
from steerline.data.batch import collate
from steerline.data.dataset import build
from steerline.models.load import load_model
from steerline.training.engine import Engine
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveModel
from steerline.training.workers import Workers

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    torch.set_num_threads(os.cpu_count() or 1)
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    workers = Workers.of_process_group(device)
    spec = load(ROOT / "jobs" / "configs" / "sft_smollm2.yaml").spec
    loaded = load_model(spec.model, dtype=torch.bfloat16)
    rows = build(spec.data.train, spec.data, loaded.tokenizer, 0).rows
    objective = ObjectiveModel(loaded.model, spec.objective)
    engine = Engine(objective, spec.training, spec.zero, workers, accumulation=1)
    batch = collate(rows[:4], loaded.tokenizer.pad_token_id)
    engine.forward_backward(batch, Normaliser.over([batch], workers), last=True)
    engine.step(1e-5)
    print(f"first step at {time.time()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
