"""Commands about this machine: doctor, up, down."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from steerline.orchestration.endpoint import STANDARD_FILE


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (up, down, doctor):
        app.command(rich_help_panel="This machine")(command)


def up(
    num_cpus: Annotated[int | None, typer.Option(min=1, help="CPUs that Ray may hand out; otherwise all.")] = None,
    endpoint: Annotated[
        Path, typer.Option(metavar="FILE", help="Serve config of the endpoint.", dir_okay=False)
    ] = STANDARD_FILE,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Start the endpoint too; jobs need none.")] = True,
    exports: Annotated[bool, typer.Option("--exports", help="Print only shell exports, for `eval`.")] = False,
) -> None:
    """Start Ray, MLflow and the endpoint on this machine, unless they run. Only this machine can reach them, with keys.

    Their state is in $STEERLINE_HOME, otherwise in .steerline of this folder. The endpoint is started where FILE lies:
    in the repository's root.

    Examples:

        steerline up

        steerline up --no-serve

        eval "$(steerline up --exports)"   # then plain `ray job submit` and MLflow clients find the servers
    """
    from steerline.cli.terminal import grid, out, say, warn, working
    from steerline.orchestration import stack as stacks
    from steerline.serving.keys import first_key

    if serve and endpoint == STANDARD_FILE and not endpoint.is_file():
        warn(f"no endpoint is started: there is no {endpoint} here; --no-serve does without, --endpoint names another")
        serve = False
    with working("starting the servers") as tell:
        stack, started = stacks.up(num_cpus=num_cpus, endpoint=endpoint if serve else None, tell=tell)
    lines = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in stack.environment().items())
    if exports:
        typer.echo(lines)
        return
    say("started" if started else "running")
    rows = [("dashboard", stack.address), ("MLflow", stack.tracking_uri), ("token", str(stack.token_path))]
    if stack.endpoint is not None:
        key = first_key(stack.folder)
        rows += [("endpoint", f"{stack.endpoint}/v1"), ("console", f"{stack.endpoint}/console/")]
        rows += [] if key is None else [("API key", str(key))]
    out.print(grid(rows))
    say('\n`steerline` commands in this folder find them. Other programs: eval "$(steerline up --exports)"')
    say("`steerline down` stops them; runs, simulations and their records stay")


def down() -> None:
    """Stop the servers that `steerline up` started here, and nothing else.

    Running jobs end with the head; `steerline resume` goes on with them later. Simulations go on at the next `up`.

    Example:

        steerline down
    """
    from steerline.cli.terminal import say, working
    from steerline.orchestration import stack as stacks

    with working("stopping the servers") as tell:
        stopped = stacks.down(tell=tell)
    say("stopped" if stopped else "nothing was running")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    packaged: Annotated[
        bool, typer.Option("--packaged", help="List the models and data sets that registry packages carry.")
    ] = False,
    build: Annotated[
        bool, typer.Option("--build", help="Only compile the CPU kernels of steering, ahead of the first job.")
    ] = False,
) -> None:
    """Look at what this machine needs and lacks, and say how to mend it. The exit code is 1 when something is missing.

    Examples:

        steerline doctor

        steerline doctor --packaged

        steerline doctor --build
    """
    from steerline import doctor as doctors
    from steerline.cli.terminal import out, working

    if packaged:
        rows = doctors.packaged()
        if as_json:
            typer.echo(json.dumps([row.__dict__ for row in rows], indent=2))
        else:
            out.print(doctors.packaged_table(rows))
        return
    with working("compiling" if build else "examining"):
        findings = doctors.build() if build else doctors.examine()
    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        out.print(doctors.findings_table(findings))
    if any(finding.missing for finding in findings):
        raise typer.Exit(1)
