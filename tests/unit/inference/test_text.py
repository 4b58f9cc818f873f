from __future__ import annotations

import random

import pytest

from steerline.inference.text import Text
from tests.unit.inference.tiny_backend import TOKENIZER


def tokens(text: str) -> list[int]:
    ids: list[int] = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    return ids


def pieces(ids: list[int], *stops: str) -> list[str]:
    text = Text(TOKENIZER, stops)
    shown = []
    for token in ids:
        shown.append(text.add(token))
        if text.stopped:
            return shown
    return [*shown, text.end()]


def test_a_character_is_shown_when_it_is_whole() -> None:
    assert pieces(tokens("aé→b")) == ["a", "", "é", "", "", "→", "b", ""]


def test_bytes_that_never_become_a_character_are_shown_in_the_end() -> None:
    cut = tokens("é")[:1]
    assert pieces([*cut, *tokens("b")]) == ["", "\ufffdb", ""]
    assert pieces([*tokens("b"), *cut]) == ["b", "", "\ufffd"]


@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        ("one two", ("two",), ["o", "n", "e", " ", "", "", ""]),
        ("to two", ("two",), ["", "to", " ", "", "", ""]),
        ("tt", ("two",), ["", "t", "t"]),
        ("abcd", ("abce", "bcd"), ["", "", "", "a"]),
        ("a→", ("→",), ["a", "", "", ""]),
    ],
)
def test_no_part_of_a_stop_text_is_ever_shown(text: str, stops: tuple[str, ...], shown: list[str]) -> None:
    assert pieces(tokens(text), *stops) == shown


def test_pieces_are_the_text_of_all_tokens_whatever_they_are() -> None:
    dice = random.Random(0)
    for _ in range(200):
        ids = [dice.randrange(TOKENIZER.vocab_size) for _ in range(dice.randrange(40))]
        assert "".join(pieces(ids)) == TOKENIZER.decode(ids, skip_special_tokens=True)


def test_what_is_no_character_is_shown_soon_and_never_decoded_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(0)
    lone = [tokens("é")[1], tokens("→")[0], tokens("→")[1], *tokens("é"), *tokens("b")]
    longest = 0
    decode = TOKENIZER.decode

    def noted(ids: list[int], **options: bool) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return str(decode(ids, **options))

    monkeypatch.setattr(TOKENIZER, "decode", noted)
    for count in (1, 3, 6):
        for _ in range(50):
            ids = [dice.choice(lone[:count]) for _ in range(100)]
            found = pieces(ids)
            assert len("".join(found[:60])) > 20
            assert "".join(found) == decode(ids, skip_special_tokens=True)
    assert longest < 50


def test_pieces_of_random_text_end_where_its_first_stop_text_begins() -> None:
    dice = random.Random(0)
    for _ in range(500):
        text = "".join(dice.choice("abé") for _ in range(dice.randrange(1, 20)))
        stops = ["".join(dice.choice("abé") for _ in range(dice.randrange(1, 4))) for _ in range(2)]
        # Of those that end first, the one that begins first.
        ends = [(place + len(stop), place) for stop in stops if (place := text.find(stop)) >= 0]
        end = min(ends)[0] if ends else None
        wanted = (
            text
            if end is None
            else text[: min(place for stop, place in ((s, text[:end].find(s)) for s in stops) if place >= 0)]
        )
        assert "".join(pieces(tokens(text), *stops)) == wanted
