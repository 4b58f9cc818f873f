from __future__ import annotations

import logging
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from steerline.errors import AccessError
from steerline.serving import usage
from steerline.serving.keys import SCOPES, KeyBook, first_key, open_keys
from steerline.serving.usage import Taken, UsageBook


@pytest.fixture
def book(tmp_path: Path) -> KeyBook:
    return KeyBook(tmp_path / "home" / "keys.json")


def test_a_key_finds_its_entry_and_nothing_else_does(book: KeyBook) -> None:
    whole, key = book.create("ann", ["inference"])
    other, _ = book.create("bob", ["inference"])
    assert book.find(whole) == key
    assert whole.startswith(f"sk-steerline-{key.id}-")
    for wrong in ("", "sk-steerline-", whole[:-1], whole + "x", whole.replace(key.id, other.split("-")[2]), "\ud800"):
        assert book.find(wrong) is None


def test_only_hashes_are_kept_and_only_this_user_reads_them(book: KeyBook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    whole, key = book.create("ann", ["inference"])
    text = book.file.read_text()
    assert whole.rpartition(key.id)[2][1:] not in text
    assert key.hash in text
    assert stat.S_IMODE(book.file.stat().st_mode) == 0o600
    assert whole not in caplog.text
    assert whole not in repr(book.entries())


def test_each_key_has_256_random_bits_of_its_own(book: KeyBook) -> None:
    secrets = {book.create(f"key {n}", ["inference"])[0].split("-", 3)[3] for n in range(8)}
    assert len(secrets) == 8
    assert {len(secret) for secret in secrets} == {43}  # 256 bits in base 64


def test_a_revoked_key_is_refused_from_then_on_by_every_reader(book: KeyBook) -> None:
    reader = KeyBook(book.file)
    whole, key = book.create("ann", ["inference"])
    kept, _ = book.create("bob", ["inference"])
    assert reader.find(whole) == key
    assert book.revoke("ann") == key
    assert reader.find(whole) is None
    assert reader.find(kept) is not None
    with pytest.raises(AccessError, match="no such key") as caught:
        book.revoke("ann")
    assert caught.value.expected == "bob"


def test_a_key_expires(tmp_path: Path) -> None:
    now = [1000.0]
    book = KeyBook(tmp_path / "keys.json", clock=lambda: now[0])
    whole, _ = book.create("ann", ["inference"], days=1)
    assert book.find(whole) is not None
    now[0] += 86_400
    assert book.find(whole) is None


def test_names_are_unique_and_scopes_are_kept_in_one_order(book: KeyBook) -> None:
    _, key = book.create("ann", ["simulations.write", "inference"])
    assert key.scopes == ("inference", "simulations.write")
    with pytest.raises(AccessError, match="of this name"):
        book.create("ann", ["inference"])
    for name, scopes in (("", ["inference"]), ("eve", [])):
        with pytest.raises(AccessError, match="at least one scope"):
            book.create(name, scopes)
    assert [key.name for key in book.entries()] == ["ann"]


def test_a_file_that_others_may_read_is_refused(book: KeyBook) -> None:
    whole, _ = book.create("ann", ["inference"])
    assert book.find(whole) is not None
    book.file.chmod(0o640)
    # One that has read the file before trusts it no longer.
    for reader in (KeyBook(book.file), book):
        with pytest.raises(AccessError, match="other people") as caught:
            reader.find(whole)
        assert caught.value.fix == f"chmod 600 {book.file}"


@pytest.mark.parametrize("text", ["", "[]", '{"keys": [{"id": "a"}]}', '{"keys": 3}'])
def test_another_file_is_no_file_of_keys(book: KeyBook, text: str) -> None:
    book.create("ann", ["inference"])
    book.file.write_text(text)
    with pytest.raises(AccessError, match="no file of keys"):
        book.entries()


def test_a_file_of_keys_that_cannot_be_read_is_said_to_be_so(
    book: KeyBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.create("ann", ["inference"])
    monkeypatch.setattr(Path, "read_text", lambda _: (_ for _ in ()).throw(PermissionError(13, "denied")))
    with pytest.raises(AccessError, match="cannot be read") as caught:
        KeyBook(book.file).entries()
    assert (caught.value.where, caught.value.got) == (str(book.file), "PermissionError")
    (tmp_path / "file").touch()
    with pytest.raises(AccessError, match="cannot be read"):
        KeyBook(tmp_path / "file" / "keys.json").entries()


def test_a_failed_change_leaves_the_file_as_it_was(book: KeyBook, monkeypatch: pytest.MonkeyPatch) -> None:
    book.create("ann", ["inference"])
    before = book.file.read_text()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):
        book.create("bob", ["inference"])
    assert book.file.read_text() == before


def test_keys_lie_in_the_steerline_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERLINE_HOME", str(tmp_path))
    assert open_keys().file == tmp_path / "keys.json"
    assert open_keys(str(tmp_path / "other")).file == tmp_path / "other"


def test_a_first_key_is_made_once_and_lies_beside_the_hashes(tmp_path: Path) -> None:
    file = first_key(tmp_path)
    assert file is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    book = KeyBook(tmp_path / "keys.json")
    found = book.find(file.read_text().strip())
    assert found is not None
    assert found.scopes == SCOPES
    assert first_key(tmp_path) == file
    assert len(book.entries()) == 1
    book.create("ann", ["inference"])
    book.revoke("first")
    assert first_key(tmp_path) is None


def test_tokens_add_up_by_key_and_day_and_outlive_the_process(tmp_path: Path) -> None:
    now = [10 * 86_400.0 + 100]
    book = UsageBook(tmp_path / "usage.db", clock=lambda: now[0])
    book.add("ann", 5)
    book.add("ann", 7)
    book.add("bob", 1)
    assert book.today("ann") == 12
    assert book.seconds_to_midnight() == 86_300
    book.close()
    again = UsageBook(tmp_path / "usage.db", clock=lambda: now[0])
    assert again.today("ann") == 12
    now[0] += 86_400
    assert again.today("ann") == 0
    again.close()


def test_tokens_that_cannot_be_written_now_are_kept_and_written_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "_BUSY_S", 0.01)
    file = tmp_path / "usage.db"
    book, other = UsageBook(file), sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    book.add("ann", 5)
    with pytest.raises(AccessError, match="does not answer") as caught:
        book.today("ann")
    assert caught.value.where == str(file)
    other.execute("COMMIT")
    assert book.today("ann") == 5
    other.execute("BEGIN IMMEDIATE")
    book.add("ann", 7)
    assert book.today("ann") == 12
    other.execute("COMMIT")
    book.add("bob", 1)
    book.close()
    other.close()
    again = UsageBook(file)
    assert (again.today("ann"), again.today("bob")) == (12, 1)
    again.close()


