"""Who told whom how much: the communication graph of a run, agents on a circle."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from steerline.analysis.infosteer import style

MOST_AGENTS = 60
"""Agents above which the busiest are drawn."""


def graph_figure(messages: Mapping[tuple[str, str], int], *, heading: str) -> Figure:
    """Arrows from sender to receiver, as thick as messages are many; discs as large as an agent's messages.

    Args:
        messages: (sender, receiver) to the number of messages delivered.
        heading: the figure's.
    """
    busy: dict[str, int] = {}
    for (sender, receiver), count in messages.items():
        busy[sender] = busy.get(sender, 0) + count
        busy[receiver] = busy.get(receiver, 0)
    shown = sorted(sorted(busy, key=lambda name: -busy[name])[:MOST_AGENTS])
    note = "" if len(shown) == len(busy) else f"The {MOST_AGENTS} busiest of {len(busy)} agents."
    figure = style.new_figure(6.4, 6.6)
    style.heading(figure, heading, note or "Arrows: messages delivered. Discs: messages sent.")
    axes = figure.add_subplot()
    turn = 2 * math.pi / max(1, len(shown))
    at = {name: (math.sin(turn * n), math.cos(turn * n)) for n, name in enumerate(shown)}
    most = max(messages.values(), default=1)
    for (sender, receiver), count in messages.items():
        if sender in at and receiver in at and sender != receiver:
            axes.add_patch(
                FancyArrowPatch(
                    at[sender],
                    at[receiver],
                    arrowstyle="-|>",
                    mutation_scale=10,
                    connectionstyle="arc3,rad=0.12",
                    shrinkA=9,
                    shrinkB=9,
                    color=style.MUTED,
                    alpha=0.75,
                    linewidth=0.5 + 2.5 * count / most,
                )
            )
    loudest = max(busy.values(), default=1) or 1
    for name, (x, y) in at.items():
        axes.scatter([x], [y], s=60 + 240 * busy[name] / loudest, color=style.colours([name])[name], zorder=3)
        side = "center" if abs(x) < 0.1 else ("left" if x > 0 else "right")
        axes.annotate(name, (1.12 * x, 1.12 * y), ha=side, va="center", fontsize=8, color=style.INK)
    axes.set_xlim(-1.7, 1.7)
    axes.set_ylim(-1.4, 1.4)
    axes.set_aspect("equal")
    axes.axis("off")
    return figure
