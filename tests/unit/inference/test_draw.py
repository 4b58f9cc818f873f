from __future__ import annotations

import numpy as np
import pytest
import torch

from steerline.config.inference import SamplingSpec
from steerline.inference.chance import uniform
from steerline.inference.draw import draw

LOGITS = torch.tensor([2.0, -1.0, 0.5, 1.0, -30.0])


def test_temperature_0_takes_the_likeliest() -> None:
    assert draw(LOGITS, SamplingSpec(), 0.99) == 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_have_the_probabilities_of_the_tempered_softmax(temperature: float) -> None:
    grid = (np.arange(20_000) + 0.5) / 20_000
    sampling = SamplingSpec(temperature=temperature)
    counts = np.bincount([draw(LOGITS, sampling, u) for u in grid[::10]], minlength=5) / 2000
    expected = torch.softmax(LOGITS.double() / temperature, dim=-1).numpy()
    assert counts == pytest.approx(expected, abs=1e-3)


def test_the_nucleus_is_the_fewest_tokens_that_hold_top_p() -> None:
    probabilities = torch.tensor([0.1, 0.4, 0.3, 0.2])
    drawn = {
        top_p: {draw(probabilities.log(), SamplingSpec(temperature=1.0, top_p=top_p), u / 50) for u in range(50)}
        for top_p in (0.05, 0.39, 0.5, 0.75, 1.0)
    }
    assert drawn == {0.05: {1}, 0.39: {1}, 0.5: {1, 2}, 0.75: {1, 2, 3}, 1.0: {0, 1, 2, 3}}


def test_the_ends_of_the_interval_draw_tokens_that_have_a_probability() -> None:
    logits = torch.tensor([-torch.inf, 0.0, 0.0, -torch.inf])
    assert draw(logits, SamplingSpec(temperature=1.0), 0.0) == 1
    assert draw(logits, SamplingSpec(temperature=1.0), 1 - 2**-53) == 2


def test_rounding_that_swaps_two_nearly_equal_tokens_moves_no_draw() -> None:
    # Ranked by probability, tokens 0 and 1 would change places, and half of all draws with them.
    sampling = SamplingSpec(temperature=1.0)
    one, other = torch.tensor([1.0, 1.0 + 1e-7, 0.0]), torch.tensor([1.0 + 1e-7, 1.0, 0.0])
    assert [draw(one, sampling, u / 99) for u in range(99)] == [draw(other, sampling, u / 99) for u in range(99)]


def test_chance_is_uniform_and_its_place_decides_it() -> None:
    draws = np.array([uniform(7, "stream", n) for n in range(4000)])
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert ((counts - 200) ** 2 / 200).sum() < 43.8  # chi-squared, 19 degrees of freedom, 0.999
    assert uniform(7, "stream", 3) == draws[3]
    assert uniform(1, 23) != uniform(12, 3)
