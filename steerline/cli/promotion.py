"""The command about a sweep's best model: promote."""

from __future__ import annotations

from typing import Annotated

import typer

from steerline.cli.options import TrackingUri


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Results")(promote)


def promote(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's name, its unique beginning, or its folder.")],
    alias: Annotated[str | None, typer.Option(help="Alias to move to the new version, e.g. champion.")] = None,
    name: Annotated[str | None, typer.Option(help="Name in the registry; otherwise the sweep's own.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also where the best point does not win.")] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Verify and register the model of a sweep's best point, with its lineage, if it beats baseline and placebos.

    Examples:

        steerline promote sweep-infosteer --alias champion

        steerline promote sweep-infosteer --name infosteer --force
    """
    from steerline.cli.results import tracking_address
    from steerline.cli.terminal import say, working
    from steerline.orchestration.promotion import promote as register_best

    with working("verifying and registering"):
        registered, verdict = register_best(sweep, tracking_address(tracking_uri), alias=alias, name=name, force=force)
    say(verdict)
    say(f"registered as {registered.uri}" + (f", alias {alias}" if alias else ""))
    say(f"next: steerline lineage {registered.uri}")
