"""Which model, from where, in which form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from steerline.config.archive import PackagedRef
from steerline.config.base import NOT_IDENTITY, Spec


class HubModel(Spec):
    """A model on the Hugging Face hub."""

    kind: Literal["hub"]
    id: str
    """Repository, e.g. `HuggingFaceTB/SmolLM2-135M`."""
    revision: str = "main"
    """Branch, tag or commit. Pin a commit for results that others can repeat."""


class LocalModel(Spec):
    """A folder in Hugging Face layout with safetensors weights, or a single `.gguf` file."""

    kind: Literal["local"]
    path: str
    """Folder or `.gguf` file. Pickle weights (`.bin`, `.pt`) are refused."""


class RunModel(Spec):
    """What a fine-tuning run on this storage has exported."""

    kind: Literal["run"]
    run: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")
    """The run's name, or its unique beginning."""
    storage_path: str = Field(default="runs", json_schema_extra=NOT_IDENTITY)
    """Folder of the runs, as in their `cluster.storage_path`."""
    trained_by: str | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """Config file of that run, for the message where it is missing."""


class PackagedModel(PackagedRef):
    """A model carried inside a registry package (GGUF, or a llama2.c checkpoint)."""

    kind: Literal["packaged"]


class WordTokenizer(Spec):
    """A tokenizer of whole words, made from the texts of `data.train`: white space separates, case is kept."""

    kind: Literal["words"]
    min_frequency: int = Field(default=2, ge=1)
    """Words that occur less often in the training texts are unknown."""
    max_words: int | None = Field(default=None, ge=1)
    """Keep this many of the most frequent words; none keeps all."""
    end_of_text: str | None = None
    """A token for the end of a text, such as `<eos>`, which a language model needs; none makes no such token."""


class RandomModel(Spec):
    """A model built from its architecture's config with random weights: for tests and training from scratch."""

    kind: Literal["random"]
    architecture: str
    """`model_type` of Transformers, e.g. `llama`, `gpt2`, `qwen3`; or `safr_classifier`, the SAFR paper's."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Fields of that architecture's config, e.g. `{hidden_size: 64, num_hidden_layers: 2}`."""
    tokenizer: str | WordTokenizer | None = None
    """Folder or hub id of the tokenizer, or `{kind: words}` to make one of the training texts; none builds a byte-level
    one of 256 tokens plus specials."""
    seed: int = 0
    """Seed of the random weights."""


ModelSource = Annotated[HubModel | LocalModel | RunModel | PackagedModel | RandomModel, Field(discriminator="kind")]


class LoraSpec(Spec):
    """Low-rank adapters through PEFT. The base weights are frozen."""

    rank: int = Field(default=8, ge=1)
    """Rank of each adapter."""
    alpha: float = Field(default=16.0, gt=0)
    """Scale; the update is `alpha / rank * B A`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before A."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the modules that get an adapter, or every linear layer but the head."""


class ModelSpec(Spec):
    """The model that a job trains, steers or evaluates."""

    source: ModelSource
    """Where the weights come from."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention kernel of Transformers."""
    trust_remote_code: bool = False
    """Run Python code that the model's repository carries. Leave off unless you have read that code."""
    lora: LoraSpec | None = None
    """Train low-rank adapters in place of all weights."""
    sites: dict[str, str] = Field(default_factory=dict)
    """Sites named by hand, for architectures that `anatomy` does not find, e.g.
    `{ffn_keys: "transformer.h.{layer}.mlp.c_proj"}`."""
