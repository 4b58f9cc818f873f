from __future__ import annotations

import random

import pytest

from steerline.config.steering import SteeringSpec
from steerline.inference.pages import PAGE, Pages, num_pages
from steerline.inference.prefixes import Prefixes, common_length
from tests.unit.inference.tiny_backend import boosted

PLAIN = SteeringSpec()
RULES = list(range(10, 10 + 2 * PAGE))


class Kept:
    """Prefixes with a pool, and what rows would do with both."""

    def __init__(self, num_tokens: int = 4096) -> None:
        self.pages = Pages(1, num_tokens)
        self.prefixes = Prefixes(self.pages)

    def row(self, tokens: list[int], steering: SteeringSpec = PLAIN) -> list[int]:
        """The pages of a row that computes these tokens by itself, leaves them behind and goes."""
        pages = [self.pages.take() for _ in range(num_pages(len(tokens)))]
        self.prefixes.keep(tokens, pages, steering)
        for page in pages:
            self.pages.release(page)
        return pages

    def length(self, prompt: list[int], steering: SteeringSpec = PLAIN) -> int:
        return self.prefixes.find(prompt, steering).num_tokens


@pytest.mark.parametrize(
    ("first", "second", "length"),
    [([1, 2, 3], [1, 2, 4], 2), ([1, 2, 3], [1, 2, 3], 3), ([1, 2], [1, 2, 3], 2), ([1], [2], 0), ([], [1], 0)],
)
def test_a_common_beginning_is_counted_in_tokens(first: list[int], second: list[int], length: int) -> None:
    assert common_length(first, second) == common_length(second, first) == length


def test_a_beginning_is_found_to_the_token_short_of_the_last() -> None:
    kept = Kept()
    pages = kept.row([*RULES, 1, 2, 3, 4])
    found = kept.prefixes.find([*RULES, 1, 2, 9, 9], PLAIN)
    assert found == (tuple(pages[:2]), pages[2], 2 * PAGE + 2)
    assert kept.length([*RULES, 1, 2, 3, 4]) == 2 * PAGE + 3
    assert kept.length(RULES) == 2 * PAGE - 1
    assert kept.length([*RULES[:40], 1, 1]) == 40


def test_a_short_beginning_is_not_worth_a_copy() -> None:
    kept = Kept()
    kept.row(RULES)
    assert kept.length([*RULES[:31], 1, 1]) == 0
    assert kept.length([*RULES[:32], 1, 1]) == 32


def test_a_beginning_belongs_to_its_steering() -> None:
    kept = Kept()
    kept.row(RULES, boosted(0.5))
    assert kept.length([*RULES, 1], boosted(0.5)) == 2 * PAGE
    assert kept.length([*RULES, 1], boosted(0.4)) == kept.length([*RULES, 1]) == 0


def test_a_row_that_writes_on_lengthens_what_is_kept_of_it() -> None:
    kept = Kept()
    pages = [kept.pages.take() for _ in range(2)]
    for length in (5, 20, 40, 50):
        kept.prefixes.keep(RULES[:length], pages, PLAIN)
    assert kept.prefixes.num_evictable() == 0  # the row still runs
    assert kept.length([*RULES[:50], 1]) == 50
    assert kept.pages.num_free == len(kept.pages) - 2


def test_what_is_there_already_is_not_kept_twice() -> None:
    kept = Kept()
    kept.row([*RULES, 1, 2])
    free = kept.pages.num_free
    kept.row([*RULES, 1, 2])
    kept.row([*RULES, 1])
    assert kept.pages.num_free == free


def test_what_was_used_last_is_given_up_last_and_a_branch_before_its_root() -> None:
    kept = Kept(6 * PAGE)
    first, second = [1, *RULES[1:], 1], [2, *RULES[1:], 2]
    kept.row(first)
    kept.row(second)
    assert kept.pages.num_free == 0
    kept.length([*first, 3])
    assert all(kept.prefixes.evict() for _ in range(3))
    assert (kept.length([*first, 3]), kept.length([*second, 3])) == (2 * PAGE + 1, 0)
    assert kept.prefixes.evict()
    assert kept.length([*first, 3]) == 2 * PAGE
    assert [kept.prefixes.evict() for _ in range(3)] == [True, True, False]
    assert kept.pages.num_free == 6


def test_pages_of_running_rows_are_not_given_up() -> None:
    kept = Kept(2 * PAGE)
    pages = kept.row(RULES)
    for page in pages:
        kept.pages.hold(page)
    assert not kept.prefixes.evict()
    kept.pages.release(pages[1])
    assert kept.prefixes.evict()
    assert kept.pages.num_free == 1


def test_no_page_is_lost_or_given_twice_by_any_order_of_rows() -> None:
    dice = random.Random(1)
    kept = Kept(40 * PAGE)
    rows: list[list[int]] = []
    for _ in range(2000):
        if rows and (dice.random() < 0.5 or len(rows) == 4):
            for page in rows.pop(dice.randrange(len(rows))):
                kept.pages.release(page)
            continue
        prompt = [dice.choice((1, 2)) for _ in range(3)] + [7] * dice.randrange(30, 200)
        found = kept.prefixes.find(prompt, PLAIN)
        for page in found.pages:
            kept.pages.hold(page)
        own = []
        for _ in range(num_pages(len(prompt)) - len(found.pages)):
            assert kept.pages.num_free or kept.prefixes.evict()
            own.append(kept.pages.take())
        pages = [*found.pages, *own]
        assert len(set(pages)) == len(pages)
        kept.prefixes.keep(prompt, pages, PLAIN)
        rows.append(pages)
    could = kept.prefixes.num_evictable()
    assert sum(kept.prefixes.evict() for _ in range(could + 1)) == could
    for pages in rows:
        for page in pages:
            kept.pages.release(page)
    while kept.prefixes.evict():
        pass
    assert kept.pages.num_free == len(kept.pages) == 40


def test_a_page_is_needed_while_a_row_holds_one_after_it() -> None:
    kept = Kept()
    first = [kept.pages.take(), kept.pages.take()]
    kept.prefixes.keep(RULES[:PAGE], first[:1], PLAIN)
    # A second row has a first page of its own, and the only second one.
    second = [kept.pages.take(), kept.pages.take()]
    kept.prefixes.keep(RULES, second, PLAIN)
    for page in first:
        kept.pages.release(page)
    assert kept.prefixes.num_evictable() == 0
    assert not kept.prefixes.evict()
    for page in second:
        kept.pages.release(page)
    assert kept.prefixes.num_evictable() == 2
