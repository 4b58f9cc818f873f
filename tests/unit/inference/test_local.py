from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from steerline.config.safr import VmaskSpec
from steerline.config.steering import SteeringSpec
from steerline.errors import InferenceError
from steerline.inference.request import ChatMessage, GenRequest
from steerline.steering.attach import attach
from tests.tiny import DECODER_FAMILIES, tiny_model
from tests.unit.inference.tiny_backend import (
    SHARED,
    TOKENIZER,
    backend,
    boosted,
    by_hand,
    complete,
    generate,
    scaled,
    texts,
)

PROMPTS = ["a", "Tell me of the sea, ", "ab" * 7, "What next? "]
STEERINGS = [None, boosted(0.0), boosted(0.4), boosted(1.0), boosted(1.0, select="magnitude"), scaled(0.5), scaled(1.0)]


@pytest.mark.parametrize("family", DECODER_FAMILIES)
@pytest.mark.parametrize("beginning", ["", SHARED])
def test_a_batch_continues_each_prompt_as_it_would_be_alone_without_cache_and_padding(
    family: str, beginning: str
) -> None:
    # Gemma 2's own attention masks with the least float64 and takes a float32 softmax of it: padding becomes NaN.
    model = tiny_model(family, dtype=torch.float32 if family == "gemma2" else torch.float64)
    requests = [complete(beginning + prompt) for prompt in PROMPTS]
    assert texts(backend(family, model), requests) == [by_hand(model, request) for request in requests]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("beginning", ["", SHARED])
def test_each_row_is_steered_as_it_would_be_alone(family: str, beginning: str) -> None:
    model = tiny_model(family, dtype=torch.float64)
    requests = [complete(f"{beginning}{prompt}", steering=steering) for prompt in PROMPTS[:2] for steering in STEERINGS]
    alone = []
    for request in requests:
        with attach(model, request.steering or SteeringSpec()) as attachment:
            attachment.phase = "train"
            alone.append(by_hand(model, request))
    assert len(set(alone)) >= 4
    assert texts(backend(family, model), requests) == alone


def logits_of_plain_rows(model: PreTrainedModel, requests: list[GenRequest]) -> list[torch.Tensor]:
    """[V] of each row without steering, at each step."""
    seen: list[torch.Tensor] = []
    plain = [index for index, request in enumerate(requests) if request.call == "plain"]

    def keep(_module: object, _args: object, out: torch.Tensor) -> None:
        if len(out) == len(requests):  # not the passes over what prompts share
            seen.extend(out[plain, -1].clone())

    handle = model.get_output_embeddings().register_forward_hook(keep)
    generate(backend(model=model), requests)
    handle.remove()
    return seen


@pytest.mark.parametrize("beginning", ["", SHARED])
def test_an_unsteered_row_has_the_bits_of_the_plain_model_beside_any_neighbours(beginning: str) -> None:
    model = tiny_model("llama")
    plain = [complete(f"{beginning}{prompt}", call="plain") for prompt in PROMPTS]
    # Each begins in its own way: what they shared they would share under one steering alone, in other passes.
    neighbours = [complete(f"{n}{beginning}{prompt}") for n, prompt in enumerate(PROMPTS)]
    among_plain = logits_of_plain_rows(model, [*plain, *neighbours])
    # The same rows, now with steered neighbours in place of plain ones.
    among_steered = logits_of_plain_rows(
        model, [*plain, *(replace(near, steering=STEERINGS[2 + n]) for n, near in enumerate(neighbours))]
    )
    assert len(among_plain) > 4
    assert all(torch.equal(a, b) for a, b in zip(among_plain, among_steered, strict=False))


def test_a_draw_depends_on_its_seed_and_not_on_its_neighbours() -> None:
    local = backend()
    warm = {"temperature": 1.0, "top_p": 0.9}
    rows = [complete(prompt, sampling=warm, seed=seed) for prompt in PROMPTS for seed in range(3)]
    together = texts(local, rows)
    assert texts(local, rows[::-1]) == together[::-1]
    assert [texts(local, [row])[0] for row in rows] == together
    assert len(set(together)) == len(rows)


