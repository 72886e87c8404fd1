"""`companion events`: the events that services have put aside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="Dead events: list, show, send again.")

Service = Annotated[str, typer.Argument(help="A service, such as billing.")]
Number = Annotated[int, typer.Argument(help="The number that `list` shows.")]


@app.command("list")
def list_(
    service: Annotated[str | None, typer.Argument(help="One service; default: all.")] = None,
    most: Annotated[int, typer.Option(help="How many of each service.")] = 50,
    with_replayed: Annotated[bool, typer.Option("--all", help="Also those sent again.")] = False,
) -> None:
    """List dead events, the newest first. Exit code 1 when there are any that wait."""
    from deploy.companion.dead_letters import list_dead
    from deploy.companion.programs import SERVICES
    from deploy.companion.servers import Servers

    servers, waiting = Servers.find(), 0
    for name in [_known(service)] if service else SERVICES:
        for event in _run(list_dead(servers, name, most=most, with_replayed=with_replayed)):
            waiting += event.replayed_at is None
            state = "sent again" if event.replayed_at else "waits"
            typer.echo(
                f"{name:9} {event.id:6}  {event.stored_at:%Y-%m-%d %H:%M:%S}  {event.task:24} "
                f"{state:10}  {event.reason}"
            )
    if not waiting:
        typer.echo("No dead events wait.")
        return
    raise typer.Exit(1)


@app.command()
def show(service: Service, number: Number) -> None:
    """Show a dead event with its body."""
    from deploy.companion.dead_letters import find_dead
    from deploy.companion.servers import Servers

    event = _run(find_dead(Servers.find(), _known(service), number))
    typer.echo(f"{event.task}, put aside at {event.stored_at:%Y-%m-%d %H:%M:%S %Z}")
    typer.echo(f"reason: {event.reason}")
    typer.echo(json.dumps(event.body, indent=2))


@app.command()
def replay(service: Service, number: Number) -> None:
    """Send a dead event to its service again."""
    from deploy.companion.dead_letters import replay as send_again
    from deploy.companion.servers import Servers

    queue = _run(send_again(Servers.find(), _known(service), number))
    typer.echo(f"Sent to {queue}.")


def _run(work: Coroutine[Any, Any, T]) -> T:
    """To its end. Raises CompanionError."""
    from deploy.companion.errors import CompanionError
    from shared.errors import ExpectedFailure

    try:
        return asyncio.run(work)
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure


def _known(service: str) -> str:
    from deploy.companion.errors import CompanionError
    from deploy.companion.programs import SERVICES

    if service not in SERVICES:
        raise CompanionError(
            f"There is no service {service}.", f"There are: {', '.join(SERVICES)}."
        )
    return service
