"""Chance as a function of what is drawn for: no state, so that neither order nor neighbours change a draw."""

from __future__ import annotations

import hashlib


def uniform(*place: object) -> float:
    """A number in [0, 1) that the place decides (BLAKE2b of its parts)."""
    text = "\x1f".join(map(str, place))
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
