"""The command that plays a small simulation here: simulate."""

from __future__ import annotations

import inspect
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steerline.cli.options import Sets

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from rich.console import Group
    from rich.table import Table

    from steerline.config.simulation import SimulationSpec
    from steerline.simulation.result import Result

PAUSED_EXIT_CODE = 130
_LONGEST = 400
"""Characters of an outcome's value that are shown."""

Policies = Annotated[
    list[str], typer.Option("--policy", metavar="NAME", help="Dealt to the agents in turn. May be given several times.")
]
Model = Annotated[
    str | None,
    typer.Option(help="Who answers for the agents (with --policy for the first): a packaged model, or a folder."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Simulations")(simulate)


def simulate(
    scenario: Annotated[
        str | None, typer.Argument(metavar="[SCENARIO]", help="A built-in scenario, or `module:Class`.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--list", help="Show the scenarios, or one's policies and settings, and play nothing.")
    ] = False,
    agents: Annotated[int | None, typer.Option(min=1, help="Agents; otherwise the scenario's usual cast.")] = None,
    policies: Policies = [],  # noqa: B006  typer copies it
    model: Model = None,
    me: Annotated[bool, typer.Option("--me", help="Play along: you are one agent more.")] = False,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of topology.json, agents.json and meta.json: whose agents these are.")
    ] = None,
    ticks: Annotated[int, typer.Option(min=1, help="Most ticks.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Of every draw in the world.")] = 0,
    sets: Sets = [],  # noqa: B006
    keep: Annotated[
        Path | None, typer.Option(help="Folder that keeps the run. The same command goes on where it stopped.")
    ] = None,
) -> None:
    """Play a small simulation in this process and watch it; needs no cluster.

    Without a model the agents follow the scenario's scripted policies. `--set` reaches every setting of a simulation.
    The exit code is 130 where it paused before its end.

    Examples:

        steerline simulate --list

        steerline simulate public_goods --policy conditional --policy punisher --set params.punishment=true

        steerline simulate debate --agents 2 --ticks 2 --model smollm2-135m-instruct

        steerline simulate ultimatum --me

        steerline simulate debate --masks star_math --set params.rounds=1
    """
    from steerline.cli.terminal import out

    if show:
        out.print(_scenarios() if scenario is None else _settings(scenario))
        return
    if scenario is None:
        raise typer.BadParameter("name a scenario; `steerline simulate --list` shows them", param_hint="SCENARIO")
    from steerline.simulation.masks import read_masks
    from steerline.simulation.sample import PERSON, sample

    if masks is not None and (agents is not None or me):
        raise typer.BadParameter("the folder says who takes part: leave --agents and --me out", param_hint="--masks")
    spec = sample(
        scenario,
        agents=agents,
        policies=policies,
        ticks=ticks,
        seed=seed,
        backend=None if model is None else _backend(model),
        person=me,
        system=None if masks is None else read_masks(masks),
        changes=_changes(sets),
    )
    result = _play(spec, keep, PERSON if me else None)
    out.print(_summary(result))
    if result.status not in ("ended", "stopped"):
        raise typer.Exit(PAUSED_EXIT_CODE)


def _play(spec: SimulationSpec, keep: Path | None, seat: str | None) -> Result:
    """Play to the end, or on from where a kept run stands, and keep the bundle and the transcript."""
    from contextlib import closing

    from steerline.cli.terminal import out, say
    from steerline.cli.watch import Watch
    from steerline.simulation.bundle import write_bundle
    from steerline.simulation.engine import Surroundings
    from steerline.simulation.game import Game
    from steerline.simulation.runner import run
    from steerline.simulation.store.memory import MemoryStore
    from steerline.simulation.store.sqlite import SqliteStore
    from steerline.simulation.traces import write_traces

    game = Game.of(spec)
    if seat is not None:
        say(game.scenario.rules())
    name = f"{spec.scenario.rpartition(':')[2]}-{game.fingerprint[:12]}"
    folder = None if keep is None else keep / name
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    opened = nullcontext(MemoryStore()) if folder is None else closing(SqliteStore(folder / "simulation.sqlite"))
    with opened as store:
        with Watch(out, spec.max_ticks, seat=seat) as watch:
            around = Surroundings(on_commit=watch.committed, ask_human=None if seat is None else watch.ask)
            result = run(spec, store=store, sim=name, around=around)
        if folder is not None:
            write_bundle(result, store, folder)
            write_traces(result, store, folder / "transcript.jsonl")
            say(f"kept in {folder}")
    return result


def _backend(model: str) -> dict[str, Any]:
    kind, key = ("local", "path") if Path(model).exists() else ("packaged", "name")
    return {"kind": "local", "model": {"source": {"kind": kind, key: model}}}


def _changes(sets: list[str]) -> dict[str, Any]:
    from steerline.config.overrides import parse_overrides
    from steerline.config.yaml_nodes import plain
    from steerline.errors import ConfigError

    overrides, problems = parse_overrides(sets)
    if problems:
        raise ConfigError("what --set says cannot be read", problems=problems)
    return {".".join(override.path): plain(override.node) for override in overrides}


def _scenarios() -> Table:
    from steerline.cli.terminal import grid
    from steerline.simulation.names import SCENARIOS, scenario_class

    return grid([(name, _first_line(scenario_class(name))) for name in SCENARIOS])


def _settings(scenario: str) -> Group:
    from rich.console import Group
    from rich.rule import Rule

    from steerline.cli.terminal import grid
    from steerline.simulation.names import scenario_class

    cls = scenario_class(scenario)
    policies = [(name, _first_line(policy)) for name, policy in cls.scripted.items()]
    settings = [(f"params.{name}", _told(field)) for name, field in cls.Params.model_fields.items()]
    return Group(
        Rule("policies", align="left"), grid(policies), Rule("settings, for --set", align="left"), grid(settings)
    )


def _told(field: FieldInfo) -> str:
    default = "required" if field.is_required() else field.get_default(call_default_factory=True)
    return f"{' '.join((field.description or '').split())} [{default}]"


def _summary(result: Result) -> Table:
    from steerline.cli.terminal import grid

    outcome = [(name, _shown(value)) for name, value in result.outcome.items()]
    standing = f"{result.status} after {result.tick} ticks: {result.reason}"
    return grid([("run", standing), ("hash", result.hash[:16]), *outcome])


def _shown(value: object) -> str:
    """A value of the outcome, for people: numbers to six digits, and no more than fits a screen."""
    from steerline.simulation.canonical import canonical

    rounded = json.loads(canonical(value), parse_float=lambda digits: float(f"{float(digits):.6g}"))
    text = json.dumps(rounded, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text)} characters)"


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]
