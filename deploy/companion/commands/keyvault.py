"""`companion keyvault`: services that use keys, and the stop of one."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Which services use keys, and which are stopped.")

_Service = Annotated[str, typer.Argument(help="chat or voice")]


@app.callback()
def keyvault() -> None:
    """Which services use keys, and which are stopped."""


@app.command()
def status(
    most: Annotated[int, typer.Option(help="How many stops of the past to show.", min=0)] = 10,
) -> None:
    """Show how services use keys at the moment, and when they were stopped."""
    from deploy.companion import service_stops

    typer.echo(asyncio.run(service_stops.status(most)))


@app.command()
def stop(
    service: _Service,
    reason: Annotated[str, typer.Option(help="For whoever finds it stopped.")],
) -> None:
    """Give a service no key from its next call on. What runs already goes on."""
    from deploy.companion import service_stops

    if asyncio.run(service_stops.stop(service, reason)):
        typer.echo(f"{service} is stopped: its users' calls answer 503 until it is resumed.")
    else:
        typer.echo(f"{service} was stopped already.")


@app.command()
def resume(service: _Service) -> None:
    """Let a stopped service use keys again; its users are counted anew."""
    from deploy.companion import service_stops

    asyncio.run(service_stops.resume(service))
    typer.echo(f"{service} may use keys again.")
