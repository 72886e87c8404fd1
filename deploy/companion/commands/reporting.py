"""`companion reporting`: who may read billing's reports with SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Who reads billing's reports with SQL: grant, create.")


@app.callback()
def reporting() -> None:
    """Who reads billing's reports with SQL: grant, create."""


@app.command("grant")
def grant() -> None:
    """Make the group `billing_reader` and let it read the views, where migrating could not."""
    from deploy.companion import reporting

    reporting.grant(reporting.administrator_url())
    typer.echo("billing_reader reads the views of the schema reporting.")


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="The login's name.")],
    password_file: Annotated[
        Path,
        typer.Option(
            "--password-file", exists=True, dir_okay=False, help="Its first line is the password."
        ),
    ],
) -> None:
    """Make a login that reads the views and nothing else, or give it another password."""
    from deploy.companion import reporting

    password = next(iter(password_file.read_text(encoding="utf-8").splitlines()), "")
    reporting.create_login(reporting.administrator_url(), name, password)
    typer.echo(f"{name} reads the views of the schema reporting in companion_billing.")
