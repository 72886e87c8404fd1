"""`companion restart NAME…`: restart processes of a running companion."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def restart(
    names: Annotated[list[str], typer.Argument(help="Processes of the Procfile.")],
) -> None:
    """Restart processes and wait until each of them works again."""
    from deploy.companion.console import Console
    from deploy.companion.installation import Installation
    from deploy.companion.running import Running

    running = Running.require(Installation.open())
    console = Console()
    for name in names:
        console.done(name, running.restart(name))
