"""InfoRidge's synthetic task: an arithmetic progression modulo K among noise, of which the next value is asked.

Each element is "S{signal} N{noise}" with signal `s_t = (s_0 + t * d) mod K`. In distribution K is 13; out of
distribution it is drawn uniformly from 5 to 25 without 13 (stated by the paper). The ranges of s_0, d and the noise,
and which signal is asked for, are not stated: they are arguments.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from steerline.config.base import Spec
from steerline.errors import DataError


class SignalNoiseArgs(Spec):
    """What the sequences look like."""

    split: Literal["id", "ood"] = "id"
    """`id`: the one modulus below; `ood`: one of the others for each row."""
    modulus: int = Field(default=13, ge=2)
    """K in distribution."""
    ood_low: int = Field(default=5, ge=2)
    """Smallest K out of distribution."""
    ood_high: int = Field(default=25, ge=2)
    """Largest K out of distribution; the modulus above is left out between the two."""
    elements: int = Field(default=10, ge=3)
    """Elements of a sequence."""
    target: Literal["next", "last"] = "next"
    """What is asked for: the signal that follows all elements, or that of the last one, which is then not shown."""
    noise_low: int = Field(default=0, ge=0)
    """Smallest noise."""
    noise_high: int = Field(default=99, ge=0)
    """Largest noise."""
    layout: Literal["joined", "spaced"] = "joined"
    """`joined` writes "S7 N41" as the paper does; `spaced` writes "S 7 N 41", where a tokenizer of whole words reads
    each value as one token, the same for signal and noise."""

    @model_validator(mode="after")
    def _ordered(self) -> SignalNoiseArgs:
        if self.noise_low > self.noise_high:
            raise ValueError(f"noise_low {self.noise_low} is above noise_high {self.noise_high}")
        if not self.moduli:
            raise ValueError(f"no modulus is left between {self.ood_low} and {self.ood_high} without {self.modulus}")
        return self

    @property
    def moduli(self) -> tuple[int, ...]:
        """The moduli that rows are drawn from, each as often."""
        if self.split == "id":
            return (self.modulus,)
        return tuple(k for k in range(self.ood_low, self.ood_high + 1) if k != self.modulus)


def signal_noise(size: int, seed: int, args: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Sequences with the value that continues their signal.

    s_0 is uniform over 0 .. K - 1, d over 1 .. K - 1, each noise value over its range. A progression comes back with
    other noise: there are K (K - 1) of them.

    Args:
        size: number of rows.
        seed: seed of the draws.
        args: fields of `SignalNoiseArgs`.

    Returns:
        Rows with `prompt`, which ends in the letter of the signal that is asked for, `answer`, its value (after a space
        in the `spaced` layout), and the draw's `modulus`, `start` and `step`.

    Raises:
        DataError: unknown or impossible arguments.
    """
    try:
        options = SignalNoiseArgs.model_validate(dict(args))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'args'}: {e['msg']}" for e in error.errors())
        raise DataError("the signal-noise generator cannot use its arguments", got=problems) from error
    generator = random.Random(seed)  # noqa: S311 (reproducible draws, not secrets)
    return [_row(options, generator) for _ in range(size)]


def _row(options: SignalNoiseArgs, generator: random.Random) -> dict[str, Any]:
    modulus = generator.choice(options.moduli)
    start, step = generator.randrange(modulus), generator.randint(1, modulus - 1)
    shown = options.elements if options.target == "next" else options.elements - 1
    gap = " " if options.layout == "spaced" else ""
    elements = [
        f"S{gap}{(start + place * step) % modulus} N{gap}{generator.randint(options.noise_low, options.noise_high)}"
        for place in range(shown)
    ]
    return {
        "prompt": " ".join([*elements, "S"]),
        "answer": f"{gap}{(start + shown * step) % modulus}",
        "modulus": modulus,
        "start": start,
        "step": step,
    }
