"""`companion admin`: accounts, from the console of the installation."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Accounts, from the console of the installation.")


@app.callback()
def admin() -> None:
    """Accounts, from the console of the installation."""


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


@app.command(name="reset-second-factor")
def reset_second_factor(
    login: Annotated[str, typer.Argument(help="The e-mail address or the username.")],
) -> None:
    """Remove the second factor of somebody who lost it, after you made sure who asks."""
    from deploy.companion.errors import CompanionError
    from deploy.companion.staff import reset_second_factor as reset
    from shared.errors import ExpectedFailure

    try:
        asyncio.run(reset(login))
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure
    typer.echo("The second factor is removed, every sign-in has ended, and a mail tells the owner.")
