"""Files in other formats, turned once into ordinary Hugging Face folders in the cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from steerline.config.archive import ArchiveSpec
from steerline.data.packaged import cache_dir
from steerline.errors import ModelError
from steerline.models import gguf_file, llama2c
from steerline.models.quiet import quiet_bars

SOURCE_FILE = "steerline_source.json"
"""In a converted folder: where its weights come from and under which licence."""

# Part of the cache's key: raise it when a conversion changes what it writes.
_FORMAT = 1


def packaged_folder(archive: ArchiveSpec) -> Path:
    """Where the conversion of a packaged model lies, whether or not it has been made."""
    return _folder(archive.package, f"{archive.sha256}:{archive.member}")


def file_folder(path: Path) -> Path:
    """Where the conversion of a local file lies. The file's size and time of change are part of the key."""
    state = path.stat()
    return _folder(path.stem, f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}")


def convert_once(source: Callable[[], Path], folder: Path, origin: Mapping[str, str]) -> None:
    """Make `folder` from the file that `source` yields, unless it is there.

    It appears under its name only when complete; processes that ask at once wait for the one that does the work.

    Args:
        source: called only where the work is to be done (it may download).
        folder: from `packaged_folder` or `file_folder`.
        origin: written beside the weights; its licence, where given, wins over the file's own.

    Raises:
        ModelError: the file is neither GGUF nor a llama2.c checkpoint, or is damaged.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{folder.name}.lock")):
        if folder.exists():
            return
        path = source()
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".convert-"))
        try:
            with quiet_bars():
                licence = _converter(path)(path, scratch)
            (scratch / SOURCE_FILE).write_text(json.dumps({"licence": licence, **origin}, indent=2) + "\n")
            scratch.chmod(0o755)
            scratch.rename(folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def _converter(path: Path) -> Callable[[Path, Path], str | None]:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(gguf_file.MAGIC):
        return gguf_file.convert
    if path.suffix == ".gguf":
        raise ModelError("the file is not GGUF, whatever its name says", where=str(path), got=start[:4])
    llama2c.Header.read(start)
    return llama2c.convert


def _folder(stem: str, key: str) -> Path:
    digest = hashlib.sha256(f"{_FORMAT}:{key}".encode()).hexdigest()
    return cache_dir() / "models" / f"{stem}-{digest[:16]}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's lock. The system releases it when the process ends, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
