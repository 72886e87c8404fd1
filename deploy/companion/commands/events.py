"""`companion events`: the events that services have put aside."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from shared.messaging.dead_events import DeadEvent

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="Dead events: list, show, send again, close.")

Service = Annotated[str, typer.Argument(help="A service, such as billing.")]
Number = Annotated[int, typer.Argument(help="The number that `list` shows.")]


@app.command("list")
def list_(
    service: Annotated[str | None, typer.Argument(help="One service; default: all.")] = None,
    most: Annotated[int, typer.Option(help="How many of each service.")] = 50,
    with_replayed: Annotated[
        bool, typer.Option("--all", help="Also those sent again or closed.")
    ] = False,
) -> None:
    """List dead events, the newest first. Exit code 1 when there are any that wait."""
    from deploy.companion.dead_letters import list_dead
    from deploy.companion.programs import SERVICES
    from deploy.companion.servers import Servers

    servers, waiting = Servers.find(), 0
    for name in [_known(service)] if service else SERVICES:
        for event in _run(list_dead(servers, name, most=most, with_replayed=with_replayed)):
            waiting += event.replayed_at is None
            state = _state_of(event)
            typer.echo(
                f"{name:9} {event.id:6}  {event.stored_at:%Y-%m-%d %H:%M:%S}  {event.task:24} "
                f"{state:10}  {event.reason}{_size_of(event)}"
            )
    if not waiting:
        typer.echo("No dead events wait.")
        return
    raise typer.Exit(1)


@app.command()
def show(service: Service, number: Number) -> None:
    """Show a dead event with its body; of a batch, which events are in it."""
    from deploy.companion.dead_letters import find_dead
    from deploy.companion.servers import Servers

    event = _run(find_dead(Servers.find(), _known(service), number))
    typer.echo(f"{event.task}, put aside at {event.stored_at:%Y-%m-%d %H:%M:%S %Z}")
    typer.echo(f"reason: {event.reason}{_size_of(event)}")
    lost = _lost_batch(event)
    if not lost:
        typer.echo(json.dumps(event.body, indent=2))
        return
    for envelope in lost:
        typer.echo("  ".join(_told(envelope, name) for name in ("id", "time", "producerseq")))


@app.command()
def replay(service: Service, number: Number) -> None:
    """Send a dead event to its service again; of a batch, each of its events by itself."""
    from deploy.companion.dead_letters import replay as send_again
    from deploy.companion.servers import Servers

    queues = _run(send_again(Servers.find(), _known(service), number))
    for queue, count in Counter(queues).items():
        typer.echo(f"Sent to {queue}." if len(queues) == 1 else f"Sent {count} to {queue}.")


@app.command()
def close(
    service: Service,
    number: Number,
    reason: Annotated[str, typer.Option(help="Why nothing is missing without it.")],
) -> None:
    """Wait no more for a dead event that can't be sent again, such as a batch that was changed on
    its way.

    Until then it rings, and keeps billing's month open.
    """
    from deploy.companion.dead_letters import close as wait_no_more
    from deploy.companion.errors import CompanionError
    from deploy.companion.servers import Servers
    from deploy.companion.who import at_the_console

    if not reason.strip():
        raise CompanionError("A reason is needed.")
    servers = Servers.find()
    by, why = at_the_console(), reason.strip()
    _run(wait_no_more(servers, _known(service), number, by=by, why=why))
    typer.echo(f"Nobody waits for dead event {number} of {service} any more.")


def _state_of(event: DeadEvent) -> str:
    if event.is_closed:
        return "closed"
    return "sent again" if event.replayed_at else "waits"


def _size_of(event: DeadEvent) -> str:
    lost = _lost_batch(event)
    if lost is None:
        return ""
    return f" ({_counted(lost)})" if lost else " (a batch that is not as it was sent)"


def _lost_batch(event: DeadEvent) -> Sequence[Any] | None:
    """The events of a batch that has ended its worker too often, none if they can't be trusted;
    None for anything else."""
    from deploy.companion.dead_letters import lost_batch
    from deploy.companion.errors import CompanionError

    try:
        return lost_batch(event)
    except CompanionError:
        return ()


def _counted(envelopes: Sequence[Any]) -> str:
    streams = Counter(f"{_told(one, 'type')}.{_told(one, 'tier')}" for one in envelopes)
    return ", ".join(f"{count} of {stream}" for stream, count in streams.items())


def _told(envelope: Any, name: str) -> str:
    value = envelope.get(name) if isinstance(envelope, dict) else None
    return "?" if value is None else str(value)


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
