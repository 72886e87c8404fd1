"""`companion up`: start everything here and stay until Ctrl-C."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def up(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show the processes' logs as they grow.")
    ] = False,
) -> None:
    """Start every engine and service on this machine; Ctrl-C stops them."""
    from deploy.companion.console import Console
    from deploy.companion.installation import Installation
    from deploy.companion.settings import Settings
    from deploy.companion.startup import up as start_and_stay

    installation = Installation.as_said(Settings.from_environment())
    start_and_stay(installation, Console(), follow=follow)
