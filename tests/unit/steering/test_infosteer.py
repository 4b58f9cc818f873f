"""`boost_keys` and `key_entropy`: values worked by hand, gradients by finite differences, every reading."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steerline.errors import SteeringError
from steerline.steering import boost_keys, key_entropy
from steerline.steering.infosteer import num_edited
from steerline.steering.rows import NORMS

READINGS = list(itertools.product(("value", "magnitude"), ("signed", "abs"), (False, True), (False, True)))
KEYS = [4.0, -3.0, 0.5, 1.5]


def naive_boost(keys: Tensor, fraction: float, scale: float, reading: tuple[str, str, bool, bool]) -> Tensor:
    """The definition, written for autograd."""
    select, mean_of, keep_sign, detach = reading
    n = num_edited(fraction, keys.shape[-1])
    score = keys.abs() if select == "magnitude" else keys
    picked = torch.sort(score.detach(), dim=-1, stable=True).indices[..., :n]
    mean = (keys.abs() if mean_of == "abs" else keys).mean(-1, keepdim=True)
    mean = mean.detach() if detach else mean
    sign = torch.where(keys.detach() < 0, -1.0, 1.0).to(keys.dtype)
    target = scale * mean.abs() * sign if keep_sign else (scale * mean).expand_as(keys)
    chosen = torch.zeros_like(keys, dtype=torch.bool).scatter(-1, picked, True)
    return torch.where(chosen, target, keys)


def naive_entropy(keys: Tensor, norm: str) -> Tensor:
    """The definition, written for autograd."""
    if norm == "softmax":
        q = keys.softmax(-1)
    else:
        u = {"abs_l1": keys.abs(), "relu": keys.relu(), "square": keys.square()}[norm]
        q = u / u.sum(-1, keepdim=True)
    # Autograd's gradient of q ln q at 0 is infinite.
    return -(q * torch.where(q > 0, q, 1).log()).sum(-1)


@pytest.mark.parametrize(
    ("select", "mean", "keep_sign", "expected"),
    [
        ("value", "signed", False, [4.0, 0.75, 0.5, 1.5]),  # the mean is 3 / 4
        ("value", "abs", False, [4.0, 2.25, 0.5, 1.5]),  # the mean magnitude is 9 / 4
        ("value", "abs", True, [4.0, -2.25, 0.5, 1.5]),
        ("magnitude", "signed", False, [4.0, -3.0, 0.75, 1.5]),
        ("magnitude", "abs", True, [4.0, -3.0, 2.25, 1.5]),
    ],
)
def test_one_key_of_four_becomes_the_mean(select: str, mean: str, keep_sign: bool, expected: list[float]) -> None:
    edited = boost_keys(torch.tensor(KEYS), 0.25, 1.0, select, mean, keep_sign)  # type: ignore[arg-type]
    assert edited.tolist() == expected


def test_the_defaults_are_the_papers_text() -> None:
    keys = torch.randn(3, 200)
    assert torch.equal(boost_keys(keys), boost_keys(keys, 0.01, 1.0, "value", "signed", False, False))
    assert (boost_keys(keys) != keys).sum(-1).tolist() == [2, 2, 2]


def test_scale_multiplies_the_mean() -> None:
    assert boost_keys(torch.tensor(KEYS), 0.25, 2.0).tolist() == [4.0, 1.5, 0.5, 1.5]


def test_a_kept_sign_counts_zero_as_positive_and_ignores_the_sign_of_the_mean() -> None:
    keys = torch.tensor([0.0, -1.0, -5.0, -6.0])
    assert boost_keys(keys, 0.5, 1.0, "magnitude", "signed", True).tolist() == [3.0, -3.0, -5.0, -6.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_ties_go_to_the_lowest_index(dtype: torch.dtype) -> None:
    keys = torch.tensor([[1.0, -1.0, 1.0, 3.0, -1.0], [2.0, 0.0, -0.0, 0.0, 1.0]], dtype=dtype)
    edited = boost_keys(keys, 0.4, 10.0, "magnitude", "abs")
    assert (edited != keys).nonzero().tolist() == [[0, 0], [0, 1], [1, 1], [1, 2]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_nan_is_picked_last_and_spreads_through_the_mean(dtype: torch.dtype) -> None:
    edited = boost_keys(torch.tensor([math.nan, 5.0, 1.0, 2.0], dtype=dtype), 0.5)
    assert edited.isnan().tolist() == [True, False, True, True]
    assert edited[1] == 5


@pytest.mark.parametrize(
    ("fraction", "num_keys", "n"),
    [(0.29, 100, 29), (0.01, 1536, 15), (0.01, 50, 1), (1.0, 7, 7), (0.07, 100, 7), (0.1 + 0.2, 10, 3), (1e-9, 5, 1)],
)
def test_the_count_is_the_floor_of_the_decimal_that_was_written(fraction: float, num_keys: int, n: int) -> None:
    assert num_edited(fraction, num_keys) == n


@settings(derandomize=True, deadline=None)
@given(per_mille=st.integers(1, 1000), num_keys=st.integers(1, 20000))
def test_the_count_equals_integer_arithmetic(per_mille: int, num_keys: int) -> None:
    assert num_edited(per_mille / 1000, num_keys) == max(1, per_mille * num_keys // 1000)


@settings(derandomize=True, deadline=None)
@given(
    shape=st.sampled_from([(5,), (3, 5), (2, 3, 40), (1, 1, 1), (0, 7), (2, 2, 1, 65)]),
    fraction=st.floats(0.001, 1.0),
    reading=st.sampled_from(READINGS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_exactly_the_picked_keys_may_change(
    shape: tuple[int, ...],
    fraction: float,
    reading: tuple[str, str, bool, bool],
    dtype: torch.dtype,
    seed: int,
) -> None:
    keys = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    edited = boost_keys(keys, fraction, 1e6, *reading)  # type: ignore[arg-type]
    expected = naive_boost(keys.double() if dtype == torch.float64 else keys.float(), fraction, 1e6, reading).to(dtype)
    assert edited.shape == keys.shape
    assert edited.dtype == dtype
    assert edited.numel() == 0 or edited.data_ptr() != keys.data_ptr()
    assert torch.equal(edited != keys, expected != keys)
    # A signed mean cancels: its rounding error is relative to the keys, of size 1, not to itself.
    error = {torch.float64: 1e-7, torch.float32: 1.0, torch.bfloat16: 1.0}[dtype]
    torch.testing.assert_close(edited, expected, rtol=8e-3 if dtype == torch.bfloat16 else 0.0, atol=error)


@pytest.mark.parametrize("reading", READINGS)
def test_the_boosts_gradient_is_that_of_finite_differences(reading: tuple[str, str, bool, bool]) -> None:
    keys = torch.randn(2, 3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    if reading[3]:  # finite differences cannot see that a mean is detached
        mine, naive = (
            torch.autograd.grad((edited * torch.arange(9.0)).sum(), keys)[0]
            for edited in (boost_keys(keys, 0.4, 1.7, *reading), naive_boost(keys, 0.4, 1.7, reading))  # type: ignore[arg-type]
        )
        torch.testing.assert_close(mine, naive, rtol=1e-12, atol=1e-12)
    else:
        assert torch.autograd.gradcheck(lambda k: boost_keys(k, 0.4, 1.7, *reading), keys)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reading", READINGS)
def test_the_boosts_gradient_equals_autograds(reading: tuple[str, str, bool, bool], dtype: torch.dtype) -> None:
    keys = torch.randn(4, 50, dtype=dtype, generator=torch.Generator().manual_seed(2)).requires_grad_()
    weights = torch.randn(4, 50, dtype=dtype, generator=torch.Generator().manual_seed(3))
    (mine,) = torch.autograd.grad((boost_keys(keys, 0.3, 1.7, *reading) * weights).sum(), keys)  # type: ignore[arg-type]
    (naive,) = torch.autograd.grad((naive_boost(keys, 0.3, 1.7, reading) * weights).sum(), keys)
    torch.testing.assert_close(mine, naive)


def test_entropy_of_small_examples_worked_by_hand() -> None:
    ln = math.log
    one_half_two_quarters = 1.5 * ln(2)
    torch.testing.assert_close(key_entropy(torch.tensor([2.0, -1.0, 1.0])), torch.tensor(one_half_two_quarters))
    torch.testing.assert_close(key_entropy(torch.tensor([1.0, -7.0, 1.0]), "relu"), torch.tensor(ln(2)))
    torch.testing.assert_close(
        key_entropy(torch.tensor([2.0, -1.0]), "square"), torch.tensor(0.8 * ln(1.25) + 0.2 * ln(5))
    )
    torch.testing.assert_close(
        key_entropy(torch.tensor([ln(3), 0.0]), "softmax"), torch.tensor(0.75 * ln(4 / 3) + 0.25 * ln(4))
    )


@pytest.mark.parametrize("norm", NORMS)
def test_the_entropys_gradient_is_that_of_finite_differences(norm: str) -> None:
    keys = torch.randn(2, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda k: key_entropy(k, norm), keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_entropy_and_its_gradient_equal_autograds(norm: str, dtype: torch.dtype) -> None:
    keys = torch.randn(4, 300, dtype=dtype, generator=torch.Generator().manual_seed(5)).requires_grad_()
    weights = torch.tensor([1.0, -2.0, 0.0, 0.5], dtype=dtype)
    mine, naive = key_entropy(keys, norm), naive_entropy(keys, norm)  # type: ignore[arg-type]
    torch.testing.assert_close(mine, naive, rtol=1e-6, atol=1e-6)
    (mine_grad,) = torch.autograd.grad((mine * weights).sum(), keys)
    (naive_grad,) = torch.autograd.grad((naive * weights).sum(), keys)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(mine_grad, naive_grad, rtol=tolerance, atol=tolerance)


@settings(derandomize=True, deadline=None)
@given(
    norm=st.sampled_from(NORMS),
    num_keys=st.integers(1, 200),
    exponent=st.integers(-30, 30),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 2**31),
)
def test_entropy_lies_between_0_and_ln_f(
    norm: str, num_keys: int, exponent: int, dtype: torch.dtype, seed: int
) -> None:
    keys = (torch.randn(3, num_keys, generator=torch.Generator().manual_seed(seed)) * 10.0**exponent).to(dtype)
    entropy = key_entropy(keys, norm)  # type: ignore[arg-type]
    assert entropy.dtype == torch.float32
    assert ((entropy >= -1e-6) & (entropy <= math.log(num_keys) + 2e-5)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_keys_of_one_magnitude_reach_ln_f(norm: str) -> None:
    torch.testing.assert_close(key_entropy(torch.full((1536,), 0.3), norm), torch.tensor(math.log(1536)))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("norm", ["abs_l1", "relu", "square"])
def test_a_token_without_weight_has_entropy_and_gradient_zero(norm: str, dtype: torch.dtype) -> None:
    keys = torch.tensor([[0.0, 0.0], [-1.0, -2.0]] if norm == "relu" else [[0.0, -0.0]], dtype=dtype).requires_grad_()
    entropy = key_entropy(keys, norm)  # type: ignore[arg-type]
    entropy.sum().backward()
    assert (entropy == 0).all()
    assert keys.grad is not None
    assert (keys.grad == 0).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_and_infinite_keys_make_the_entropy_nan_of_their_token_alone(norm: str, dtype: torch.dtype) -> None:
    keys = torch.tensor([[1.0, math.nan], [math.inf, 1.0], [1.0, 1.0]], dtype=dtype)
    assert key_entropy(keys, norm).isnan().tolist() == [True, True, False]  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_minus_infinity_weighs_nothing_under_softmax(dtype: torch.dtype) -> None:
    entropy = key_entropy(torch.tensor([0.0, -math.inf, 0.0], dtype=dtype), "softmax")
    torch.testing.assert_close(entropy, torch.tensor(math.log(2), dtype=dtype))


def test_views_that_are_not_contiguous_are_read_right() -> None:
    keys = torch.randn(6, 5).t()[:, 1:].requires_grad_()
    torch.testing.assert_close(key_entropy(keys), key_entropy(keys.contiguous()))
    assert torch.equal(boost_keys(keys, 0.5), boost_keys(keys.contiguous(), 0.5))
    (boost_keys(keys, 0.5).sum() + key_entropy(keys).sum()).backward()


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, math.nan, math.inf])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(SteeringError, match="fraction"):
        boost_keys(torch.ones(4), fraction)


@pytest.mark.parametrize("keys", [torch.ones(4, dtype=torch.int64), torch.ones(3, 0), torch.tensor(1.0)])
def test_keys_that_are_not_keys_are_refused(keys: Tensor) -> None:
    for function in (boost_keys, key_entropy):
        with pytest.raises(SteeringError, match="keys"):
            function(keys)


def test_unknown_readings_are_refused() -> None:
    for arguments in ({"select": "smallest"}, {"mean": "median"}):
        with pytest.raises(SteeringError, match="reading"):
            boost_keys(torch.ones(4), **arguments)  # type: ignore[arg-type]
    with pytest.raises(SteeringError, match="reading"):
        key_entropy(torch.ones(4), "l2")  # type: ignore[arg-type]


def test_compiled_functions_take_the_operators_whole() -> None:
    def step(keys: Tensor) -> Tensor:
        return key_entropy(boost_keys(keys, 0.1, 1.0, "magnitude", "abs", True)).sum()

    keys, twin = (torch.randn(4, 32, generator=torch.Generator().manual_seed(6)).requires_grad_() for _ in range(2))
    torch.compile(step, backend="aot_eager", fullgraph=True)(keys).backward()
    step(twin).backward()
    assert keys.grad is not None
    assert twin.grad is not None
    torch.testing.assert_close(keys.grad, twin.grad)
