from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from steerline.inference.fair_queue import FairQueue


@dataclass(eq=False)
class Item:
    owner: str
    cost: int
    waiting: bool = True


def filled(items: list[Item], weights: dict[str, float] | None = None) -> FairQueue[Item]:
    queue: FairQueue[Item] = FairQueue()
    for item in items:
        queue.push(item, item.owner, (weights or {}).get(item.owner, 1.0))
    return queue


def drain(queue: FairQueue[Item], max_items: int, max_cost: int, quantum: int = 100) -> list[list[Item]]:
    batches = []
    while batch := queue.take(max_items, max_cost, quantum):
        batches.append(batch)
    return batches


ITEMS = st.lists(st.builds(Item, st.sampled_from("abcd"), st.integers(1, 500)), max_size=60)


@given(ITEMS, st.integers(1, 9), st.integers(50, 900), st.integers(1, 600))
def test_everything_is_served_once_in_its_owners_order_within_the_limits(
    items: list[Item], max_items: int, max_cost: int, quantum: int
) -> None:
    batches = drain(filled(items), max_items, max_cost, quantum)
    for batch in batches:
        assert len(batch) <= max_items
        assert len(batch) == 1 or sum(item.cost for item in batch) <= max_cost
    served = [item for batch in batches for item in batch]
    for owner in "abcd":
        assert [i for i in served if i.owner == owner] == [i for i in items if i.owner == owner]


@given(st.lists(st.integers(1, 500), min_size=30, max_size=60), st.integers(100, 600))
def test_two_who_always_want_more_differ_by_no_more_than_a_turn_and_a_request(costs: list[int], quantum: int) -> None:
    queue = filled([Item(owner, cost) for cost in costs for owner in ("a", "b")])
    tokens: Counter[str] = Counter()
    for _ in range(20):  # neither has nothing left
        (item,) = queue.take(1, 10**9, quantum)
        tokens[item.owner] += item.cost
    assert abs(tokens["a"] - tokens["b"]) <= quantum + 500


def test_a_weight_is_a_share_of_tokens() -> None:
    queue = filled([Item(owner, 100) for owner in ("a", "b") for _ in range(100)], weights={"a": 3.0})
    assert Counter(item.owner for item in queue.take(40, 10**9, 100)) == {"a": 30, "b": 10}


def test_a_turn_that_a_full_batch_cut_goes_on_in_the_next() -> None:
    queue = filled([Item(owner, 10) for owner in ("a", "b") for _ in range(10)])
    assert [item.owner for batch in drain(queue, 4, 10**9, 60) for item in batch] == [*"aaaaaabbbbbbaaaabbbb"]


def test_credit_is_not_saved_while_nothing_waits() -> None:
    queue = filled([Item("a", 10)])
    queue.take(1, 10**9, 100)
    for _ in range(30):
        queue.push(Item("a", 100), "a")
        queue.push(Item("b", 100), "b")
    assert [item.owner for item in queue.take(4, 10**9, 100)] == ["a", "b", "a", "b"]


def test_what_no_longer_waits_is_passed_over() -> None:
    items = [Item("a", 10) for _ in range(5)]
    queue = filled(items)
    items[0].waiting = items[3].waiting = False
    assert queue.take(9, 10**9, 100) == [items[1], items[2], items[4]]


def test_what_stands_in_two_lines_is_served_once() -> None:
    shared, own = Item("a", 10), Item("b", 10)
    queue = filled([shared, own])
    queue.push(shared, "b")
    assert queue.take(9, 10**9, 100) == [shared, own]


def test_what_is_put_first_is_next() -> None:
    queue = filled([Item("a", 10), Item("a", 10)])
    again = Item("a", 10)
    queue.push(again, "a", first=True)
    assert queue.take(1, 10**9, 100) == [again]
