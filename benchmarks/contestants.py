"""Other ways to fine-tune the same model on the same rows, each in a process of its own.

    python -m benchmarks.contestants bare ROWS.json --steps 12 --micro 4 --accumulation 1

Prints one line of JSON: the seconds of each optimiser step, measured from the end of the one before.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from steerline.config.model import ModelSpec, PackagedModel
from steerline.models.load import load_model

MODEL = ModelSpec(source=PackagedModel(kind="packaged", name="smollm2-135m-instruct"))
LEARNING_RATE = 5e-5


def bare(rows: list[list[int]], steps: int, micro: int, accumulation: int, device: str) -> list[float]:
    """The loop one would write by hand: bf16 weights, float32 master weights, clipping, fused AdamW."""
    model = load_model(MODEL, dtype=torch.bfloat16).model.to(device)
    model.train()
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    masters = [weight.detach().float().clone() for weight in weights]
    optimizer = torch.optim.AdamW(masters, lr=LEARNING_RATE, fused=True)
    tokens = torch.tensor(rows, device=device)
    seconds, position = [], 0
    for _ in range(steps):
        start = time.perf_counter()
        for _ in range(accumulation):
            chunk = tokens[torch.arange(position, position + micro) % len(tokens)]
            position += micro
            (model(input_ids=chunk, labels=chunk, use_cache=False).loss / accumulation).backward()
        for weight, master in zip(weights, masters, strict=True):
            master.grad = weight.grad.float()
            weight.grad = None
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(weights, masters)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


def trainer(rows: list[list[int]], steps: int, micro: int, accumulation: int, device: str, *, trl: bool) -> list[float]:
    """Hugging Face Trainer, or TRL's SFTTrainer, as their documentation sets up bf16 training."""
    from datasets import Dataset
    from transformers import Trainer, TrainerCallback, TrainingArguments

    loaded = load_model(MODEL, dtype=torch.float32)
    loaded.model.train()
    dataset = Dataset.from_dict({"input_ids": rows, "labels": rows, "attention_mask": [[1] * len(rows[0])] * len(rows)})
    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not marks:
                marks.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if device == "cuda":
                torch.cuda.synchronize()
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {
            "output_dir": folder,
            "max_steps": steps,
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": accumulation,
            "learning_rate": LEARNING_RATE,
            "max_grad_norm": 1.0,
            "bf16": True,
            "use_cpu": device == "cpu",
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "gradient_checkpointing": False,
            "dataloader_pin_memory": device == "cuda",
        }
        if trl:
            from trl import SFTConfig, SFTTrainer

            arguments = SFTConfig(**settings, packing=False, max_length=len(rows[0]))
            run = SFTTrainer(
                model=loaded.model,
                args=arguments,
                train_dataset=dataset,
                processing_class=loaded.tokenizer,
                callbacks=[Clock()],
            )
        else:
            run = Trainer(
                model=loaded.model, args=TrainingArguments(**settings), train_dataset=dataset, callbacks=[Clock()]
            )
        run.train()
    return [later - earlier for earlier, later in pairwise(marks)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("who", choices=("bare", "trainer", "trl"))
    parser.add_argument("rows", type=Path, help="JSON list of rows of token ids, all of one length")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--micro", type=int, default=4)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = json.loads(args.rows.read_text())
    work = (rows, args.steps, args.micro, args.accumulation, args.device)
    seconds = bare(*work) if args.who == "bare" else trainer(*work, trl=args.who == "trl")
    print(json.dumps(seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
