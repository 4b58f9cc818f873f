from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from steerline.inference.backends.local import LocalBackend
from steerline.inference.load import Load
from steerline.inference.pages import PAGE
from steerline.inference.request import Delta, GenRequest, GenResult
from tests.tiny import tiny_model
from tests.unit.inference.tiny_backend import SHARED, backend, boosted, by_hand, complete, generate, scaled

LONG = "Tell me of the sea, and of those who went out on it. "


@contextmanager
def at_each_pass(model: PreTrainedModel, act: Callable[[int, torch.Tensor], None]) -> Iterator[None]:
    """Calls `act` in the engine's thread with the number of each pass and its positions [N]."""
    passes = 0

    def before(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        nonlocal passes
        passes += 1
        act(passes, kwargs["position_ids"][:, 0])

    handle = model.base_model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def sizes_of_passes(local: LocalBackend, model: PreTrainedModel, requests: Sequence[GenRequest]) -> list[int]:
    sizes: list[int] = []
    with at_each_pass(model, lambda _, positions: sizes.append(len(positions))):
        generate(local, requests)
    return sizes


async def told(local: LocalBackend, request: GenRequest) -> list[Delta]:
    return [piece async for piece in local.stream(request)]


def test_a_row_joins_after_any_token_and_another_takes_its_place_when_it_ends() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    local = backend(model=model, max_batch=2)
    requests = [complete("first", 3), complete("second", 8), complete("third", 4)]
    sizes: list[int] = []
    with at_each_pass(model, lambda _, positions: sizes.append(len(positions))):
        results = generate(local, requests)
    assert [result.text for result in results] == [by_hand(model, request) for request in requests]
    # Two prompts of 5 and 6 bytes; when the first row has ended, the third joins with its 5 while the second goes on.
    first = [result.usage.completion_tokens for result in results]
    assert first == [3, 8, 4]
    assert sizes == [11, 2, 2, 6, 2, 2, 2, 1]


def test_the_load_tells_rows_and_pages_that_rows_hold_from_those_that_are_kept() -> None:
    model = tiny_model("llama")
    local = backend(model=model, max_batch=2, max_batch_tokens=8 * PAGE)
    loads = [local.current_load]
    with at_each_pass(model, lambda *_: loads.append(local.current_load)):
        generate(local, [complete("first", 3), complete("a" * (PAGE + 1), 8), complete("third", 4)])
    asyncio.run(local.close())
    assert loads[:2] == [Load(0, 0, 0, 0, 8), Load(2, 1, 3, 0, 5)]
    # The first has left for the third, and its page is kept.
    assert loads[4] == Load(2, 0, 3, 1, 4)


def test_whatever_joins_and_leaves_a_text_is_the_one_it_would_be_alone() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    dice = random.Random(3)
    steerings = [None, None, boosted(1.0), boosted(0.3), boosted(1.0, select="magnitude"), scaled(0.5)]
    requests = [
        complete(
            f"{SHARED if dice.random() < 0.5 else ''}{LONG[: dice.randrange(1, 50)]}",
            dice.randrange(1, 12),
            steering=dice.choice(steerings),
        )
        for _ in range(40)
    ]
    alone = [generate(backend(model=model), [request])[0].text for request in requests]

    async def main() -> None:
        local = backend(model=model, max_batch=5, max_batch_tokens=400)

        async def ask(number: int) -> str | None:
            for _ in range(dice.randrange(60)):
                await asyncio.sleep(0)
            if number % 4 == 3:  # stops listening after a piece or two
                stream = local.stream(requests[number])
                for _ in range(dice.randrange(1, 3)):
                    await anext(stream, None)
                await stream.aclose()
                return None
            if number % 4 == 2:
                return "".join([piece.text async for piece in local.stream(requests[number])])
            return (await local.generate([requests[number]]))[0].text

        said = await asyncio.gather(*map(ask, range(len(requests))))
        assert [text or whole for text, whole in zip(said, alone, strict=True)] == alone
        assert sum(text is None for text in said) == 10

    asyncio.run(main())


def test_rows_that_need_more_pages_than_there_are_begin_again_with_the_same_texts() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    requests = [complete(f"{n} {LONG}", 60) for n in range(6)]
    narrow, wide = backend(model=model, max_batch_tokens=200), backend(model=model)
    joined: list[int] = []
    with at_each_pass(model, lambda _, positions: joined.append(int((positions == 0).sum()))):
        few = generate(narrow, requests)
    assert sum(joined) > len(requests)
    assert [r.text for r in few] == [r.text for r in generate(wide, requests)]
    assert all(r.usage.cached_tokens == 0 for r in few)


def test_prompts_come_in_chunks_while_other_rows_go_on() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    local = backend(model=model)
    sizes: list[int] = []

    async def main() -> None:
        first = asyncio.create_task(local.generate([complete("a", 40)]))
        while not sizes:
            await asyncio.sleep(0)
        await local.generate([complete("b" * 450, 1)])
        await first

    with at_each_pass(model, lambda _, positions: sizes.append(len(positions))):
        asyncio.run(main())
    assert [size for size in sizes if size > 2] == [257, 195]


def test_who_shares_a_long_beginning_waits_for_the_first_to_compute_it() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    local = backend(model=model)
    requests = [complete(f"{'x' * 200}{n}", 1) for n in range(4)]
    assert sizes_of_passes(local, model, requests) == [201, 3]
    assert sizes_of_passes(local, model, [complete(f"{'x' * 200}!", 1)]) == [1]


def test_a_cancelled_stream_frees_its_place_after_the_token_that_it_is_at() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    local = backend(model=model, max_batch=1)
    passes: list[int] = []

    async def main() -> list[GenResult]:
        stream = local.stream(complete("a", 400))
        await anext(stream)
        await stream.aclose()
        before = len(passes)
        results = await local.generate([complete("b", 2)])
        assert len(passes) - before <= 1 + 2
        return results

    with at_each_pass(model, lambda number, _: passes.append(number)):
        (result,) = asyncio.run(main())
    assert result.usage.completion_tokens == 2
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_nothing_is_told_to_an_event_loop_that_is_gone() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    local = backend(model=model)
    reached, go = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        reached.set()
        assert go.wait(30)

    async def main() -> None:
        task = asyncio.create_task(local.generate([complete("a", 1)]))
        while not reached.is_set():
            await asyncio.sleep(0)
        task.cancel()

    with at_each_pass(model, wait):
        asyncio.run(main())
        go.set()
        assert generate(local, [complete("b", 1)])[0].failure is None


def test_above_its_limit_of_waiting_requests_it_is_busy() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    local = backend(model=model, max_batch=1, max_waiting=2)
    results = generate(local, [complete("a", 2) for _ in range(4)])
    assert [result.failure and result.failure.kind for result in results] == [None, None, "busy", "busy"]
    failure = results[-1].failure
    assert failure is not None
    assert failure.retryable
    assert failure.retry_after_s is not None
    assert failure.retry_after_s > 0


@pytest.mark.parametrize("stop", [(), ("a",), ("e", "\n")])
def test_pieces_of_a_stream_are_its_text_and_the_last_one_has_the_result(stop: tuple[str, ...]) -> None:
    model = tiny_model("llama", dtype=torch.float64)
    local = backend(model=model)
    for seed in range(5):
        warm = {"temperature": 1.5, "stop": stop}
        request = complete("a", 40, sampling=warm, seed=seed, top_logprobs=2)
        pieces = asyncio.run(told(local, request))
        (whole,) = generate(local, [request])
        last = pieces[-1].result
        assert last is not None
        assert all(piece.result is None for piece in pieces[:-1])
        assert "".join(piece.text for piece in pieces) == last.text == whole.text
        assert tuple(told for piece in pieces for told in piece.logprobs) == last.logprobs == whole.logprobs
        assert not any(end in last.text for end in stop)


def test_a_refused_stream_has_one_piece() -> None:
    (piece,) = asyncio.run(told(backend(), complete("a", steering=boosted(1.0, layers=(9,)))))
    assert piece.result is not None
    assert piece.result.failure is not None
    assert piece.result.failure.kind == "refused"


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "top_p": 0.9}])
def test_a_steering_that_makes_numbers_infinite_fails_its_own_row_alone(sampling: dict[str, Any]) -> None:
    others = [complete(f"{word} is what I say", 40, top_logprobs=1) for word in ("salt", "bread", "night")]
    wanted = generate(backend(), others)
    # Memory for few rows, so that these lie where those lay.
    local = backend(max_batch=4, max_batch_tokens=512)
    for _ in range(3):
        wild, *beside = generate(local, [complete("salt", 40, steering=boosted(1e300), sampling=sampling), *others])
        assert wild.failure is not None
        assert (wild.failure.kind, "finite" in wild.failure.what) == ("refused", True)
        assert wild.usage.prompt_tokens > 0  # somebody pays for what was computed
        assert [(one.text, one.failure) for one in beside] == [(one.text, None) for one in wanted]
        torch.testing.assert_close(first_logprobs(beside), first_logprobs(wanted))


