"""What is known of a model without loading it: from its config and its weights' headers, where they are at hand."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from steerline.config.model import LocalModel, ModelSpec, PackagedModel, RandomModel, WordTokenizer
from steerline.data.packaged import cached, entry_of
from steerline.models.byte_tokenizer import byte_tokenizer
from steerline.models.converted import SOURCE_FILE
from steerline.models.gguf_header import is_gguf, read_header
from steerline.models.random_model import random_config, random_tokenizer
from steerline.models.sources import local_folder

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# The same quantity under the names that families give it in config.json.
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
_FFN = ("intermediate_size", "ffn_dim", "n_inner", "hidden_dim", "ffn_hidden_size")
_POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length")


@dataclass(frozen=True)
class ModelFacts:
    """None where a fact is not known on this machine.

    Args:
        num_parameters: weights, those shared between embedding and head counted once.
        num_layers: residual blocks.
        model_type: architecture, by Transformers' name.
        ffn_width: number F of FFN keys.
        context: longest sequence in tokens.
        licence: of the weights.
    """

    num_parameters: int | None = None
    num_layers: int | None = None
    model_type: str | None = None
    ffn_width: int | None = None
    context: int | None = None
    licence: str | None = None


def model_facts(spec: ModelSpec) -> ModelFacts:
    """Read what is at hand; no network, no weights. All None for a model that was never fetched.

    Raises:
        ModelError: a random model's config is impossible, or a GGUF file is damaged.
    """
    source = spec.source
    if isinstance(source, RandomModel):
        return _of_random(source)
    folder = local_folder(spec)
    if folder is not None:
        return _of_folder(folder)
    if isinstance(source, LocalModel):
        return _of_file(Path(source.path).expanduser())
    if isinstance(source, PackagedModel):
        entry, file = entry_of(source), cached(source)
        facts = _of_file(file) if file is not None else ModelFacts()
        return replace(facts, licence=entry.licence) if entry is not None else facts
    return ModelFacts()


def _of_random(source: RandomModel) -> ModelFacts:
    if isinstance(source.tokenizer, WordTokenizer):
        # The number of parameters follows from the training texts.
        return _of_config(random_config(source, byte_tokenizer()).to_dict())
    config = random_config(source, random_tokenizer(source))
    facts = _of_config(config.to_dict())
    return replace(facts, num_parameters=_num_parameters(config))


def _num_parameters(config: PretrainedConfig) -> int:
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    # A classifier alone has no head over its vocabulary.
    auto = AutoModelForCausalLM if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else AutoModel
    with torch.device("meta"):
        return int(auto.from_config(config).num_parameters())


def _of_folder(folder: Path) -> ModelFacts:
    config_file = folder / "config.json"
    if not config_file.is_file():
        return ModelFacts()
    facts = _of_config(json.loads(config_file.read_text()))
    return ModelFacts(
        num_parameters=_count(folder),
        num_layers=facts.num_layers,
        model_type=facts.model_type,
        ffn_width=facts.ffn_width,
        context=facts.context,
        licence=_licence(folder),
    )


def _of_file(path: Path) -> ModelFacts:
    if not path.is_file() or not is_gguf(path):
        return ModelFacts()
    header = read_header(path)
    return ModelFacts(
        num_parameters=header.num_parameters,
        num_layers=header.num_layers,
        model_type=header.architecture,
        ffn_width=header.ffn_width,
        context=header.context,
        licence=header.licence,
    )


def _of_config(config: Mapping[str, Any]) -> ModelFacts:
    text = config.get("text_config", config)
    hidden = _first(text, _HIDDEN)
    return ModelFacts(
        num_layers=_first(text, _LAYERS),
        model_type=config.get("model_type"),
        # GPT-2 and its kin leave the width out where it is four times the hidden size.
        ffn_width=_first(text, _FFN) or (4 * hidden if hidden else None),
        context=_first(text, _POSITIONS),
    )


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((config[name] for name in names if isinstance(config.get(name), int)), None)


def _count(folder: Path) -> int | None:
    """Sum over the headers of the safetensors: 8 bytes of length, then JSON with each tensor's shape."""
    files = sorted(folder.glob("*.safetensors"))
    total = 0
    for path in files:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: dict[str, Any] = json.loads(file.read(length))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total if files else None


def _licence(folder: Path) -> str | None:
    """From what a conversion wrote down, else from the front matter of the model card."""
    source = folder / SOURCE_FILE
    if source.is_file():
        licence: str | None = json.loads(source.read_text()).get("licence")
        return licence
    card = folder / "README.md"
    if not card.is_file():
        return None
    front = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8"), re.DOTALL)
    found = front and re.search(r"^license:\s*(\S+)", front.group(1), re.MULTILINE)
    return found.group(1).strip("'\"") if found else None
