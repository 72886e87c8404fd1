"""`companion passwords`: those of the embedded engines."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="The embedded engines' passwords: rotate.")


@app.callback()
def passwords() -> None:
    """The embedded engines' passwords: rotate."""


@app.command()
def rotate() -> None:
    """Give PostgreSQL's two roles and Valkey new passwords, while companion does not run.

    With servers of your own see docs/rotation.md: there it is done without a stop.
    """
    from deploy.companion.installation import Installation
    from deploy.companion.passwords import rotate as exchange

    exchange(Installation.open())
    typer.echo("The engines have new passwords. Start companion; nothing else has to change.")
