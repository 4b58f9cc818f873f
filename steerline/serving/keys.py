"""API keys: made here and shown once, kept as hashes, compared in constant time.

A key is `sk-steerline-<id>-<256 random bits>`. The id finds the entry; of the whole key only its SHA-256 is kept. A
slow hash would protect guessable passwords, and nobody guesses 256 bits.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from steerline.errors import AccessError
from steerline.home import home

Scope = Literal["inference", "simulations.read", "simulations.write"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_FILE = "keys.json"
FIRST_KEY_FILE = "key"
PREFIX = "sk-steerline-"
_ID_BYTES = 6
_SECRET_BYTES = 32
_SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True)
class Key:
    """What is kept of a key."""

    id: str
    name: str
    """Who has it, for people."""
    hash: str
    """SHA-256 of the whole key, in hexadecimal."""
    scopes: tuple[Scope, ...]
    created_at: float
    """Seconds since the epoch, as is `expires_at`."""
    expires_at: float | None = None
    requests_per_minute: int | None = None
    """None takes the endpoint's own limit."""
    tokens_per_day: int | None = None
    """Prompt and completion together, by the days of UTC; none sets no limit."""

    def valid(self, now: float) -> bool:
        """Whether it has not expired."""
        return self.expires_at is None or now < self.expires_at


class KeyBook:
    """The keys of one file. Several processes may read and write it; a change counts from the next call.

    Args:
        file: where the hashes are; it need not be there yet.
        clock: seconds since the epoch.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self.file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    def entries(self) -> Sequence[Key]:
        """All of them, the oldest first.

        Raises:
            AccessError: the file cannot be read, or other people may read it.
        """
        return list(self._current().values())

    def find(self, presented: str) -> Key | None:
        """The entry of a whole key; none where it is unknown, revoked or expired.

        Raises:
            AccessError: as for `entries`.
        """
        key = self._current().get(_id_of(presented), _NOBODY)
        same = hmac.compare_digest(key.hash, _hash(presented))
        return key if same and key.valid(self._clock()) else None

    def entry(self, id_: str) -> Key | None:
        """The entry of an id; none where it is unknown, revoked or expired.

        Raises:
            AccessError: as for `entries`.
        """
        key = self._current().get(id_)
        return key if key is not None and key.valid(self._clock()) else None

    def create(
        self,
        name: str,
        scopes: Sequence[Scope],
        *,
        days: float | None = None,
        requests_per_minute: int | None = None,
        tokens_per_day: int | None = None,
    ) -> tuple[str, Key]:
        """Make a key.

        Args:
            name: who will have it; names are unique among the keys that are there.
            scopes: what it may do.
            days: it expires after so many; none never.
            requests_per_minute: its own limit; none takes the endpoint's.
            tokens_per_day: none sets no limit.

        Returns:
            the key itself, which nothing can show again, and its entry.

        Raises:
            AccessError: the name is taken or empty, or no scope is given, or as for `entries`.
        """
        if not name.strip() or not scopes:
            raise AccessError("a key has a name and at least one scope", got=f"{name!r}, {list(scopes)}")
        with self._changing() as keys:
            if any(key.name == name for key in keys.values()):
                raise AccessError(
                    "there is a key of this name",
                    where=str(self.file),
                    got=name,
                    fix=f"take another name, or `steerline keys revoke {name}`",
                )
            now = self._clock()
            id_ = secrets.token_hex(_ID_BYTES)
            whole = f"{PREFIX}{id_}-{secrets.token_urlsafe(_SECRET_BYTES)}"
            key = Key(
                id=id_,
                name=name,
                hash=_hash(whole),
                scopes=tuple(scope for scope in SCOPES if scope in scopes),
                created_at=now,
                expires_at=None if days is None else now + days * _SECONDS_PER_DAY,
                requests_per_minute=requests_per_minute,
                tokens_per_day=tokens_per_day,
            )
            keys[id_] = key
        return whole, key

    def revoke(self, reference: str) -> Key:
        """Strike out a key by its name or id; it is refused from the next call on.

        Raises:
            AccessError: there is none, or as for `entries`.
        """
        with self._changing() as keys:
            found = next((key for key in keys.values() if reference in {key.id, key.name}), None)
            if found is None:
                names = ", ".join(key.name for key in keys.values()) or "none"
                raise AccessError("there is no such key", where=str(self.file), got=reference, expected=names)
            del keys[found.id]
        return found

    def _current(self) -> dict[str, Key]:
        """The file's keys; it is read again only when it has changed."""
        with self._lock:
            try:
                status = self.file.stat()
            except FileNotFoundError:
                self._seen, self._keys = None, {}
                return self._keys
            except OSError as error:
                raise _unreadable(self.file, error) from error
            if status.st_mode & 0o077:
                raise AccessError(
                    "other people may read the file of keys",
                    where=str(self.file),
                    got=f"mode {status.st_mode & 0o777:o}",
                    expected="mode 600",
                    fix=f"chmod 600 {self.file}",
                )
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                self._keys = _read(self.file)
                self._seen = seen
            return self._keys

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Key]]:
        """The keys, to be changed; written when the block ends well. One process at a time."""
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = dict(self._current())
            yield keys
            _write(self.file, keys.values())


def open_keys(file: str | None = None) -> KeyBook:
    """The key book in a file; none takes `keys.json` in the Steerline home."""
    return KeyBook(Path(file).absolute() if file is not None else home() / DEFAULT_FILE)


def first_key(folder: Path) -> Path | None:
    """Make a key with every scope where there are none yet, and leave it in the file `key`, for this user alone.

    Args:
        folder: the Steerline home.

    Returns:
        the file with the first key, while that key is good.

    Raises:
        AccessError: as for `KeyBook.entries`.
    """
    file = folder / FIRST_KEY_FILE
    book = KeyBook(folder / DEFAULT_FILE)
    if not book.entries():
        whole, _ = book.create("first", SCOPES)
        _write_private(file, whole + "\n")
    return file if file.is_file() and book.find(file.read_text().strip()) is not None else None


def _id_of(presented: str) -> str:
    return presented.removeprefix(PREFIX).partition("-")[0] if presented.startswith(PREFIX) else ""


def _hash(whole: str) -> str:
    # Whatever a caller sends has a hash, lone surrogates included.
    return hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()


# An unknown id is compared too, so that time does not tell which ids exist. No text is known to have this hash.
_NOBODY = Key(id="", name="", hash="0" * 64, scopes=(), created_at=0.0)


def _read(file: Path) -> dict[str, Key]:
    try:
        entries = json.loads(file.read_text())["keys"]
        keys = [Key(**{**entry, "scopes": tuple(entry["scopes"])}) for entry in entries]
    except OSError as error:
        raise _unreadable(file, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise AccessError(
            "this is no file of keys", where=str(file), got=type(error).__name__, fix="move it away and make new keys"
        ) from None
    return {key.id: key for key in keys}


def _unreadable(file: Path, error: OSError) -> AccessError:
    return AccessError(
        "the file of keys cannot be read",
        where=str(file),
        got=type(error).__name__,
        fix="see whose it is, and whether its disk answers",
    )


def _write(file: Path, keys: Iterable[Key]) -> None:
    _write_private(file, json.dumps({"keys": [asdict(key) for key in keys]}, indent=2))


def _write_private(file: Path, text: str) -> None:
    """Replace a file at once by one that this user alone can read."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.new")
    # A draft that a killed process left behind may have another mode.
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
