"""`companion auth clients`: the programs that may send people to the login page."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="OAuth clients: add, list, disable.")


@app.callback()
def clients() -> None:
    """OAuth clients: add, list, disable."""


@app.command("add")
def add(
    name: Annotated[str, typer.Option(help="Shown on the login page.")],
    redirect_uri: Annotated[
        list[str],
        typer.Option(
            help="Where the browser is sent back to, compared exactly. May be given several times."
        ),
    ],
) -> None:
    """Register a client. It has no secret; its redirect URIs are what tells it from others."""
    from deploy.companion.oauth_clients import register

    client = asyncio.run(register(name, redirect_uri))
    typer.echo(client.client_id)


@app.command("list")
def list_() -> None:
    """List the clients: id, state, name, redirect URIs."""
    from deploy.companion.oauth_clients import known

    for client in asyncio.run(known()):
        state = "enabled" if client.is_enabled else "disabled"
        uris = " ".join(uri.text for uri in client.redirect_uris)
        typer.echo(f"{client.client_id}  {state:8}  {client.name}  {uris}")


@app.command("disable")
def disable(
    client_id: Annotated[str, typer.Argument(help="The id that `list` shows.")],
) -> None:
    """Take a client out of service for good: every sign-in that it has begun ends, and the personal
    access tokens that were made in these are revoked."""
    from deploy.companion.oauth_clients import disable as disable_client

    ended = asyncio.run(disable_client(client_id))
    typer.echo(f"{client_id} is disabled; {ended} sign-ins have ended.")
