"""Keep secrets out of everything that is recorded: by the name of the field, by value, and by shape."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

MASK = "[redacted]"

_SECRET_WORDS = re.compile(
    r"passw(or)?d|passphrase|secret|credentials?|authorization|cookie"
    r"|(api|access|private|signing|encryption|account|master|ssh)_?key(?!_id)|(^|_)token$|(^|_)pat$"
)
# A tokenizer's own tokens end in `_token` too and are no secrets.
_VOCABULARY = re.compile(
    r"(^|_)(pad|eos|bos|unk|sep|cls|mask|stop|start|end|begin|image|audio|video|prompt|answer|special|next|first|last"
    r"|per|target|input|output|new)_token$"
)
_SHAPES = (
    re.compile(r"\b(hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,})"),
    re.compile(r"\b(sk-[\w-]{16,}|xox[abprs]-[\w-]{10,}|dapi[0-9a-f]{32}|AIza[\w-]{30,})"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?<=Bearer )[\w.~+/=-]{8,}|(?<=Basic )[A-Za-z0-9+/=]{8,}"),
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
)
# `password: abc` and `API_KEY=abc` in free text, for example in a diff.
_ASSIGNMENT = re.compile(r"""(?P<key>[A-Za-z][\w.-]*)(?P<sep>["']?\s*[:=]\s*)(?P<value>"[^"\n]{4,}"|'[^'\n]{4,}')""")
_BARE_ASSIGNMENT = re.compile(
    r"""^(?P<key>[+-]?\s*(?:export\s+)?[A-Z][A-Z0-9_]*)(?P<sep>=)(?P<value>[^\s"'$]{4,})""", re.M
)
_SHORTEST_VALUE = 8


def is_secret_name(key: str) -> bool:
    """Whether a field, variable or header of this name holds a secret. Looks at the last dotted part."""
    leaf = re.split(r"[./]", key.strip())[-1]
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", leaf).lower().replace("-", "_").replace(" ", "_")
    return bool(_SECRET_WORDS.search(snake)) and not _VOCABULARY.search(snake)


@dataclass(frozen=True)
class Redactor:
    """Masks secrets.

    Args:
        values: secrets whose very text is masked wherever it shows up.
    """

    values: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls) -> Redactor:
        """A redactor that also knows the values of this process's secret environment variables."""
        found = {v for k, v in os.environ.items() if is_secret_name(k) and len(v) >= _SHORTEST_VALUE}
        return cls(tuple(sorted(found, key=len, reverse=True)))

    def text(self, text: str) -> str:
        """The text with every secret in it masked."""
        for value in self.values:
            text = text.replace(value, MASK)
        for shape in _SHAPES:
            text = shape.sub(MASK, text)
        text = _ASSIGNMENT.sub(_mask_quoted, text)
        return _BARE_ASSIGNMENT.sub(_mask_bare, text)

    def field(self, key: str, value: str) -> str:
        """The value of one named field, masked as a whole when the name says that it is a secret."""
        return MASK if value and is_secret_name(key) else self.text(value)

    def tree(self, value: object) -> object:
        """A JSON-like value with secrets masked in keys' values and in all strings."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                str(k): MASK if isinstance(v, str) and v and is_secret_name(str(k)) else self.tree(v)
                for k, v in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.tree(v) for v in value]
        return value


def _mask_quoted(match: re.Match[str]) -> str:
    if not is_secret_name(match["key"]):
        return match[0]
    quote = match["value"][0]
    return f"{match['key']}{match['sep']}{quote}{MASK}{quote}"


def _mask_bare(match: re.Match[str]) -> str:
    name = match["key"].lstrip("+-").split()[-1]
    return f"{match['key']}{match['sep']}{MASK}" if is_secret_name(name) else match[0]
