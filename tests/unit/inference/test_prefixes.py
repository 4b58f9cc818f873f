from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

from steerline.config.steering import SteeringSpec
from steerline.inference.prefixes import Prefixes, common_length
from steerline.inference.row_steering import RowSteering
from steerline.models.anatomy import anatomy
from tests.tiny import tiny_model

MODEL = tiny_model("llama", dtype=torch.float64)
SITES = anatomy(MODEL)
RULES = list(range(10, 60))


@pytest.mark.parametrize(
    ("prompts", "length"),
    [
        ([[1, 2, 3], [1, 2, 4]], 2),
        ([[1, 2, 3], [1, 2, 3]], 2),
        ([[1, 2], [1, 2, 3]], 1),
        ([[1], [1]], 0),
        ([[1, 2, 3]], 2),
        ([[1, 2, 9, 9], [1, 3, 9, 9], [1, 2, 9, 8]], 1),
    ],
)
def test_the_common_beginning_leaves_every_prompt_a_token(prompts: list[list[int]], length: int) -> None:
    assert common_length(prompts) == length


def begin(prefixes: Prefixes, prompts: Sequence[list[int]]) -> int:
    rows = [SimpleNamespace(prompt=prompt, steering=SteeringSpec(), cached_tokens=0) for prompt in prompts]
    with torch.inference_mode(), RowSteering(MODEL, SITES, [row.steering for row in rows]) as steering:
        cache, length = prefixes.begin(MODEL, steering, rows)
    assert cache.get_seq_length() == length
    return length


def test_a_short_beginning_is_not_worth_a_pass_of_its_own() -> None:
    assert begin(Prefixes(), [[1, 2, 3, 4], [1, 2, 3, 5]]) == 0


def test_a_kept_beginning_serves_one_prompt_and_prompts_that_share_little_more() -> None:
    prefixes = Prefixes()
    assert begin(prefixes, [[*RULES, 1], [*RULES, 2]]) == 50
    assert begin(prefixes, [[*RULES, 3, 4, 5]]) == 50
    assert begin(prefixes, [[*RULES, 3, 4, 5], [*RULES, 3, 4, 6]]) == 50
    assert begin(prefixes, [[*RULES, *RULES, 1], [*RULES, *RULES, 2]]) == 100


def test_a_prompt_alone_has_nothing_in_common() -> None:
    assert begin(Prefixes(), [[*RULES, 1]]) == 0


def test_the_beginnings_that_were_used_last_are_kept() -> None:
    prefixes = Prefixes()
    for first in range(100, 140):
        begin(prefixes, [[first, *RULES, 1], [first, *RULES, 2]])
    assert begin(prefixes, [[139, *RULES, 3]]) == 51
    assert begin(prefixes, [[100, *RULES, 3]]) == 0
