"""An answer held to a JSON schema: which tokens may come next, by llguidance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from steerline.errors import InferenceError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions
    from transformers import PreTrainedTokenizerBase


class Constraint:
    """One answer's way through a schema."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._matcher = matcher
        self._bits = torch.zeros(-(-vocabulary // 32), dtype=torch.int32)

    def mask(self, logits: Tensor) -> Tensor:
        """Logits [V] in which what may not come next is minus infinity."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.data_ptr(), self._bits.numel() * 4)
        allowed = (self._bits[:, None] >> torch.arange(32, dtype=torch.int32) & 1).bool().reshape(-1)
        V = min(len(allowed), len(logits))
        masked = torch.full_like(logits, -torch.inf)
        masked[:V] = logits[:V].masked_fill(~allowed[:V].to(logits.device), -torch.inf)
        return masked

    @property
    def error(self) -> str | None:
        """Why the answer cannot be held to the schema any further, for which llguidance has limits; it ends then."""
        return self._matcher.get_error().partition("\n")[0] if self._matcher.is_error() else None

    def take(self, token: int) -> None:
        """Goes on by a token that was allowed."""
        self._matcher.consume_token(token)


class Schemas:
    """Makes constraints for one model's vocabulary. The first one takes a second, to read the vocabulary.

    Args:
        tokenizer: the model's, a fast one.
        ends: tokens that end a text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = ends
        self._vocabulary: LLTokenizer | None = None

    def constraint(self, schema: Mapping[str, Any]) -> Constraint:
        """A way through this schema, at its beginning.

        Raises:
            InferenceError: llguidance is missing, or it cannot hold an answer to the schema.
        """
        try:
            import llguidance.hf
        except ImportError as error:
            raise InferenceError(
                "answers of a given schema need llguidance",
                fix="pip install 'steerline[serve]'",
            ) from error
        if self._vocabulary is None:
            self._vocabulary = llguidance.hf.from_tokenizer(self._tokenizer, eos_token=sorted(self._ends))
        try:
            # Without set whitespace a model may write line breaks to its last token.
            fixed: JsonCompileOptions = {"whitespace_flexible": False}
            grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=fixed)
        except ValueError as error:
            raise InferenceError("the response schema is no JSON schema", got=str(error)) from error
        matcher = llguidance.LLMatcher(self._vocabulary, grammar)
        if matcher.is_error():
            raise InferenceError("no answer can be held to this response schema", got=matcher.get_error())
        return Constraint(matcher, self._vocabulary.vocab_size)
