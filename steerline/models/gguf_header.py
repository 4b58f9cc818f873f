"""What a GGUF file says of itself, read without its weights and without torch."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerline.errors import ModelError

MAGIC = b"GGUF"


@dataclass(frozen=True)
class GgufHeader:
    """Architecture, sizes and licence; None where the file does not say."""

    architecture: str
    num_layers: int | None
    ffn_width: int | None
    context: int | None
    """Longest sequence in tokens."""
    num_parameters: int
    licence: str | None


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF does, whatever its name says."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        ModelError: the file is damaged.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, OSError, struct.error) as error:
        raise ModelError("the GGUF file cannot be read", where=str(path), got=error) from error

    def field(name: str) -> Any:
        entry = reader.get_field(name)
        return None if entry is None else entry.contents()

    architecture = str(field("general.architecture"))
    return GgufHeader(
        architecture=architecture,
        num_layers=field(f"{architecture}.block_count"),
        ffn_width=field(f"{architecture}.feed_forward_length"),
        context=field(f"{architecture}.context_length"),
        num_parameters=sum(int(tensor.n_elements) for tensor in reader.tensors),
        licence=field("general.license"),
    )
