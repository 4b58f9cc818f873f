"""Where conversions of models in other formats lie in the cache, whether or not they have been made."""

from __future__ import annotations

import hashlib
from pathlib import Path

from steerline.config.archive import ArchiveSpec
from steerline.data.packaged import cache_dir

SOURCE_FILE = "steerline_source.json"
"""In a converted folder: where its weights come from and under which licence."""

# Part of the cache's key: raise it when a conversion changes what it writes.
_FORMAT = 1


def packaged_folder(archive: ArchiveSpec) -> Path:
    """Where the conversion of a packaged model lies."""
    return _folder(archive.package, f"{archive.sha256}:{archive.member}")


def file_folder(path: Path) -> Path:
    """Where the conversion of a local file lies. The file's size and time of change are part of the key."""
    state = path.stat()
    return _folder(path.stem, f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}")


def _folder(stem: str, key: str) -> Path:
    digest = hashlib.sha256(f"{_FORMAT}:{key}".encode()).hexdigest()
    return cache_dir() / "models" / f"{stem}-{digest[:16]}"
