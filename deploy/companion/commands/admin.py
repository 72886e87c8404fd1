"""`companion admin`: accounts of those who run the installation."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Accounts of those who run the installation.")


@app.callback()
def admin() -> None:
    """Accounts of those who run the installation."""


@app.command()
def create(
    email: Annotated[str, typer.Option(help="The address of the account.")],
    username: Annotated[str | None, typer.Option(help="Default: what is before the @.")] = None,
    role: Annotated[str, typer.Option(help="operator or billing")] = "operator",
    password: Annotated[
        str,
        typer.Option(
            envvar="COMPANION_ADMIN_PASSWORD",
            prompt=True,
            hide_input=True,
            confirmation_prompt=True,
            help="Asked for when not given; better not on the command line.",
        ),
    ] = "",
) -> None:
    """Open an account with a role: `operator` for all, `billing` for the billing team's calls."""
    from deploy.companion.errors import CompanionError
    from deploy.companion.staff import create_account
    from shared.errors import ExpectedFailure

    name = username or email.partition("@")[0]
    try:
        asyncio.run(create_account(email, name, password, role))
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure
    typer.echo(f"Opened the account {name} ({role}).")
