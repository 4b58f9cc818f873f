"""Models with random weights, built from an architecture's config."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from steerline.config.model import RandomModel, WordTokenizer
from steerline.errors import ModelError
from steerline.models.byte_tokenizer import byte_tokenizer
from steerline.models.sources import unknown_architecture
from steerline.models.word_tokenizer import word_tokenizer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_WHERE = "model.source"


Texts = Callable[[], Iterable[str]]
"""Reads the texts that a vocabulary of words is made of."""


def random_tokenizer(source: RandomModel, texts: Texts | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer that the source names or describes, else the byte-level one.

    Args:
        source: the model's.
        texts: called only where the tokenizer is made of words.

    Raises:
        ModelError: the named one cannot be loaded, or there are no texts to make words of.
    """
    from transformers import AutoTokenizer

    if source.tokenizer is None:
        return byte_tokenizer()
    if isinstance(source.tokenizer, WordTokenizer):
        if texts is None:
            raise ModelError(
                "this tokenizer is made of the training texts, and there are none here",
                where=f"{_WHERE}.tokenizer",
                expected="a job with `data.train`, or the folder of a trained model",
            )
        return word_tokenizer(source.tokenizer, texts())
    try:
        return AutoTokenizer.from_pretrained(source.tokenizer)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            "the tokenizer cannot be loaded",
            where=f"{_WHERE}.tokenizer",
            got=error,
            expected="a folder with tokenizer.json, or a hub id; none for a byte-level one",
        ) from error


def random_config(source: RandomModel, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """The architecture's config with the overrides, and with vocabulary and special tokens that fit the tokenizer.

    Raises:
        ModelError: the architecture or a field is not known, or the fields do not fit together.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    import steerline.models.safr_classifier  # noqa: F401 (makes the architecture known)

    if source.architecture not in CONFIG_MAPPING:
        raise unknown_architecture(source.architecture, f"{_WHERE}.architecture")
    config_class = CONFIG_MAPPING[source.architecture]
    _check_fields(source, config_class)
    values: dict[str, Any] = {
        # A multiple of 8 keeps the head's matrix product aligned.
        "vocab_size": (len(tokenizer) + 7) // 8 * 8,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **source.overrides,
    }
    try:
        config: PretrainedConfig = config_class(**values)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise ModelError(
            "the fields of the architecture do not fit together", where=f"{_WHERE}.overrides", got=error
        ) from error
    return config


def build_random(
    source: RandomModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    attention: str,
    dtype: torch.dtype,
    classes: Sequence[str] | None = None,
) -> PreTrainedModel:
    """A model with weights drawn from `source.seed`; the global random state is left as it was.

    Args:
        source: architecture, sizes, seed.
        tokenizer: decides the vocabulary.
        attention: the kernel.
        dtype: of the weights.
        classes: names of the classes that a classifier tells apart; none builds a causal language model.

    Raises:
        ModelError: as `random_config`, or the architecture has no such model or not this attention kernel.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    config = random_config(source, tokenizer)
    auto = AutoModelForCausalLM if classes is None else AutoModelForSequenceClassification
    if classes is not None:
        name_classes(config, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        try:
            return auto.from_config(config, dtype=dtype, attn_implementation=attention)
        except (ValueError, ImportError, RuntimeError) as error:
            fix = "set model.attention: eager" if "scaled_dot_product_attention" in str(error) else None
            raise ModelError("the model cannot be built", where=_WHERE, got=error, fix=fix) from error


def name_classes(config: PretrainedConfig, classes: Sequence[str]) -> None:
    """Write the classes into a model's config, from which its head takes their number."""
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: number for number, name in enumerate(classes)}


def _check_fields(source: RandomModel, config_class: type[PretrainedConfig]) -> None:
    """Transformers takes any field without a word; a misspelt one would leave a model of another size."""
    known = {*config_class().to_dict(), *config_class.attribute_map}
    for name in source.overrides:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ModelError(
                f"`{source.architecture}` has no such field",
                where=f"{_WHERE}.overrides",
                got=name,
                fix=f"did you mean `{near[0]}`?" if near else None,
            )
