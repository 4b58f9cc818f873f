"""Integer arithmetic with any number of operands."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from steerline.config.base import Spec
from steerline.errors import DataError


class ArithmeticArgs(Spec):
    """What the expressions look like."""

    operands: int = Field(default=2, ge=2, le=16)
    """Numbers in an expression."""
    low: int = Field(default=10, ge=0)
    """Smallest number."""
    high: int = Field(default=99, ge=0)
    """Largest number."""
    operators: tuple[Literal["+", "-", "*"], ...] = Field(default=("+",), min_length=1)
    """Operators to draw from."""

    @model_validator(mode="after")
    def _ordered(self) -> ArithmeticArgs:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


def arithmetic(size: int, seed: int, args: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Distinct expressions with their values, `*` before `+` and `-`.

    Args:
        size: number of rows.
        seed: seed of the draws.
        args: fields of `ArithmeticArgs`.

    Returns:
        Rows `{"expression": "12 + 34", "value": 46}`.

    Raises:
        DataError: unknown or impossible arguments, or fewer distinct expressions than asked for.
    """
    try:
        options = ArithmeticArgs.model_validate(dict(args))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'args'}: {e['msg']}" for e in error.errors())
        raise DataError("the arithmetic generator cannot use its arguments", got=problems) from error
    distinct = _distinct_expressions(options)
    if size > distinct:
        raise DataError(
            "there are fewer distinct expressions than rows asked for",
            got=f"{size} rows of {distinct} expressions",
            fix="lower `size`, or widen `low`..`high`, `operands` or `operators`",
        )
    generator = random.Random(seed)  # noqa: S311 (reproducible draws, not secrets)
    rows: dict[str, int] = {}
    while len(rows) < size:
        numbers = [generator.randint(options.low, options.high) for _ in range(options.operands)]
        operators = [generator.choice(options.operators) for _ in numbers[1:]]
        words = [str(numbers[0])] + [f"{op} {number}" for op, number in zip(operators, numbers[1:], strict=True)]
        rows[" ".join(words)] = evaluate(numbers, operators)
    return [{"expression": expression, "value": value} for expression, value in rows.items()]


def evaluate(numbers: list[int], operators: list[Literal["+", "-", "*"]]) -> int:
    """The value of `numbers[0] operators[0] numbers[1] ...`, products first, then from left to right."""
    terms = [numbers[0]]
    for operator, number in zip(operators, numbers[1:], strict=True):
        if operator == "*":
            terms[-1] *= number
        else:
            terms.append(number if operator == "+" else -number)
    return sum(terms)


def _distinct_expressions(options: ArithmeticArgs) -> int:
    numbers = options.high - options.low + 1
    return int(numbers**options.operands * len(set(options.operators)) ** (options.operands - 1))
