"""Examples as tokens, with a mark on those that carry the loss.

Conventions, the same for training and for scoring:

- A beginning-of-text token stands first exactly when the tokenizer itself puts one there.
- The prompt's tokens are those that generation starts from. Where the tokenizer would merge the end of the prompt with
  the beginning of the answer, the answer is tokenised on its own, so that no merge crosses the border.
- The end-of-text token follows the answer and carries the loss.
- The first token of a sequence never carries the loss: nothing precedes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from steerline.data.chat import encode_chat
from steerline.data.examples import Example
from steerline.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LossOn = Literal["answer", "all"]


@dataclass(frozen=True)
class TokenizedExample:
    """One example as tokens: `input_ids` [T] int32, and `targets` [T] bool, true where a token carries the loss."""

    id: str
    input_ids: NDArray[np.int32]
    targets: NDArray[np.bool_]
    label: int | None = None
    """The class of the whole text; its one target is then the last token. None where tokens are learned."""
    num_closing: int = 0
    """Special tokens at the end that stay when a text is cut, e.g. BERT's [SEP]."""

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def num_targets(self) -> int:
        """Tokens that carry the loss."""
        return int(self.targets.sum())

    def truncated(self, max_length: int) -> TokenizedExample:
        """The first `max_length` tokens; of a text to classify, the special tokens at its end and its class remain."""
        if self.label is None:
            return TokenizedExample(self.id, self.input_ids[:max_length], self.targets[:max_length])
        kept = max(0, max_length - self.num_closing)
        ids = np.concatenate([self.input_ids[:kept], self.input_ids[len(self) - self.num_closing :]])[:max_length]
        return classified(self.id, ids, self.label, self.num_closing)


def tokenize(example: Example, tokenizer: PreTrainedTokenizerBase, loss_on: LossOn) -> TokenizedExample:
    """One example as tokens. Many at once go faster through `tokenize_all`.

    Raises:
        DataError: as `tokenize_all`.
    """
    return tokenize_all([example], tokenizer, loss_on)[0]


def tokenize_all(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, loss_on: LossOn
) -> list[TokenizedExample]:
    """Examples as tokens, in order.

    Args:
        examples: what to tokenise; conversations go through the tokenizer's chat template, texts with a class (all of
            the examples, or none) through `tokenize_texts`.
        tokenizer: needs an end-of-text token, but for texts with a class.
        loss_on: `answer` (for a conversation, the assistant's turns) or `all`.

    Raises:
        DataError: the tokenizer has no end-of-text token or no chat template, or a text cannot be split at the border.
    """
    if all(example.target == "class" for example in examples):
        return tokenize_texts(examples, tokenizer)
    eos = end_of_text(tokenizer)
    bos = beginning_of_text(tokenizer)
    plain = [example for example in examples if not example.messages]
    pairs = iter(_encode_pairs(plain, tokenizer))
    result = []
    for example in examples:
        if example.messages:
            ids, targets = encode_chat(example, tokenizer)
        else:
            prompt, answer = next(pairs)
            ids = [*bos, *prompt, *answer, eos]
            targets = [False] * (len(bos) + len(prompt)) + [True] * (len(answer) + 1)
        result.append(_marked(example.id, ids, targets, loss_on, skip=len(bos)))
    return result


def tokenize_texts(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> list[TokenizedExample]:
    """Texts with a class as tokens, in order, with whatever special tokens the tokenizer puts around a text.

    The class stands at the last token. A text without any token has no target.
    """
    num_closing = _num_closing(tokenizer)
    encoded = _ids(tokenizer, [example.prompt for example in examples], special=True)
    result = []
    for example, ids in zip(examples, encoded, strict=True):
        assert example.label is not None
        result.append(classified(example.id, np.array(ids, dtype=np.int32), example.label, num_closing))
    return result


def classified(id_: str, input_ids: NDArray[np.int32], label: int, num_closing: int) -> TokenizedExample:
    """A text whose class stands at its last token."""
    targets = np.zeros(len(input_ids), dtype=np.bool_)
    targets[-1:] = True
    return TokenizedExample(id_, input_ids, targets, label, num_closing)


def _num_closing(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many special tokens the tokenizer puts after a text."""
    plain, whole = _ids(tokenizer, ["a"])[0], _ids(tokenizer, ["a"], special=True)[0]
    before = next(n for n in range(len(whole) + 1) if whole[n : n + len(plain)] == plain)
    return len(whole) - before - len(plain)


def _marked(id_: str, ids: list[int], targets: list[bool], loss_on: LossOn, *, skip: int) -> TokenizedExample:
    marks = np.array(targets, dtype=np.bool_) if loss_on == "answer" else np.ones(len(ids), dtype=np.bool_)
    marks[: max(1, skip)] = False
    return TokenizedExample(id_, np.array(ids, dtype=np.int32), marks)


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the end-of-text token.

    Raises:
        DataError: the tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise DataError(
            "the tokenizer has no end-of-text token, so a model could not learn to stop",
            where=str(tokenizer.name_or_path),
            fix="set `eos_token` in the tokenizer's folder (tokenizer_config.json)",
        )
    return int(tokenizer.eos_token_id)


def beginning_of_text(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """`[bos]` where the tokenizer puts that token before a text by itself, else `[]`."""
    first = _ids(tokenizer, [""], special=True)[0][:1]
    return first if tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id] else []


def padding(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id to fill rows with. Padding is masked everywhere, so any id will do where the tokenizer names none."""
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return end_of_text(tokenizer)


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], *, special: bool = False) -> list[list[int]]:
    if not texts:
        return []
    # verbose=False: an example longer than the model is ours to report, with its id.
    encoded = tokenizer(
        texts, add_special_tokens=special, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _encode_pairs(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], list[int]]]:
    """Tokens of each prompt and of each answer, so that the two in a row spell the example's text."""
    prompts = _ids(tokenizer, [example.prompt for example in examples])
    wholes = _ids(tokenizer, [example.prompt + example.answer for example in examples])
    pairs: list[tuple[list[int], list[int]]] = []
    for example, prompt, whole in zip(examples, prompts, wholes, strict=True):
        if not example.prompt:
            pairs.append(([], whole))
        elif whole[: len(prompt)] == prompt:
            pairs.append((prompt, whole[len(prompt) :]))
        else:
            pairs.append((prompt, _continuation(example, tokenizer, prompt, whole)))
    return pairs


def _continuation(
    example: Example, tokenizer: PreTrainedTokenizerBase, prompt: list[int], whole: list[int]
) -> list[int]:
    """The answer's tokens where a merge would cross the border.

    Tried in turn: the answer alone; the answer behind a line break, for tokenizers that put a space before every text.
    The first whose tokens decode to the example's own text is taken.
    """
    spelled = tokenizer.decode(whole)
    guard = _ids(tokenizer, ["\n"])[0]
    behind = _ids(tokenizer, ["\n" + example.answer])[0]
    candidates = [_ids(tokenizer, [example.answer])[0]]
    if behind[: len(guard)] == guard:
        candidates.append(behind[len(guard) :])
    for candidate in candidates:
        if tokenizer.decode(prompt + candidate) == spelled:
            return candidate
    raise DataError(
        "a prompt and its answer cannot be tokenised apart",
        where=f"example {example.id}",
        got=f"{example.prompt[-20:]!r} + {example.answer[:20]!r}",
        fix="end the prompt with a line break, or begin the answer with a space",
    )