def test_hooks_are_gone_after_a_batch() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    local = backend(model=model)
    before = texts(local, [complete("a")])
    texts(local, [complete("a", steering=boosted(1.0))])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert texts(local, [complete("a")]) == before


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (complete("a" * 600), "too_long"),
        (complete(""), "refused"),
        (complete("a", steering=boosted(1.0, layers=(7,))), "refused"),
        (complete("a", steering=SteeringSpec(vmask=VmaskSpec())), "refused"),
    ],
)
def test_a_request_that_cannot_be_answered_fails_alone(request_: GenRequest, kind: str) -> None:
    good, bad = generate(backend(), [complete("a"), request_])
    assert good.text == texts(backend(), [complete("a")])[0]
    assert bad.failure is not None
    assert (bad.failure.kind, bad.failure.retryable) == (kind, False)


def test_a_text_ends_where_the_context_does() -> None:
    (result,) = generate(backend(), [complete("a" * 500, max_tokens=100)])
    assert result.usage.prompt_tokens + result.usage.completion_tokens == 512
    assert result.finish_reason == "length"


def test_batches_keep_to_their_tokens_with_the_same_texts() -> None:
    requests = [complete(prompt * n) for prompt in PROMPTS for n in (1, 5)]
    assert texts(backend(max_batch_tokens=64), requests) == texts(backend(), requests)


def test_usage_counts_tokens_and_what_another_row_or_batch_had_paid_for() -> None:
    local = backend()
    requests = [complete(f"{SHARED}{prompt}") for prompt in PROMPTS]
    shared = len(TOKENIZER(SHARED)["input_ids"])
    first, second = generate(local, requests), generate(local, requests)
    assert [r.usage.prompt_tokens for r in first] == [len(TOKENIZER(r.prompt)["input_ids"]) for r in requests]
    assert [r.usage.cached_tokens for r in first] == [0, shared, shared + 1, shared]  # two of them go on with an `a`
    assert [r.usage.cached_tokens for r in second] == [r.usage.prompt_tokens - 1 for r in first]
    assert [r.text for r in first] == [r.text for r in second]
    assert generate(local, [complete(f"{SHARED}And?")])[0].usage.cached_tokens == shared
    assert generate(local, [complete(f"{SHARED}And?", steering=boosted(1.0))])[0].usage.cached_tokens == 0


def test_the_event_loop_runs_while_the_model_does() -> None:
    model = tiny_model("llama")
    local = backend(model=model)
    reached, go = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        reached.set()
        assert go.wait(30)

    handle = model.base_model.register_forward_pre_hook(wait)

    async def main() -> str:
        task = asyncio.create_task(local.generate([complete("a")]))
        while not reached.is_set():
            await asyncio.sleep(0)
        go.set()  # which a blocked loop could not
        return (await task)[0].text

    assert asyncio.run(main()) is not None
    handle.remove()


def test_a_cancelled_batch_ends_after_the_token_that_it_is_at() -> None:
    model = tiny_model("llama")
    local = backend(model=model)
    passes = 0
    reached, go = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        nonlocal passes
        passes += 1
        reached.set()
        assert go.wait(30)

    model.base_model.register_forward_pre_hook(wait)

    async def main() -> None:
        task = asyncio.create_task(local.generate([complete("a", max_tokens=100)]))
        while not reached.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        await local.generate([complete("b", max_tokens=1)])  # one thread: the first batch has ended when this one has

    asyncio.run(main())
    assert passes == 2


def test_an_encoder_is_refused() -> None:
    with pytest.raises(InferenceError, match="cannot write text"):
        backend("bert")


def test_a_conversation_goes_through_the_chat_template() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    rendered = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    request = GenRequest("m", tuple(ChatMessage(**message) for message in messages), sampling=complete("a").sampling)
    assert texts(backend(model=model), [request]) == [by_hand(model, complete(rendered))]
