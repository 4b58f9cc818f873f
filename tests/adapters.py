"""Adapters of tiny models that change what these say, as PEFT saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel


def save_adapter(model: PreTrainedModel, folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """Wraps `model`, which is used up. Both matrices of each product are random."""
    adapted = get_peft_model(model, LoraConfig(**{"target_modules": "all-linear", **config}))
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3, generator=draws)
    adapted.save_pretrained(str(folder))
    return folder


def merged(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """What PEFT makes of both; `model` is used up."""
    whole: PreTrainedModel = PeftModel.from_pretrained(
        model, str(folder), autocast_adapter_dtype=False
    ).merge_and_unload()
    return whole.eval()
