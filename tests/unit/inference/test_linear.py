from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from steerline.inference import native_linear
from steerline.inference.linear import pack
from tests.tiny import DECODER_FAMILIES, tiny_model

IDS = torch.tensor([[5, 9, 2, 7], [1, 1, 8, 3]])
EXACT = {torch.float32: 1e-6, torch.bfloat16: 1e-2}


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if not native_linear.handles(torch.zeros(2, 2)):
        pytest.skip("no compiler")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize(("num_inputs", "num_outputs"), [(2, 1), (64, 48), (30, 49), (128, 200)])
@pytest.mark.parametrize("num_rows", [1, 7, 8, 9, 20])
@pytest.mark.parametrize("biased", [False, True])
def test_the_compiled_kernel_multiplies_as_torch_does(
    dtype: torch.dtype, num_inputs: int, num_outputs: int, num_rows: int, biased: bool
) -> None:
    x, weight = draw(num_rows, num_inputs).to(dtype), draw(num_outputs, num_inputs, seed=1).to(dtype)
    panels = native_linear.in_panels(weight)
    bias = draw(len(panels) * native_linear.PANEL, seed=2) if biased else None
    ours = native_linear.linear(x, panels, bias, num_outputs)
    exact = linear(x.double(), weight.double(), None if bias is None else bias[:num_outputs].double())
    assert torch.allclose(ours.double(), exact, rtol=EXACT[dtype], atol=EXACT[dtype] * float(exact.abs().max()))


@pytest.mark.parametrize("dtype", EXACT)
def test_a_row_has_the_same_bits_beside_any_others_on_any_number_of_threads(dtype: torch.dtype) -> None:
    x, panels = draw(21, 96).to(dtype), native_linear.in_panels(draw(100, 96, seed=1).to(dtype))
    before = torch.get_num_threads()
    outs = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        outs.append(native_linear.linear(x, panels, None, 100))
    torch.set_num_threads(before)
    assert torch.equal(*outs)
    for place in (0, 7, 15, 20):
        assert torch.equal(native_linear.linear(x[place : place + 1], panels, None, 100)[0], outs[0][place])


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_a_packed_model_computes_what_it_did_without_its_weights(family: str) -> None:
    model = tiny_model(family)
    with torch.inference_mode():
        before = model(IDS).logits
    pack(model)  # a model that could be trained, as it is loaded
    with torch.inference_mode():
        assert torch.allclose(model(IDS).logits, before, atol=1e-5)
        pack(model)  # it is already
        assert torch.allclose(model(IDS).logits, before, atol=1e-5)
    assert all(module.weight is None for module in model.modules() if isinstance(module, nn.Linear))


def test_maps_that_read_the_same_tensor_are_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama", num_layers=2)
    pack(model)
    products: list[int] = []
    whole = native_linear.linear

    def counted(x: Tensor, panels: Tensor, bias: Tensor | None, num_outputs: int) -> Tensor:
        products.append(num_outputs)
        return whole(x, panels, bias, num_outputs)

    monkeypatch.setattr(native_linear, "linear", counted)
    with torch.inference_mode():
        model(IDS)
    # Queries, keys and values; the attention's output; gate and up; down. Then the head.
    assert len(products) == 2 * 4 + 1


@pytest.mark.parametrize("tied", [False, True])
def test_an_embedding_that_shares_the_heads_weight_reads_the_panels(tied: bool) -> None:
    model = tiny_model("llama", dtype=torch.bfloat16, tie_word_embeddings=tied)
    table = model.get_input_embeddings()
    rows = table(IDS)
    pack(model)
    assert (table.weight is None) == tied
    assert torch.equal(table(IDS), rows)


def test_hooks_stay_and_an_input_of_its_own_gives_a_map_its_own_output() -> None:
    model = tiny_model("llama")

    def halved(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0] / 2,)

    key = model.get_submodule("model.layers.1.self_attn.k_proj")
    with torch.inference_mode():
        plain = model(IDS).logits
        early = key.register_forward_pre_hook(halved)
        wanted = model(IDS).logits
        early.remove()
        pack(model)
        key.register_forward_pre_hook(halved)
        assert torch.allclose(model(IDS).logits, wanted, atol=1e-5)
    assert not torch.allclose(wanted, plain, atol=1e-3)


def test_float64_stays_as_it_is() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    pack(model)
    assert all(module.weight is not None for module in model.modules() if isinstance(module, nn.Linear))
