"""A folder's list of files with sizes and SHA-256, and the check of a folder against it."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """List every file under `folder` in `manifest.json`, and put all of it on the disk before returning.

    Raises:
        OSError: the disk is full or refuses.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(_digest_and_sync, files))
    entries = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": digest}
        for path, digest in zip(files, digests, strict=True)
    }
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": 1, "files": entries}, indent=1))
    sync(manifest)
    for parent in {path.parent for path in files} | {folder}:
        sync(parent)


def check_manifest(folder: Path) -> str | None:
    """Why the folder is not what its manifest says, naming the file; None when it is, byte for byte."""
    manifest = folder / MANIFEST
    try:
        listed = json.loads(manifest.read_text())["files"]
        entries = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in listed.items()}
    except FileNotFoundError:
        return f"{MANIFEST} is missing: the checkpoint was never completed"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read: {error!r}"
    for name, (size, _) in entries.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, its manifest says {size}: it is torn"
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda name: digest(folder / name), entries))
    for (name, (_, expected)), found in zip(entries.items(), digests, strict=True):
        if found != expected:
            return f"{name} has another SHA-256 than its manifest says: it was altered"
    return None


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each file by relative path, as the manifest says."""
    return {name: entry["sha256"] for name, entry in json.loads((folder / MANIFEST).read_text())["files"].items()}


def digest(path: Path) -> str:
    """A file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Put a file or a folder's entries on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest_and_sync(path: Path) -> str:
    found = digest(path)
    sync(path)
    return found
