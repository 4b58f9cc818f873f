"""Files in other formats, turned once into ordinary Hugging Face folders in the cache."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from steerline.errors import ModelError
from steerline.models import gguf_file, llama2c
from steerline.models.converted import SOURCE_FILE
from steerline.models.gguf_header import MAGIC
from steerline.models.quiet import quiet_bars


def convert_once(source: Callable[[], Path], folder: Path, origin: Mapping[str, str]) -> None:
    """Make `folder` from the file that `source` yields, unless it is there.

    It appears under its name only when complete; processes that ask at once wait for the one that does the work.

    Args:
        source: called only where the work is to be done (it may download).
        folder: from `converted.packaged_folder` or `file_folder`.
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
    if start.startswith(MAGIC):
        return gguf_file.convert
    if path.suffix == ".gguf":
        raise ModelError("the file is not GGUF, whatever its name says", where=str(path), got=start[:4])
    llama2c.Header.read(start)
    return llama2c.convert


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's lock. The system releases it when the process ends, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
