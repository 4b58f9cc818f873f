"""Greedy generation in left-padded batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from steerline.data.examples import Example
from steerline.errors import EvaluationError
from steerline.evaluation.encoding import Ints, encode_prompts
from steerline.evaluation.model_facts import check_length, device_of
from steerline.models.anatomy import transformers_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Progress = Callable[[int], None]


def generate_texts(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    max_new_tokens: int,
    stop_at_newline: bool,
    batch_tokens: int = 4096,
    on_progress: Progress = lambda _: None,
) -> list[str]:
    """The greedy continuation of every example's prompt, without special tokens, up to an end-of-text token, a line
    break after the first visible character (if asked), or `max_new_tokens`.

    The model's own sampling defaults and penalties do not act.

    Raises:
        EvaluationError: a prompt and its longest answer do not fit into the model's context.
    """
    prompts = encode_prompts(examples, tokenizer)
    for example, prompt in zip(examples, prompts, strict=True):
        check_length(model, len(prompt) + max_new_tokens, example.id)
    _, inner = transformers_model(model)
    if not inner.can_generate():
        raise EvaluationError(
            "this model cannot generate",
            got=type(inner).__name__,
            expected="a causal language model",
            fix="use `method: likelihood`, or a causal model",
        )
    texts = [""] * len(examples)
    done = 0
    with _greedy(inner, tokenizer, max_new_tokens) as config, torch.no_grad():
        for batch in _batches(prompts, max_new_tokens, batch_tokens):
            ids, mask = _left_pad([prompts[i] for i in batch], device_of(model))
            criteria = StoppingCriteriaList([_AfterNewline(tokenizer)] if stop_at_newline else [])
            out = inner.generate(
                input_ids=ids, attention_mask=mask, generation_config=config, stopping_criteria=criteria
            )
            for i, text in zip(batch, _decode(tokenizer, out[:, ids.shape[1] :], config), strict=True):
                texts[i] = _first_line(text) if stop_at_newline else text
            done += len(batch)
            on_progress(done)
    return texts


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip()


def _decode(tokenizer: PreTrainedTokenizerBase, new: Tensor, config: GenerationConfig) -> list[str]:
    # A finished row is filled up with padding, which may be an ordinary token of a tokenizer without one of its own.
    ends = set(config.eos_token_id)
    rows = []
    for row in new.tolist():
        length = next((i for i, token in enumerate(row) if token in ends), len(row))
        rows.append(tokenizer.decode(row[:length], skip_special_tokens=True))
    return rows


class _AfterNewline(StoppingCriteria):
    """Ends a row at the first line break after something visible. A step looks at one token of each row."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, str] = {}
        self._seen: list[bool] = []
        self._done: list[bool] = []

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:  # noqa: ARG002
        tokens = input_ids[:, -1].tolist()
        if not self._seen:
            self._seen, self._done = [False] * len(tokens), [False] * len(tokens)
        for i, token in enumerate(tokens):
            text = self._text(token)
            before, newline, _ = text.partition("\n")
            self._done[i] |= bool(newline) and (self._seen[i] or bool(before.strip()))
            self._seen[i] |= bool(text.strip())
        return torch.tensor(self._done, device=input_ids.device)

    def _text(self, token: int) -> str:
        if token not in self._texts:
            self._texts[token] = self._tokenizer.decode([token])
        return self._texts[token]


def _batches(prompts: Sequence[Ints], max_new_tokens: int, batch_tokens: int) -> list[list[int]]:
    """Indices of prompts of like length together, longest first, within `batch_tokens` at their final length."""
    result: list[list[int]] = []
    width = 0
    for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True):
        if not result or (len(result[-1]) + 1) * width > batch_tokens:
            result.append([])
            width = len(prompts[i]) + max_new_tokens
        result[-1].append(i)
    return result


def _left_pad(prompts: Sequence[Ints], device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.from_numpy(prompt)
        mask[i, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


@contextmanager
def _greedy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int
) -> Iterator[GenerationConfig]:
    """Plain argmax decoding. The model's own generation config is set aside meanwhile: what a given config leaves open
    would be filled from it, a repetition penalty for example."""
    own = model.generation_config
    listed = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    ends = sorted({token for token in (*listed, tokenizer.eos_token_id) if token is not None})
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends[0] if ends else 0)
    config = GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=max_new_tokens, eos_token_id=ends, pad_token_id=pad, use_cache=True
    )
    model.generation_config = GenerationConfig()
    try:
        yield config
    finally:
        model.generation_config = own
