from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig

from steerline.data.examples import Example
from steerline.errors import EvaluationError
from steerline.evaluation.encoding import encode_prompts
from steerline.evaluation.generation import generate_texts
from tests.tiny import DECODER_FAMILIES, tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
PROMPTS = [Example(str(i), "ab" * i + " q\n", "x") for i in range(1, 6)]


def greedy_by_hand(model: torch.nn.Module, prompt: str, steps: int) -> list[int]:
    """Argmax, one token a full forward, no padding and no cache."""
    ids = encode_prompts([Example("", prompt, "x")], TOKENIZER)[0].tolist()
    new: list[int] = []
    for _ in range(steps):
        token = int(model(torch.tensor([ids + new])).logits[0, -1].argmax())
        if token == TOKENIZER.eos_token_id:
            break
        new.append(token)
    return new


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_padded_batches_generate_what_each_prompt_gives_alone(family: str) -> None:
    model = tiny_model(family)
    texts = generate_texts(model, TOKENIZER, PROMPTS, max_new_tokens=6, stop_at_newline=False)
    with torch.no_grad():
        for text, example in zip(texts, PROMPTS, strict=True):
            expected = greedy_by_hand(model, example.prompt, 6)
            assert text == TOKENIZER.decode(expected, skip_special_tokens=True)


def test_batch_size_does_not_change_texts() -> None:
    model = tiny_model("llama")
    one_by_one = generate_texts(model, TOKENIZER, PROMPTS, max_new_tokens=5, stop_at_newline=False, batch_tokens=1)
    assert one_by_one == generate_texts(model, TOKENIZER, PROMPTS, max_new_tokens=5, stop_at_newline=False)


def test_the_models_own_penalties_and_sampling_do_not_act_and_are_restored() -> None:
    model = tiny_model("llama")
    plain = generate_texts(model, TOKENIZER, PROMPTS, max_new_tokens=8, stop_at_newline=False)
    own = GenerationConfig(do_sample=True, temperature=5.0, repetition_penalty=5.0, suppress_tokens=list(range(200)))
    model.generation_config = own
    assert generate_texts(model, TOKENIZER, PROMPTS, max_new_tokens=8, stop_at_newline=False) == plain
    assert model.generation_config is own


class Scripted:
    """Makes a model say given texts, whatever the prompt: sets the head's output of each step."""

    def __init__(self, model: torch.nn.Module, texts: list[str]) -> None:
        self.ids = [[*TOKENIZER(text, add_special_tokens=False).input_ids] for text in texts]
        self.step = 0
        self.handle = model.get_output_embeddings().register_forward_hook(self)  # type: ignore[operator]

    def __call__(self, _module: object, _args: object, out: torch.Tensor) -> torch.Tensor:
        scripted = torch.zeros_like(out)
        for row in range(out.shape[0]):
            tokens = self.ids[row]
            token = tokens[self.step] if self.step < len(tokens) else TOKENIZER.eos_token_id
            scripted[row, -1, token] = 1
        self.step += 1
        return scripted


def say(texts: list[str], *, stop_at_newline: bool, max_new_tokens: int = 20) -> tuple[list[str], int]:
    model = tiny_model("llama")
    script = Scripted(model, texts)
    prompts = [Example(str(i), "same length\n", "x") for i in range(len(texts))]
    out = generate_texts(model, TOKENIZER, prompts, max_new_tokens=max_new_tokens, stop_at_newline=stop_at_newline)
    return out, script.step


def test_a_line_break_ends_an_answer_but_not_before_it_has_begun() -> None:
    texts, steps = say(["\n true\nQuestion", "false\n\nmore", "ok"], stop_at_newline=True)
    assert texts == ["true", "false", "ok"]
    assert steps == len("\n true\n")


def test_reasoning_goes_on_over_line_breaks_to_the_end_of_text() -> None:
    texts, steps = say(["one\ntwo\n7", "5"], stop_at_newline=False)
    assert texts == ["one\ntwo\n7", "5"]
    assert steps == len("one\ntwo\n7") + 1


def test_generation_stops_at_the_longest_allowed_answer() -> None:
    assert say(["abcdefgh"], stop_at_newline=False, max_new_tokens=3) == (["abc"], 3)


def test_a_conversation_is_prompted_up_to_its_last_answer() -> None:
    turns = (
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "second"},
    )
    prompt = TOKENIZER.decode(encode_prompts([Example("c", "", "second", messages=turns)], TOKENIZER)[0])
    assert "first" in prompt
    assert "two" in prompt
    assert "second" not in prompt


def test_prompts_without_room_for_an_answer_and_encoders_are_refused() -> None:
    with pytest.raises(EvaluationError, match="longer than the model's context") as caught:
        generate_texts(
            tiny_model("llama"), TOKENIZER, [Example("long", "q" * 500, "x")], max_new_tokens=20, stop_at_newline=True
        )
    assert "item long" in str(caught.value)
    with pytest.raises(EvaluationError, match="cannot generate"):
        generate_texts(tiny_model("bert"), TOKENIZER, PROMPTS, max_new_tokens=4, stop_at_newline=True)
