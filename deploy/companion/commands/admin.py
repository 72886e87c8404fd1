"""`companion admin`: accounts, from the console of the installation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

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
    from deploy.companion.staff import create_account

    name = username or email.partition("@")[0]
    _do(create_account(email, name, password, role))
    typer.echo(f"Opened the account {name} ({role}).")


@app.command(name="reset-second-factor")
def reset_second_factor(
    login: Annotated[str, typer.Argument(help="The e-mail address or the username.")],
) -> None:
    """Remove the second factor of somebody who lost it, after you made sure who asks."""
    from deploy.companion.staff import reset_second_factor as reset

    _do(reset(login))
    typer.echo("The second factor is removed, every sign-in has ended, and a mail tells the owner.")


_Login = Annotated[str, typer.Argument(help="The e-mail address or the username.")]


@app.command()
def disable(login: _Login) -> None:
    """Lock an account at once: every sign-in ends, and no token of it is good for anything."""
    from deploy.companion.staff import disable_account

    _do(disable_account(login))
    typer.echo("The account is locked and every sign-in has ended. `enable` unlocks it.")


@app.command()
def enable(login: _Login) -> None:
    """Unlock an account."""
    from deploy.companion.staff import enable_account

    _do(enable_account(login))
    typer.echo("The account is unlocked.")


@app.command()
def role(
    login: _Login,
    name: Annotated[str, typer.Argument(metavar="ROLE", help="member, billing or operator")],
) -> None:
    """Give an account another role, `member` to take one away; every sign-in ends."""
    from deploy.companion.staff import assign_role

    _do(assign_role(login, name))
    typer.echo(f"The account has the role {name} now, and every sign-in has ended.")


def _do(act: Coroutine[Any, Any, None]) -> None:
    from deploy.companion.errors import CompanionError
    from shared.errors import ExpectedFailure

    try:
        asyncio.run(act)
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure
