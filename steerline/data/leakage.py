"""Questions that stand both in what a model is trained on and in what it is tested on."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from steerline.data.examples import Example


@dataclass(frozen=True)
class Overlap:
    """What training and evaluation share.

    Args:
        pairs: (id of a training example, id of an evaluation example) with the same prompt, one for each evaluation
            example that is affected.
        evaluated: number of evaluation examples.
    """

    pairs: tuple[tuple[str, str], ...]
    evaluated: int

    @property
    def share(self) -> float:
        """Share of the evaluation examples whose prompt was trained on, 0 to 1."""
        return len(self.pairs) / self.evaluated if self.evaluated else 0.0

    def __str__(self) -> str:
        if not self.pairs:
            return f"none of {self.evaluated} evaluation examples was trained on"
        named = ", ".join(f"{tested} (trained as {trained})" for trained, tested in self.pairs[:5])
        more = f", and {len(self.pairs) - 5} more" if len(self.pairs) > 5 else ""
        return f"{len(self.pairs)} of {self.evaluated} evaluation examples were trained on: {named}{more}"


def overlap(train: Sequence[Example], evaluation: Sequence[Example]) -> Overlap:
    """Evaluation examples whose prompt is that of a training example, letter case and white space aside.

    Examples without a prompt (plain text) are compared by their text.
    """
    trained: dict[str, str] = {}
    for example in train:
        trained.setdefault(_key(example), example.id)
    pairs = tuple((trained[key], example.id) for example in evaluation if (key := _key(example)) in trained)
    return Overlap(pairs, len(evaluation))


def _key(example: Example) -> str:
    text = unicodedata.normalize("NFKC", example.prompt or example.answer)
    return " ".join(text.casefold().split())
