"""A LoRA adapter apart from its base: what it adds to the base's linear maps.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021 (arXiv:2106.09685); Kalajdzievski, "A Rank
Stabilization Scaling Factor for Fine-Tuning with LoRA", 2023 (arXiv:2312.03732).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from steerline.errors import ModelError
from steerline.models.projections import is_projection, projection_shape

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # PEFT's, before a module's path
_PARTS = (".lora_A.weight", ".lora_B.weight")
# Settings of PEFT that an adapter has whose maps gain a product and nothing else.
_PLAIN = {
    *(
        "task_type",
        "peft_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
    ),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout"),
    *("megatron_config", "megatron_core", "loftq_config"),  # which take other settings to mean anything
}


@dataclass(frozen=True)
class LowRank:
    """What one map [..., K] -> [..., N] gains: `x @ down @ up`."""

    down: Tensor
    """[K, r]."""
    up: Tensor
    """[r, N], with the adapter's scale."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """What maps gain, by their path in the base."""

    maps: Mapping[str, LowRank]
    key: object = field(default_factory=object)
    """Stands for it where its matrices are not needed, and does not keep them in memory."""


def obstacle(folder: Path, model: PreTrainedModel) -> str | None:
    """Why an adapter can only be merged into its base; none where it is a plain product beside linear maps.

    Args:
        folder: as PEFT writes it.
        model: the base.
    """
    from peft import LoraConfig, PeftConfig

    config = PeftConfig.from_pretrained(str(folder))
    if type(config) is not LoraConfig:
        return f"its type is {config.peft_type}"
    defaults = LoraConfig().to_dict()
    for name, value in config.to_dict().items():
        if name == "init_lora_weights" and value in (True, False, "gaussian"):
            continue  # other beginnings change the base
        if name not in _PLAIN and value and value != defaults[name]:
            return f"it has {name}: {value}"
    paths = _maps_of(model)
    for name in _names(folder):
        path = _path(name)
        if path not in paths:
            return f"it has {name}, which is no part of a linear map between embedding and head"
    return None


def read_adapter(folder: Path, model: PreTrainedModel, dtype: torch.dtype, device: torch.device) -> Adapter:
    """An adapter that meets no `obstacle`.

    Args:
        folder: as PEFT writes it.
        model: the base, whose weights are not read.
        dtype: the base's precision.
        device: the base's.

    Raises:
        ModelError: it does not fit the base, is incomplete, or holds what is no finite number.
    """
    from peft import LoraConfig
    from safetensors.torch import load_file

    config = LoraConfig.from_pretrained(str(folder))
    tensors = load_file(folder / WEIGHTS)
    if not tensors:  # it would answer as its base does
        raise _misfit(str(folder / WEIGHTS), "no matrices", "two for each linear map that it changes")
    maps = {}
    for path in dict.fromkeys(_path(name) for name in tensors):
        A, B = (tensors.get(_PREFIX + path + part) for part in _PARTS)
        rank, scale = _rank_and_scale(config, path)
        K, N = projection_shape(model.get_submodule(path))
        found = [None if one is None else tuple(one.shape) for one in (A, B)]
        if A is None or B is None or found != [(rank, K), (N, rank)]:
            raise _misfit(path, found, f"[({rank}, {K}), ({N}, {rank})]")
        up = (scale * B.double()).T.contiguous()
        low = maps[path] = LowRank(A.T.contiguous().to(device, dtype), up.to(device, dtype))
        # In the same batch as others a number that is none, in the base's precision, would be everybody's trouble.
        if not (low.down.isfinite().all() and low.up.isfinite().all()):
            raise _misfit(path, "numbers that are not finite", f"weights and a scale that {dtype} can hold")
    return Adapter(maps)


def _rank_and_scale(config: LoraConfig, path: str) -> tuple[int, float]:
    from peft.utils.other import get_pattern_key

    ranks, alphas = config.rank_pattern or {}, config.alpha_pattern or {}
    rank = ranks.get(get_pattern_key(list(ranks), path), config.r)
    alpha = alphas.get(get_pattern_key(list(alphas), path), config.lora_alpha)
    return rank, alpha / (math.sqrt(rank) if config.use_rslora else rank)


def _names(folder: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / WEIGHTS, "pt") as tensors:
            return list(tensors.keys())
    except SafetensorError as error:
        raise ModelError("a file of weights is damaged", where=str(folder / WEIGHTS), got=error) from error


def _path(name: str) -> str:
    """The path of the map that a matrix belongs to; empty for what is no matrix of a plain product."""
    for part in _PARTS:
        if name.startswith(_PREFIX) and name.endswith(part):
            return name[len(_PREFIX) : -len(part)]
    return ""


def _maps_of(model: PreTrainedModel) -> set[str]:
    """Paths of the linear maps that every token passes: those of the body, without the head."""
    body: set[nn.Module] = set(model.base_model.modules())
    return {path for path, module in model.named_modules() if module in body and is_projection(module)}


def _misfit(path: str, got: Any, expected: str) -> ModelError:
    return ModelError("an adapter does not fit its base", where=path, got=got, expected=expected)
