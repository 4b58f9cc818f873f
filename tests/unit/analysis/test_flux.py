from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from steerline.analysis.infosteer.flux import Flux, information_flux
from steerline.analysis.infosteer.flux_view import flux_figure, flux_html
from steerline.analysis.infosteer.keys import reading_keys
from steerline.errors import EvaluationError
from steerline.steering.infosteer import key_entropy
from tests.tiny import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def test_flux_is_the_key_entropy_of_each_token_averaged_over_layers() -> None:
    model = tiny_model("llama", num_layers=3)
    flux = information_flux(model, TOKENIZER, "abc")
    expected: list[torch.Tensor] = []
    with torch.no_grad(), reading_keys(model, lambda _site, keys: expected.append(key_entropy(keys)[0])):
        model(TOKENIZER("abc", return_tensors="pt").input_ids)
    assert flux.tokens == ("a", "b", "c")
    assert flux.layers == (0, 1, 2)
    assert flux.flux == pytest.approx(torch.stack(expected).mean(0).numpy()[-3:], rel=1e-5)


def test_chosen_layers_alone_are_averaged() -> None:
    model = tiny_model("opt", num_layers=3)
    every, one = (information_flux(model, TOKENIZER, "abc", layers=layers) for layers in (None, [1]))
    assert one.flux == pytest.approx(every.by_layer[1])
    with pytest.raises(EvaluationError, match="no such layer"):
        information_flux(model, TOKENIZER, "abc", layers=[3])
    with pytest.raises(EvaluationError, match="no tokens"):
        information_flux(model, TOKENIZER, "")


def test_characters_of_several_tokens_are_shown_once() -> None:
    flux = information_flux(tiny_model("llama"), TOKENIZER, "aé→b")
    assert "".join(flux.tokens) == "aé→b"
    assert len(flux.tokens) == len("aé→b".encode())
    assert flux.tokens[:3] == ("a", "", "é")


def test_a_text_is_cut_into_thirds_or_at_another_texts_edges() -> None:
    flux = Flux(tuple("abcdef"), np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]), (0,))
    assert flux.bins().tolist() == [0, 0, 1, 1, 2, 2]
    assert flux.bins((5.5, 6.5)).tolist() == [0, 0, 0, 0, 0, 1]


def test_the_page_shows_every_token_escaped_with_its_value() -> None:
    flux = Flux(("<b>", " &", "\n"), np.array([[1.0, 2.0, 3.0]]), (0,))
    page = flux_html(flux, title="a < b")
    assert "&lt;b&gt;" in page
    assert "<title>a &lt; b</title>" in page
    assert page.count("nats, exp(H)") == 3
    assert "<script" not in page
    assert re.findall(r'class="b(\d)" title', page) == ["0", "1", "2"]


def test_the_figure_wraps_a_text_without_losing_a_token() -> None:
    words = tuple(f" word{i}" for i in range(60))
    flux = Flux((*words, "end\n", "$x^2$"), np.arange(62.0)[None], (0,))
    figure = flux_figure(flux, width=5)
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert all(word in shown for word in words)
    assert "end\u21b5" in shown
    lowest = min(text.get_position()[1] for text in figure.axes[0].texts if text.get_text() == "$x^2$")
    assert lowest < figure.get_figheight()
    figure.canvas.draw()
