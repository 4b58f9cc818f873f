"""Low-rank adapters through PEFT: the base weights are frozen, each chosen linear layer gains `alpha / rank * B A`.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021 (arXiv:2106.09685).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from steerline.config.model import LoraSpec
from steerline.errors import ModelError
from steerline.models.projections import projections

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def add_lora(model: PreTrainedModel, spec: LoraSpec, *, seed: int = 0) -> PeftModel:
    """Wrap `model`, whose own weights stop training. At the start the adapters change nothing, since B = 0.

    The adapters have the model's dtype: master weights in fp32 are the optimiser's matter. To be called before the
    weights are partitioned over workers, and with the same seed on each.

    Args:
        model: changed in place.
        spec: rank, scale, dropout and which layers.
        seed: of the matrices A; the global random state is left as it was.

    Raises:
        ModelError: no layer has one of the names, or a name is that of an embedding tied to the head.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    _check_targets(model, spec)
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=spec.target_modules if isinstance(spec.target_modules, str) else list(spec.target_modules),
        # GPT-2's Conv1D keeps its weight as [in, out].
        fan_in_fan_out=_has_conv1d(model),
        bias="none",
        task_type=TaskType.CAUSAL_LM,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted: PeftModel = get_peft_model(model, config, autocast_adapter_dtype=False)
    adapted.train(model.training)
    return adapted


def merge_lora(model: PeftModel) -> PreTrainedModel:
    """The plain model with the adapters added to its weights. `model` is used up."""
    merged: PreTrainedModel = model.merge_and_unload()
    return merged


def _check_targets(model: PreTrainedModel, spec: LoraSpec) -> None:
    if isinstance(spec.target_modules, str):
        return
    linear = {path.rsplit(".", 1)[-1] for path, _ in projections(model)}
    missing = [name for name in spec.target_modules if not any(_named(path, name) for path, _ in projections(model))]
    head = model.get_output_embeddings()
    tied = head is not None and model.config.tie_word_embeddings
    for path, module in model.named_modules():
        shared = module is head or module is model.get_input_embeddings()
        if tied and shared and any(_named(path, name) for name in spec.target_modules):
            raise ModelError(
                "embedding and head share one weight in this model: an adapter on one of them cannot be merged",
                where="model.lora.target_modules",
                got=path,
                fix="leave it out, or train all weights",
            )
    if missing:
        raise ModelError(
            "no linear layer of the model has this name",
            where="model.lora.target_modules",
            got=", ".join(missing),
            expected=", ".join(sorted(linear)) + ', or "all-linear"',
        )


def _named(path: str, name: str) -> bool:
    return path == name or path.endswith("." + name)


def _has_conv1d(model: PreTrainedModel) -> bool:
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())
