from __future__ import annotations

from pathlib import Path

from steerline.serving.keys import KeyBook
from steerline.serving.usage import usage_beside


def test_a_key_is_shown_once_listed_without_its_secret_and_revoked(steerline, tmp_path: Path) -> None:
    assert "steerline keys create NAME" in steerline("keys", "list").out
    made = steerline("keys", "create", "ann", "--scope", "inference", "--tokens-per-day", "500", "--days", "2")
    whole = made.out.strip()
    book = KeyBook(tmp_path / "home" / "keys.json")
    key = book.find(whole)
    assert key is not None
    assert (key.name, key.scopes, key.tokens_per_day) == ("ann", ("inference",), 500)
    usage = usage_beside(book.file)
    usage.add(key.id, 123)
    usage.close()
    listed = steerline("keys", "list").out
    assert {"ann", key.id, "inference", "123", "500"} <= set(listed.split())
    assert whole.rpartition("-")[2] not in listed
    assert "revoked" in steerline("keys", "revoke", "ann").out
    assert book.find(whole) is None
    again = steerline("keys", "revoke", "ann")
    assert again.code == 18
    assert "docs/errors/access.md" in again.err


def test_a_key_has_all_scopes_unless_some_are_named_and_no_others(steerline, tmp_path: Path) -> None:
    file = tmp_path / "course.json"
    whole = steerline("keys", "create", "ann", "--file", file).out.strip()
    key = KeyBook(file).find(whole)
    assert key is not None
    assert key.scopes == ("inference", "simulations.read", "simulations.write")
    refused = steerline("keys", "create", "bob", "--scope", "everything")
    assert refused.code == 2
    assert "simulations.read" in refused.err