def test_a_damaged_file_of_tokens_keeps_what_is_added_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "usage.db"
    file.write_bytes(b"garbage" * 1000)
    book = UsageBook(file)
    book.add("ann", 5)
    assert str(file) in caplog.text
    with pytest.raises(AccessError, match="does not answer"):
        book.today("ann")
    file.unlink()
    assert book.today("ann") == 5
    book.close()


def test_tokens_that_could_not_be_given_back_at_once_keep_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "_BUSY_S", 0.01)
    book = UsageBook(tmp_path / "usage.db")
    book.hold("a", "k", 60, most=100)
    other = sqlite3.connect(tmp_path / "usage.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    book.release("a")
    other.close()
    assert book.hold("b", "k", 60, most=60) == Taken(0, 0)
    book.close()


def test_tokens_that_may_come_are_held_for_all_processes_until_they_are_given_back_or_their_holder_is_dead(
    tmp_path: Path,
) -> None:
    now = [90_000.0]
    book, other = (UsageBook(tmp_path / "usage.db", clock=lambda: now[0]) for _ in range(2))
    book.add("k", 10)
    assert book.hold("a", "k", 60, most=100) == Taken(10, 0)
    assert other.hold("b", "k", 60, most=100) == Taken(10, 60)
    refused = book.hold("c", "k", 60, most=100)
    assert not refused.leaves_some_of(100)
    assert refused == other.hold("d", "k", 60, most=100) == Taken(10, 120)
    assert book.hold("e", "else", 5, most=100) == Taken(0, 0)
    for name in ("a", "c"):
        book.release(name)
    assert other.hold("f", "k", 10, most=70) == Taken(10, 60)
    now[0] += usage.HELD_S
    assert book.hold("g", "k", 10, most=100) == Taken(10, 0)
    book.close()
    other.close()
