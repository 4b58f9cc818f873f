"""A simulation while it goes on: what was done and said, tick by tick, and its numbers as curves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from steerline.simulation.event import Event
    from steerline.simulation.humans import HumanRequest
    from steerline.simulation.world import World

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40
_MOST_LINES = 24
_MOST_TEXT = 240
_ACTIONS = ("action.taken", "action.invalid")
_ASIDE = ("agent.adjusted", "agent.spawned", "agent.retired", "spawn.refused", "msg.blocked", "interview.answered")


class Watch:
    """Shows a run. In a terminal the numbers stay below as curves; elsewhere they are lines of text.

    Args:
        console: where to.
        max_ticks: the run's last tick.
        seat: the agent that a person plays, who is shown nothing of what only others know; none shows all.
    """

    def __init__(self, console: Console, max_ticks: int, *, seat: str | None = None) -> None:
        self._console = console
        self._max_ticks = max_ticks
        self._seat = seat
        self._ticks = 0
        self._series: dict[str, list[float]] = {}
        self._live = Live(console=console, get_renderable=self._standing, transient=True)

    def __enter__(self) -> Watch:
        self._resume()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()
        if self._console.is_terminal:
            self._console.print(curves(self._series))

    def committed(self, world: World, events: Sequence[Event]) -> None:
        """Show a tick; the engine calls it after each."""
        self._ticks = world.tick
        if self._seat is not None:
            events = [event for event in events if event.agent == self._seat and event.kind in _ACTIONS]
        shown = list(lines(events))
        if len(shown) > _MOST_LINES:
            shown[_MOST_LINES:] = [Text(f"      and {len(shown) - _MOST_LINES} more in this tick", style="dim")]
        if shown:
            self._console.print(Text("\n").join(shown), soft_wrap=True)
        for event in events:
            if event.kind == "metric.recorded":
                self._measured(event.payload["values"])

    async def ask(self, request: HumanRequest) -> str | None:
        """Ask the person at the terminal; none once the input has ended."""
        self._live.stop()
        self._console.print(Text(f"\ntick {request.tick}", style="bold"))
        self._console.print(Text(request.question), soft_wrap=True)
        try:
            return self._console.input(f"{request.agent}> ", markup=False)
        except EOFError:
            return None
        finally:
            self._resume()

    def _resume(self) -> None:
        if self._console.is_terminal:
            self._live.start()

    def _measured(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._series.setdefault(name, []).append(value)
        if not self._console.is_terminal:
            numbers = "  ".join(f"{name}={value:.4g}" for name, value in values.items())
            self._console.print(Text(f"      {numbers}"), soft_wrap=True)

    def _standing(self) -> Group:
        return Group(Spinner("dots", f"{self._ticks} of at most {self._max_ticks} ticks"), curves(self._series))


def lines(events: Sequence[Event]) -> Iterator[Text]:
    """What agents did and said in a tick, and what happened around them, each as a line."""
    acted: set[tuple[str | None, str]] = set()
    for event in events:
        payload = event.payload
        match event.kind:
            case "action.taken" | "action.invalid":
                acted.add((event.agent, payload["text"] or ""))
                yield _line(event, f"{event.agent}:", "bold", _action(payload))
            case "msg.sent":
                words = "\n".join(block["text"] for block in payload["blocks"] if block["kind"] == "text")
                # What everybody sees as an action need not be shown as a message, too.
                if not any(agent == event.agent and text.endswith(words) for agent, text in acted):
                    yield _line(event, f"{payload['sender']} to {', '.join(payload['recipients'])}:", "green", words)
            case "env.changed":
                yield _line(event, "", "dim", _plain(payload))
            case kind if kind in _ASIDE:
                yield _line(event, f"{event.agent} {kind}", "magenta", _plain(payload))


def curves(series: dict[str, list[float]]) -> Table:
    """The numbers of a run: each one's name, newest value, and course over the last ticks."""
    table = Table.grid(padding=(0, 2))
    for name, values in series.items():
        table.add_row(Text(name, style="bold"), f"{values[-1]:.4g}", Text(sparkline(values[-_WIDTH:]), style="cyan"))
    return table


def sparkline(values: Sequence[float]) -> str:
    """Values as bars between their least and their greatest."""
    low, high = min(values), max(values)
    step = (high - low) / (len(_BARS) - 1)
    return "".join(_BARS[round((value - low) / step)] if step else _BARS[0] for value in values)


def _line(event: Event, who: str, style: str, what: str) -> Text:
    what = " ".join(what.split())
    if len(what) > _MOST_TEXT:
        what = what[: _MOST_TEXT - 3] + "..."
    return Text.assemble((f"{event.tick:>4}  ", "dim"), (who, style), " " if who else "", what)


def _action(payload: dict[str, Any]) -> str:
    """What was done; beside it the words, where they say more, or why nothing was read."""
    done = payload["payload"] if isinstance(payload["payload"], str) else _plain(payload["payload"])
    words = "\n".join(line for line in (payload["text"] or "").splitlines() if not line.startswith("ANSWER:"))
    aside = [f"({payload['reason']})"] if payload["parse"] == "defaulted" else []
    says_more = "".join(words.split()) not in ("", "".join(done.split()))
    return " ".join([done, *aside, *([f"| {words}"] if says_more else [])])


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
