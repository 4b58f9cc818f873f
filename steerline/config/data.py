"""Which examples, in which form, cut and packed how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from steerline.config.archive import PackagedRef
from steerline.config.base import Spec, misfit


class HubData(Spec):
    """A data set on the Hugging Face hub."""

    kind: Literal["hub"]
    id: str
    """Repository, e.g. `allenai/ai2_arc`."""
    config: str | None = None
    """Named configuration, e.g. `ARC-Easy`."""
    revision: str = "main"
    """Branch, tag or commit."""
    split: str
    """Split, e.g. `train` or `validation[:200]`."""


class FileData(Spec):
    """A JSONL, JSON, Parquet or CSV file, or a folder saved by `datasets`."""

    kind: Literal["file"]
    path: str
    """File, glob or folder."""


class PackagedData(PackagedRef):
    """A data set carried inside a registry package."""

    kind: Literal["packaged"]


class SyntheticData(Spec):
    """Examples made by a generator of `steerline.data.synthetic`."""

    kind: Literal["synthetic"]
    generator: Literal["arithmetic", "signal_noise"]
    """Name of the generator."""
    size: int = Field(ge=1)
    """Number of examples."""
    seed: int = 0
    """Seed; the same seed gives the same examples."""
    args: dict[str, Any] = Field(default_factory=dict)
    """The generator's own arguments."""


class TreebankData(Spec):
    """SST-2 from the raw Stanford Sentiment Treebank, made as the SAFR paper's authors do.

    A sentence is joined to the phrase dictionary by its exact text; a score up to 0.4 is negative, above 0.6 positive,
    the rest is left out. Rows have the columns `text` and `label` (0 negative, 1 positive).
    """

    kind: Literal["treebank"]
    path: str
    """Folder with datasetSentences.txt, datasetSplit.txt, dictionary.txt and sentiment_labels.txt."""
    split: Literal["train", "dev", "test"]
    """Which part; only `train` is balanced, by cutting the larger class short."""


class ReviewFolderData(Spec):
    """IMDB from the folder of its authors (`aclImdb`), split as in the SAFR paper.

    Of each class, the first 10,000 training reviews by file name are `train` and the other 2,500 `dev`. Rows have the
    columns `text` and `label` (0 negative, 1 positive).
    """

    kind: Literal["review_folder"]
    path: str
    """Folder that holds `train/pos`, `train/neg`, `test/pos` and `test/neg`."""
    split: Literal["train", "dev", "test"]
    """Which part."""
    train_per_class: int = Field(default=10_000, ge=1)
    """Reviews of each class in `train`; the rest of the training folder is `dev`."""


DataSource = Annotated[
    HubData | FileData | PackagedData | SyntheticData | TreebankData | ReviewFolderData, Field(discriminator="kind")
]

TaskName = Literal[
    "boolq",
    "piqa",
    "social_i_qa",
    "hellaswag",
    "winogrande",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
    "gsm8k",
    "addsub",
    "singleeq",
    "multiarith",
    "aqua",
    "mawps",
    "svamp",
    "asdiv",
    "arithmetic",
]
ID_TASKS: tuple[TaskName, ...] = (
    "boolq",
    "piqa",
    "social_i_qa",
    "hellaswag",
    "winogrande",
    "gsm8k",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
)
OOD_TASKS: tuple[TaskName, ...] = ("addsub", "singleeq", "multiarith", "aqua", "mawps", "svamp")


class TaskFormat(Spec):
    """One of the known tasks, under the LLM-Adapters prompt protocol."""

    kind: Literal["task"]
    task: TaskName
    """Which task the rows are of."""


class PromptAnswerFormat(Spec):
    """A prompt and an answer from columns, through templates."""

    kind: Literal["prompt_answer"]
    prompt: str
    """Template over the row's columns, e.g. `"{question}\\n"`."""
    answer: str
    """Template of the answer, e.g. `"{answer}"`."""


class ChatFormat(Spec):
    """A column of chat messages, through the tokenizer's chat template; the loss falls on assistant turns."""

    kind: Literal["chat"]
    messages: str = "messages"
    """Column that holds a list of `{role, content}`."""


class TextFormat(Spec):
    """Plain text; the loss falls on every token."""

    kind: Literal["text"]
    text: str = "text"
    """Column that holds the text."""


class ClassificationFormat(Spec):
    """A text and its class, for `objective.kind: classification`."""

    kind: Literal["classification"]
    text: str = "{text}"
    """Template over the row's columns, e.g. `"{premise} {hypothesis}"`."""
    label: str = "label"
    """Column with the class: its name, or its number in `classes`."""
    classes: tuple[str, ...] = Field(min_length=2)
    """Names of the classes, by number from 0, e.g. `[negative, positive]`."""

    @field_validator("classes")
    @classmethod
    def _classes_are_distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) != len(classes):
            raise misfit("two classes have the same name", expected="each class once")
        return classes


DataFormat = Annotated[
    TaskFormat | PromptAnswerFormat | ChatFormat | TextFormat | ClassificationFormat, Field(discriminator="kind")
]


class DatasetSpec(Spec):
    """Rows from one source, read in one format."""

    source: DataSource
    """Where the rows come from."""
    format: DataFormat
    """How a row becomes a prompt and an answer."""
    limit: int | None = Field(default=None, ge=1)
    """Keep this many rows, drawn without replacement by the seed below; none keeps all, in order."""
    seed: int = 0
    """Seed of that draw."""


class DataSpec(Spec):
    """What a model is trained on, and the held-out part on which its loss is followed."""

    train: tuple[DatasetSpec, ...] = Field(min_length=1)
    """Training sets; mixed in proportion to their sizes."""
    heldout: tuple[DatasetSpec, ...] = ()
    """Sets for the held-out loss; never trained on."""
    max_length_tokens: int = Field(default=256, ge=2)
    """Longest sequence; with packing, the length of every packed row."""
    overlong: Literal["error", "truncate", "drop"] = "error"
    """What to do with a longer example: stop and name it, cut its end, or leave it out and say how many."""
    packing: bool = False
    """Put several short examples into one row; attention and positions do not cross examples."""
    loss_on: Literal["answer", "all"] = "answer"
    """Tokens that carry the loss."""
