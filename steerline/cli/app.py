"""The command line's root: its commands, what is common to all of them, and how errors leave the process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from steerline import __version__
from steerline.cli import configs, host, jobs, keys, promotion, results, simulate
from steerline.errors import SteerlineError

TRACEBACK_VARIABLE = "STEERLINE_TRACEBACK"

app = typer.Typer(
    name="steerline",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with [b]steerline up[/b], then [b]steerline submit FILE --wait[/b]; ready FILEs lie in jobs/configs.",
)
configs.register(app)
jobs.register(app)
results.register(app)
promotion.register(app)
simulate.register(app)
host.register(app)
keys.register(app)


def main() -> None:
    """Run the command line. An error that a user can mend is one message and its exit code, without a traceback."""
    # As `python -m` does, but last: a `module:Class` of one's own lies in the folder that one is in.
    sys.path.append(str(Path.cwd()))
    try:
        app()
    except SteerlineError as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"steerline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help=f"Show the traceback of an error ({TRACEBACK_VARIABLE}=1 does too).")
    ] = False,
) -> None:
    """Steer, train, probe and serve language models on a Ray cluster, with every artefact tracked in MLflow."""
    if traceback:
        os.environ[TRACEBACK_VARIABLE] = "1"
