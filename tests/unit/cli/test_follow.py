from __future__ import annotations

import io

from rich.console import Console

from steerline.cli.follow import follow

PIECES = ["starting\nsteerline: st", "ep=1/2 loss=0.5\nsteerline: step=2/2 loss=0.25\nwarn: [low] disk\n", "done"]


def shown(*, terminal: bool) -> str:
    screen = io.StringIO()
    follow(PIECES, Console(file=screen, force_terminal=terminal, width=100, color_system=None))
    return screen.getvalue()


def test_elsewhere_every_line_is_printed_as_it_is() -> None:
    assert shown(terminal=False) == "".join(PIECES) + "\n"


def test_in_a_terminal_progress_lines_become_a_bar() -> None:
    screen = shown(terminal=True)
    assert "starting" in screen
    assert "warn: [low] disk" in screen
    assert "steerline: step" not in screen
    assert "2/2" in screen
    assert "loss=0.25" in screen
