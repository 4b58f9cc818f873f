from __future__ import annotations

import pytest
import torch

from steerline.inference.request import GenResult
from tests.tiny import tiny_model
from tests.unit.inference.tiny_backend import TOKENIZER, backend, complete, generate


class Scripted:
    """Makes a model say given texts, whatever the prompt, and counts the rows that it computes."""

    def __init__(self, model: torch.nn.Module, texts: list[str]) -> None:
        self.ids = [TOKENIZER(text, add_special_tokens=False).input_ids for text in texts]
        self.live = list(range(len(texts)))
        self.step = 0
        self.rows: list[int] = []
        model.get_output_embeddings().register_forward_hook(self)

    def __call__(self, _module: object, _args: object, out: torch.Tensor) -> torch.Tensor:
        if len(out) < len(self.live):  # the ended ones have left
            self.live = [row for row in self.live if self.step < len(self.ids[row]) + 1]
        self.rows.append(len(out))
        scripted = torch.zeros_like(out)
        for place, row in enumerate(self.live[: len(out)]):
            tokens = self.ids[row]
            scripted[place, -1, tokens[self.step] if self.step < len(tokens) else TOKENIZER.eos_token_id] = 1
        self.step += 1
        return scripted


def say(text: str, max_tokens: int = 40, stop: tuple[str, ...] = ()) -> tuple[GenResult, int]:
    model = tiny_model("llama")
    script = Scripted(model, [text])
    (result,) = generate(backend(model=model), [complete("Q", max_tokens, sampling={"stop": stop})])
    return result, script.step


@pytest.mark.parametrize(
    ("stop", "text", "passes"),
    [
        (("four",), "one two three ", 18),
        (("ee f", "five"), "one two thr", 15),
        (("five", "o t"), "one tw", 9),
        (("\n",), "one two three four", 19),
        (("six",), "one two three four", 19),
        (("é",), "one two three four", 19),
    ],
)
def test_a_text_ends_before_the_first_stop_text(stop: tuple[str, ...], text: str, passes: int) -> None:
    result, steps = say("one two three four", stop=stop)
    assert (result.text, result.finish_reason, steps) == (text, "stop", passes)


def test_a_stop_text_of_several_bytes_a_character_is_found() -> None:
    assert say("naïve → café", stop=("→ c",))[0].text == "naïve "


def test_the_end_of_text_token_is_no_part_of_the_text() -> None:
    result, _ = say("yes")
    assert (result.text, result.finish_reason, result.usage.completion_tokens) == ("yes", "stop", 4)


def test_a_text_has_at_most_its_tokens() -> None:
    result, steps = say("one two three", max_tokens=5)
    assert (result.text, result.finish_reason, result.usage.completion_tokens, steps) == ("one t", "length", 5, 5)


def test_a_stop_text_of_the_prompt_does_not_act() -> None:
    model = tiny_model("llama")
    Scripted(model, ["yes"])
    assert generate(backend(model=model), [complete("Q\n\n", sampling={"stop": ("\n",)})])[0].text == "yes"


def test_rows_that_have_ended_are_not_computed_any_further() -> None:
    model = tiny_model("llama")
    script = Scripted(model, ["a", "abcd", "abcdefgh"])
    results = generate(backend(model=model), [complete("Q", 40) for _ in range(3)])
    assert [result.text for result in results] == ["a", "abcd", "abcdefgh"]
    assert script.rows == [3] * 2 + [2] * 3 + [1] * 4
