"""Commands about submitted jobs: submit, status, logs, stop, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from steerline.cli.options import Address, ConfigFile, Run, Sets

if TYPE_CHECKING:
    from rich.table import Table

    from steerline.orchestration.ledger import Attempt
    from steerline.orchestration.submission import Submitted

Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Follow the job to its end; the exit code is then the job's own.")
]
Follow = Annotated[bool, typer.Option("-f", "--follow", help="Go on to the job's end; the exit code is then its own.")]
RunOrAll = Annotated[str | None, typer.Argument(metavar="[RUN]", help="As for the other commands; none shows all.")]
Force = Annotated[bool, typer.Option("--force", help="Also when the cluster of an earlier attempt does not answer.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (submit, status, logs, stop, resume):
        app.command(rich_help_panel="Jobs")(command)


def submit(
    file: ConfigFile,
    sets: Sets = [],  # noqa: B006  typer copies it
    wait: Wait = False,
    address: Address = None,
    force: Force = False,
) -> None:
    """Check a config and submit it to a Ray cluster; prints the plain `ray job submit` line that does the same.

    The run's name comes from the config, so submitting the same config again goes on from its last checkpoint.

    Examples:

        steerline submit jobs/configs/infosteer_smollm2.yaml --wait

        steerline submit jobs/configs/sft_smollm2.yaml --set cluster.num_workers=2 --address http://head:8265
    """
    from steerline.cli.terminal import working
    from steerline.orchestration.submission import submit as send

    with working("checking and submitting"):
        sent = send(file, sets, address=address, force=force)
    _report(sent, wait)


def resume(
    run: Run,
    sets: Sets = [],  # noqa: B006
    wait: Wait = False,
    address: Address = None,
    force: Force = False,
) -> None:
    """Submit a run again under its name; it goes on from its last checkpoint.

    Settings that do not change what the run computes may be changed, such as the number of workers.

    Examples:

        steerline resume infosteer-smollm2

        steerline resume infosteer-smollm2 --set cluster.num_workers=1 --wait
    """
    from steerline.cli.terminal import working
    from steerline.orchestration.submission import resume as send

    with working("checking and submitting"):
        sent = send(run, sets, address=address, force=force)
    _report(sent, wait)


def status(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run's name, its unique beginning, or a submission id.")
    ] = None,
    address: Address = None,
) -> None:
    """Show where runs stand: all of them, or one in detail. Remembers them after their cluster is gone.

    Examples:

        steerline status

        steerline status infosteer-smollm2
    """
    from steerline.cli.terminal import grid, out
    from steerline.orchestration import runs

    if run is not None:
        out.print(grid(_details(runs.status(run))))
        return
    attempts = runs.overview(address=address)
    if not attempts:
        out.print("no runs yet: steerline submit FILE")
        return
    out.print(_table(attempts))


def logs(
    run: Run,
    follow: Follow = False,
) -> None:
    """Print a job's output.

    Examples:

        steerline logs infosteer-smollm2

        steerline logs -f infosteer-smollm2
    """
    from steerline.cli.follow import follow as show
    from steerline.cli.terminal import out
    from steerline.orchestration import runs

    if follow:
        _follow(run)
    show(runs.logs(run), out)


def stop(run: Run) -> None:
    """Stop a run. It saves a checkpoint first; `steerline resume` goes on from there.

    Example:

        steerline stop infosteer-smollm2
    """
    from steerline.cli.terminal import say, working
    from steerline.orchestration import runs

    with working("waiting for the job to save and end"):
        attempt = runs.stop(run)
    say(f"{attempt.submission_id}: {attempt.state.label}")


def _report(sent: Submitted, wait: bool) -> None:
    from steerline.cli.terminal import say, warn

    for warning in sent.warnings:
        warn(warning)
    name = sent.attempt.run_name
    say(f"submitted {sent.attempt.submission_id} to {sent.attempt.address}")
    say(f"the same as:\n  {sent.command}")
    if wait:
        _follow(sent.attempt.submission_id)
    say(f"next: steerline logs -f {name}   steerline status {name}   steerline stop {name}")


def _follow(reference: str) -> None:
    """Show a job's output to its end and leave with its exit code."""
    from steerline.cli.follow import follow
    from steerline.cli.terminal import err, out
    from steerline.orchestration import runs

    try:
        follow(runs.logs(reference, follow=True), out)
        attempt = runs.wait(reference)
    except KeyboardInterrupt:
        err.print(f"the job goes on: `steerline logs -f {reference}` follows it, `steerline stop {reference}` ends it")
        raise
    err.print(f"{attempt.submission_id}: {attempt.state.label}", markup=False)
    raise typer.Exit(runs.exit_code(attempt))


def _details(attempt: Attempt) -> list[tuple[str, str]]:
    rows = [
        ("run", attempt.run_name),
        ("submission", f"{attempt.submission_id} (attempt {attempt.attempt})"),
        ("state", attempt.state.label),
        ("exit code", "" if attempt.exit_code is None else str(attempt.exit_code)),
        ("config", " ".join([attempt.config, *(f"--set {override}" for override in attempt.overrides)])),
        ("results", attempt.storage_path),
        ("cluster", attempt.address),
        ("submitted", attempt.submitted_at),
        ("message", attempt.message or ""),
    ]
    return [(name, value) for name, value in rows if value]


def _table(attempts: list[Attempt]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("submission", "state", "exit", "config", "submitted"):
        table.add_column(column, overflow="fold")
    for attempt in attempts:
        code = "" if attempt.exit_code is None else str(attempt.exit_code)
        when = attempt.submitted_at.partition(".")[0].replace("T", " ")
        table.add_row(attempt.submission_id, attempt.state.label, code, escape(attempt.config), when)
    return table
