"""Small functions to write, each with a solution, a bug that people make, and tests.

A test is an expression and the `repr` of what it has to give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Test = tuple[str, str]


@dataclass(frozen=True)
class Task:
    """A function to write."""

    signature: str
    text: str
    """What it has to do."""
    solution: str
    buggy: str
    """A version with a mistake."""
    exposing: Test
    """A test that the mistake fails."""
    harmless: Test
    """A test that the mistake passes."""
    hidden: tuple[Test, ...]
    """What the work is judged by; no agent sees it. The mistake fails some of it."""


TASKS: Mapping[str, Task] = {
    "clamp": Task(
        "clamp(x, low, high)",
        "Return x, but at least low and at most high.",
        "def clamp(x, low, high):\n    return max(low, min(x, high))\n",
        "def clamp(x, low, high):\n    return min(low, max(x, high))\n",
        ("clamp(5, 0, 9)", "5"),
        ("clamp(-4, 0, 0)", "0"),
        (("clamp(5, 0, 9)", "5"), ("clamp(-1, 0, 9)", "0"), ("clamp(12, 0, 9)", "9"), ("clamp(3, 3, 3)", "3")),
    ),
    "count_vowels": Task(
        "count_vowels(text)",
        "Count the letters a, e, i, o and u in the text, small or capital.",
        "def count_vowels(text):\n    return sum(letter in 'aeiou' for letter in text.lower())\n",
        "def count_vowels(text):\n    return sum(letter in 'aeiou' for letter in text)\n",
        ("count_vowels('Apple')", "2"),
        ("count_vowels('banana')", "3"),
        (("count_vowels('')", "0"), ("count_vowels('banana')", "3"), ("count_vowels('AEIOU')", "5")),
    ),
    "is_leap": Task(
        "is_leap(year)",
        "Return True if the year is a leap year of the Gregorian calendar, else False.",
        "def is_leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)\n",
        "def is_leap(year):\n    return year % 4 == 0\n",
        ("is_leap(1900)", "False"),
        ("is_leap(2024)", "True"),
        (("is_leap(2000)", "True"), ("is_leap(1900)", "False"), ("is_leap(2023)", "False"), ("is_leap(1996)", "True")),
    ),
    "median": Task(
        "median(numbers)",
        "Return the median of a list of numbers: the middle one in order, or the mean of the two in the middle.",
        "def median(numbers):\n    ordered = sorted(numbers)\n    half = len(ordered) // 2\n"
        "    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2\n",
        "def median(numbers):\n    ordered = sorted(numbers)\n    return ordered[len(ordered) // 2]\n",
        ("median([4, 1, 3, 2])", "2.5"),
        ("median([3, 1, 2])", "2"),
        (("median([7])", "7"), ("median([3, 1, 2])", "2"), ("median([1, 2])", "1.5"), ("median([9, 1, 5, 3])", "4.0")),
    ),
    "digit_sum": Task(
        "digit_sum(n)",
        "Return the sum of the decimal digits of a whole number; a minus sign does not count.",
        "def digit_sum(n):\n    return sum(map(int, str(abs(n))))\n",
        "def digit_sum(n):\n    total = 0\n    while n > 0:\n        total += n % 10\n"
        "        n //= 10\n    return total\n",
        ("digit_sum(-12)", "3"),
        ("digit_sum(305)", "8"),
        (("digit_sum(0)", "0"), ("digit_sum(999)", "27"), ("digit_sum(-45)", "9")),
    ),
    "run_lengths": Task(
        "run_lengths(text)",
        "Return a list of pairs (letter, count), one for each run of equal letters in the text.",
        "def run_lengths(text):\n    runs = []\n    for letter in text:\n        if runs and runs[-1][0] == letter:\n"
        "            runs[-1] = (letter, runs[-1][1] + 1)\n        else:\n            runs.append((letter, 1))\n"
        "    return runs\n",
        "def run_lengths(text):\n    return [(letter, text.count(letter)) for letter in sorted(set(text))]\n",
        ("run_lengths('aba')", "[('a', 1), ('b', 1), ('a', 1)]"),
        ("run_lengths('aab')", "[('a', 2), ('b', 1)]"),
        (
            ("run_lengths('')", "[]"),
            ("run_lengths('aab')", "[('a', 2), ('b', 1)]"),
            ("run_lengths('ba')", "[('b', 1), ('a', 1)]"),
        ),
    ),
}
"""Tasks by the name of the function."""
