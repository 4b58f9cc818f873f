from __future__ import annotations

import numpy as np

from steerline.cli.preview import decoded, histogram, layout, spread
from steerline.data.tokens import TokenizedExample
from tests.tiny import tiny_tokenizer


def test_tokens_that_carry_the_loss_are_marked() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer("2 + 2 = 4")["input_ids"]
    targets = np.zeros(len(ids), dtype=bool)
    targets[-1] = True
    example = TokenizedExample("sum", np.array(ids, dtype=np.int32), targets)
    assert decoded(example, tokenizer, mark=True).plain == "2 + 2 = [[4]]"
    coloured = decoded(example, tokenizer, mark=False)
    assert coloured.plain == "2 + 2 = 4"
    assert [coloured.plain[span.start : span.end] for span in coloured.spans if "green" in str(span.style)] == ["4"]


def test_a_packed_row_is_drawn_to_scale() -> None:
    assert layout([30, 20, 25], 100, width=20) == "|aaaaaabbbbccccc.....| 3 examples, 75% full"


def test_the_histogram_counts_every_row_once() -> None:
    lines = histogram((1, 10, 11, 120, 120), capacity=120)
    counts = [int(line.split()[3]) for line in lines]
    assert counts[0] == 2
    assert counts[1] == 1
    assert counts[-1] == 2
    assert sum(counts) == 5
    assert lines[0].split()[:3] == ["1", "-", "10"]


def test_short_capacities_have_fewer_bins() -> None:
    assert len(histogram((1, 2), capacity=2)) == 2


def test_shown_rows_are_spread_from_first_to_last() -> None:
    assert spread(100, 3) == [0, 50, 99]
    assert spread(2, 5) == [0, 1]
    assert spread(9, 1) == [0]
