"""`companion down`: stop what `companion up` started elsewhere, and what a killed one left."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command()
def down() -> None:
    """Stop a running companion and all of its processes."""
    from deploy.companion.console import Console
    from deploy.companion.installation import Installation
    from deploy.companion.previous_run import stop

    console = Console()
    data = Installation.open().data
    stopped = stop(data)
    console.say(stopped or "Companion is not running.")
