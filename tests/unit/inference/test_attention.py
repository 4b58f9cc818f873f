from __future__ import annotations

import pytest
import torch

from steerline.inference import native_attention
from steerline.inference.attention import PagedPass, Span
from steerline.inference.pages import PAGE, Pages

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "shared", "width"), [(9, 3, 64), (8, 8, 32), (7, 1, 128), (5, 5, 80), (12, 2, 16)])
@pytest.mark.parametrize("window", [None, 40])
def test_the_compiled_kernel_attends_as_torch_does(
    dtype: torch.dtype, heads: int, shared: int, width: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=dice).to(dtype)

    lengths = [0, 1, 31, 32, 33, 63, 150, 200]
    pages = Pages(1, 8 * len(lengths) * PAGE)
    order = torch.randperm(len(pages), generator=dice).tolist()
    spans = [Span(start, 1, order[8 * row : 8 * row + 8]) for row, start in enumerate(lengths)]
    spans.insert(3, Span(5, 4, order[-8:]))  # not of its business
    query, key, value = draw(12, heads, 1, width), draw(12, shared, 1, width), draw(12, shared, 1, width)
    for store in pages.layer(0, key):
        store.copy_(draw(*store.shape))
    if not native_attention.handles(query):
        pytest.skip("no compiler")
    ours = PagedPass(pages, spans, CPU).attend(0, query, key, value, 0.3, window, None)
    # In float64, torch says what is right.
    monkeypatch.setattr(native_attention, "handles", lambda _: False)
    exact = Pages(1, len(pages) * PAGE)
    for store, of in zip(exact.layer(0, key.double()), pages.layer(0, key), strict=True):
        store.copy_(of)
    wanted = PagedPass(exact, spans, CPU).attend(0, query.double(), key.double(), value.double(), 0.3, window, None)
    assert torch.allclose(ours.double(), wanted, atol=1e-5 if dtype == torch.float32 else 1e-2)
    for store, of in zip(exact.layer(0, key.double()), pages.layer(0, key), strict=True):
        assert torch.equal(store, of.double())


def test_a_row_attends_bit_for_bit_alike_beside_any_others_on_any_number_of_threads() -> None:
    dice = torch.Generator().manual_seed(1)
    pages = Pages(1, 64 * PAGE)
    query, key, value = (torch.randn(6, 4, 1, 64, generator=dice) for _ in range(3))
    for store in pages.layer(0, key):
        store.copy_(torch.randn(store.shape, generator=dice))
    spans = [Span(20 * row, 1, range(8 * row, 8 * row + 8)) for row in range(6)]
    before = torch.get_num_threads()
    outs = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        outs.append(PagedPass(pages, spans, CPU).attend(0, query, key, value, 0.125, None, None))
    torch.set_num_threads(before)
    alone = PagedPass(pages, spans[3:4], CPU).attend(0, query[3:4], key[3:4], value[3:4], 0.125, None, None)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0][3:4], alone)
