from __future__ import annotations

import json
from dataclasses import replace

import pytest

from steerline.config.inference import SamplingSpec
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.inference.request import ChatMessage, Failure, GenRequest, GenResult, Usage

HELLO = (ChatMessage("user", "hello"),)
COLD = GenRequest("m", HELLO)
WARM = replace(COLD, sampling=SamplingSpec(temperature=1.0))


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"revision": "abc"},
        {"messages": (ChatMessage("system", "hello"),)},
        {"messages": (), "prompt": "hello"},
        {"seed": 1},
        {"sampling": SamplingSpec(temperature=1.0, top_p=0.9)},
        {"sampling": SamplingSpec(temperature=1.0, max_tokens=7)},
        {"sampling": SamplingSpec(temperature=1.0, stop=("\n",))},
        {"response_schema": {"type": "object"}},
        {"steering": SteeringSpec(boost=BoostSpec(strength=0.5))},
    ],
)
def test_whatever_decides_the_text_is_part_of_the_address(change: dict[str, object]) -> None:
    assert replace(WARM, **change).address != WARM.address


@pytest.mark.parametrize(
    "change", [{"simulation": "s"}, {"agent": "a"}, {"call": "1/a/0"}, {"attempt": 2}, {"weight": 3.0}]
)
def test_who_asks_is_not_part_of_the_address(change: dict[str, object]) -> None:
    assert replace(WARM, **change).address == WARM.address


def test_what_does_not_act_at_temperature_0_is_not_part_of_the_address() -> None:
    assert replace(COLD, seed=5, sampling=SamplingSpec(top_p=0.3)).address == COLD.address


def test_an_address_is_the_same_in_every_process() -> None:
    assert COLD.address == "d6659a1c5a31d7e3ff1aa03359138d27402df0772cd94d8efee742dae2abb3b7"


def test_a_text_with_half_a_character_has_an_address_and_is_plain_data() -> None:
    request = GenRequest("m", (ChatMessage("user", "\ud800\x00"),))
    assert json.loads(json.dumps(request.canonical)) == request.canonical
    assert len(request.address) == 64


@pytest.mark.parametrize("fields", [{}, {"messages": HELLO, "prompt": "hello"}, {"prompt": "a", "weight": 0.0}])
def test_a_request_that_asks_nothing_or_two_things_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"either|weight"):
        GenRequest("m", **fields)


@pytest.mark.parametrize(
    "result",
    [
        GenResult("hi", "stop", Usage(3, 1, 2), 0.5, attempts=2, coalesced=True),
        GenResult.failed(Failure("busy", "too many requests", 1.5), 0.1),
    ],
)
def test_a_result_comes_back_from_a_journal_as_it_was(result: GenResult) -> None:
    assert GenResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_only_failures_that_may_pass_are_repeated() -> None:
    kinds = ("busy", "timeout", "unavailable", "refused", "too_long")
    assert [Failure(kind, "x").retryable for kind in kinds] == [True, True, True, False, False]