def first_logprobs(results: Sequence[GenResult]) -> list[list[float]]:
    return [[token.logprob for token in result.logprobs] for result in results]


def test_a_fault_reaches_all_who_wait_and_all_who_come() -> None:
    model = tiny_model("llama")
    local = backend(model=model)
    go = threading.Event()

    def fault(*_: object) -> None:
        assert go.wait(30)
        raise ZeroDivisionError

    async def main() -> None:
        asked = [asyncio.create_task(local.generate([complete("a")])) for _ in range(3)]
        await asyncio.sleep(0)
        go.set()
        for error in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(error, ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            await told(local, complete("b"))

    with at_each_pass(model, fault):
        asyncio.run(main())


def test_two_kinds_of_precision_give_the_texts_of_the_model_in_that_precision() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny_model("llama", dtype=dtype, hidden=64, num_layers=1)
        with torch.inference_mode():
            request = complete(LONG, 1, top_logprobs=5)
            (result,) = generate(backend(model=model), [request])
            from tests.unit.inference.tiny_backend import TOKENIZER

            ids = torch.tensor([TOKENIZER(LONG)["input_ids"]])
            wanted = model(ids).logits[0, -1].float().log_softmax(-1).topk(5).values
        (first,) = result.logprobs
        assert torch.allclose(
            torch.tensor([value for _, value in first.top]), wanted, atol=1e-5 if dtype == torch.float32 else 0.1
        )
