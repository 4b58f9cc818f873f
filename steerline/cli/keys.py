"""Commands about API keys of the endpoint: keys create, list, revoke."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from steerline.serving.keys import SCOPES, Key, KeyBook, open_keys

keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys of the endpoint.")
File = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="File of keys; otherwise keys.json in the Steerline home."),
]


def _known(scopes: list[str]) -> list[str]:
    strange = next((scope for scope in scopes if scope not in SCOPES), None)
    if strange is not None:
        raise typer.BadParameter(f"{strange} is no scope; there are {', '.join(SCOPES)}")
    return scopes


Scopes = Annotated[
    list[str],
    typer.Option("--scope", callback=_known, help="What it may do; several times for several, otherwise all."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(keys, name="keys", rich_help_panel="This machine")


@keys.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will have it.")],
    scope: Scopes = [],  # noqa: B006  typer copies it
    days: Annotated[float | None, typer.Option(min=0, help="Days until it expires; otherwise it does not.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Otherwise the endpoint's own limit.")] = None,
    tokens_per_day: Annotated[int | None, typer.Option(min=1, help="Otherwise none.")] = None,
    file: File = None,
) -> None:
    """Make a key and show it once: only its hash is kept. Standard output holds the key alone.

    Examples:

        steerline keys create ann

        steerline keys create dashboard --scope simulations.read --requests-per-minute 600

        steerline keys create course --scope inference --days 90 --tokens-per-day 200000 > course.key
    """
    from steerline.cli.terminal import err

    chosen = [known for known in SCOPES if known in scope] or SCOPES
    whole, key = _book(file).create(
        name, chosen, days=days, requests_per_minute=requests_per_minute, tokens_per_day=tokens_per_day
    )
    typer.echo(whole)
    err.print(f"{name} may use {', '.join(key.scopes)}. Nothing can show this key again.", markup=False, soft_wrap=True)


@keys.command("list")
def list_(file: File = None) -> None:
    """Show who has keys, what they may do, and the tokens they used today.

    Example:

        steerline keys list
    """
    from rich.table import Table

    from steerline.cli.terminal import out, say
    from steerline.serving.usage import usage_beside

    book = _book(file)
    found = book.entries()
    if not found:
        say("no keys yet: steerline keys create NAME")
        return
    usage = usage_beside(book.file)
    table = Table("name", "id", "scopes", "made", "expires", "calls a minute", "tokens today", "of", box=None)
    for key in found:
        table.add_row(*_row(key), str(usage.today(key.id)), _shown(key.tokens_per_day))
    usage.close()
    out.print(table)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its name or id.")],
    file: File = None,
) -> None:
    """Strike out a key. A running endpoint refuses it from the next call on, and ends its streams.

    Example:

        steerline keys revoke ann
    """
    from steerline.cli.terminal import say

    gone = _book(file).revoke(key)
    say(f"{gone.name} ({gone.id}) is revoked")


def _book(file: Path | None) -> KeyBook:
    return open_keys(None if file is None else str(file))


def _row(key: Key) -> tuple[str, ...]:
    expires = "never" if key.expires_at is None else _day(key.expires_at)
    if not key.valid(time.time()):
        expires = f"has, {expires}"
    return key.name, key.id, " ".join(key.scopes), _day(key.created_at), expires, _shown(key.requests_per_minute)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _shown(limit: int | None) -> str:
    return "" if limit is None else str(limit)
