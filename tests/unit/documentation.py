"""The documentation as data: its files, links, code blocks, commands and names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("infra/**/*.md"),
        *ROOT.glob("deploy/**/*.md"),
    )
)
ERROR_PAGES = [page for page in PAGES if page.parent.name == "errors"]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: the page, the language after the fence, the text."""

    page: Path
    language: str
    text: str


def name(page: Path) -> str:
    """A page as test ids show it."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    return [Block(page, language, text) for language, text in _FENCE.findall(page.read_text())]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def links(page: Path) -> list[str]:
    """Targets of a page's links and pictures that lie in the repository."""
    return [target for target in _LINK.findall(prose(page)) if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """What a link may name after `#`, as GitHub makes it of headings."""
    titles = _HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def inline_code(page: Path) -> list[str]:
    """Every `code` in a page's prose."""
    return _CODE.findall(prose(page))


def commands(page: Path) -> Iterator[list[str]]:
    """Every command line of a page's shell blocks and inline code that runs a program of this repository, as words."""
    lines = [line for block in blocks(page) if block.language in {"console", "sh"} for line in joined(block.text)]
    for line in [*lines, *inline_code(page)]:
        for words in programs(line):
            if words[:1] == ["steerline"] or words[:2] == ["python", "-m"] or words[:1] == ["make"]:
                yield words


def joined(text: str) -> list[str]:
    """The lines of a shell block, those that end in a backslash joined with the next."""
    return text.replace("\\\n", " ").splitlines()


def programs(line: str) -> Iterator[list[str]]:
    """The programs of one line: after `$`, in `"$(...)"`, after `--` of `ray job submit`, before a pipe."""
    line = line.strip().removeprefix("$ ")
    if inner := re.search(r"\$\((.+?)\)", line):
        yield from programs(inner[1])
        return
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return
    for stop in ("|", ">", "&&", ";"):
        if stop in words:
            words = words[: words.index(stop)]
    if words[:3] == ["ray", "job", "submit"] and "--" in words:
        words = words[words.index("--") + 1 :]
    if words:
        yield [Path(words[0]).name, *words[1:]] if words[0].endswith(("/steerline", "/python")) else words
