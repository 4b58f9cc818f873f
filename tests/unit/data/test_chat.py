"""In a conversation the loss falls on what the assistant wrote, up to its end-of-turn token, and on nothing else."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from steerline.data.chat import encode_chat
from steerline.data.examples import Example
from steerline.errors import DataError
from tests.tiny import tiny_tokenizer

TALK = (
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "more"},
    {"role": "assistant", "content": "no"},
)
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}\n{% endfor %}"
PROMPTED = PLAIN + "{% if add_generation_prompt %}<assistant>{% endif %}"
MARKED = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content if loop.last or m.role != 'assistant' else '...' }}"
    "{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def _tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def _learned(tokenizer: PreTrainedTokenizerFast, messages: tuple[dict[str, str], ...]) -> list[str]:
    """The runs of tokens that carry the loss, as text."""
    ids, targets = encode_chat(Example("talk/1", "", "", messages=messages), tokenizer)
    assert len(ids) == len(targets)
    runs: list[list[int]] = []
    for index, (token, target) in enumerate(zip(ids, targets, strict=True)):
        if target:
            if not targets[index - 1]:
                runs.append([])
            runs[-1].append(token)
    return [tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize("template", [PROMPTED, MARKED], ids=["rendered turn by turn", "marked by the template"])
def test_the_loss_falls_on_each_assistant_turn_and_its_end(template: str) -> None:
    assert _learned(_tokenizer(template), TALK) == ["hello<eos>", "no<eos>"]


@pytest.mark.parametrize("template", [PROMPTED, MARKED])
def test_the_tokens_are_those_of_the_rendered_conversation(template: str) -> None:
    tokenizer = _tokenizer(template)
    ids, _ = encode_chat(Example("talk/1", "", "", messages=TALK), tokenizer)
    assert tokenizer.decode(ids) == tokenizer.apply_chat_template([dict(m) for m in TALK], tokenize=False)


def test_what_precedes_a_turn_is_its_generation_prompt() -> None:
    tokenizer = _tokenizer(PROMPTED)
    ids, targets = encode_chat(Example("talk/1", "", "", messages=TALK), tokenizer)
    prompt = tokenizer.apply_chat_template([dict(m) for m in TALK[:4]], tokenize=False, add_generation_prompt=True)
    last = len(targets) - targets[::-1].index(True) - len("no<")
    assert tokenizer.decode(ids[:last]) == prompt


def test_without_a_generation_prompt_the_header_is_learned_too() -> None:
    assert _learned(_tokenizer(PLAIN), TALK[1:3]) == ["<assistant>hello<eos>"]


def test_a_conversation_that_the_assistant_opens_is_learned_from_its_first_token() -> None:
    assert _learned(_tokenizer(PROMPTED), (TALK[2], TALK[3], TALK[4])) == ["<assistant>hello<eos>", "no<eos>"]


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    with pytest.raises(DataError, match="told apart") as caught:
        _learned(_tokenizer(FORGETFUL), TALK)
    assert caught.value.where == "example talk/1"
    assert "generation" in str(caught.value.fix)
    assert _learned(_tokenizer(FORGETFUL), TALK[:3]) == ["hello<eos>"]


def test_a_tokenizer_without_a_template_is_refused() -> None:
    with pytest.raises(DataError, match="no chat template"):
        _learned(_tokenizer(None), TALK)


def test_a_conversation_without_an_assistant_is_refused() -> None:
    with pytest.raises(DataError, match="no assistant turn"):
        _learned(_tokenizer(PROMPTED), TALK[:2])
