"""`companion auth audit`: what happened in auth, and whether the record of it is whole."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

app = typer.Typer(no_args_is_help=True, help="The audit trail: verify, list.")


@app.callback()
def audit() -> None:
    """The audit trail: verify, list."""


@app.command("verify")
def verify(
    head: Annotated[
        str | None,
        typer.Option(help="An earlier head, SEQUENCE:MAC, from the log or from where you keep it."),
    ] = None,
) -> None:
    """Walk the whole chain of the audit trail. Exit code 1 when something was changed.

    Without --head it can't be seen whether the end was cut off: keep the head that it prints.
    """
    from deploy.companion.audit import verify as walk

    verdict = asyncio.run(walk(head))
    typer.echo(
        f"{verdict.head.sequence} links fit; {verdict.events} events, "
        f"of which {verdict.waiting} wait for their link."
    )
    if verdict.broken is not None:
        typer.echo(f"BROKEN: {verdict.broken}", err=True)
        raise typer.Exit(1)
    typer.echo(f"head {verdict.head}")


@app.command("list")
def list_(
    user: Annotated[UUID | None, typer.Option(help="Only what concerns this user's id.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only what came later, in UTC."
        ),
    ] = None,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 100,
) -> None:
    """List what happened, the newest first, as JSON lines."""
    from deploy.companion.audit import entries
    from shared.lenient_json import to_json

    after = since.replace(tzinfo=UTC) if since else None
    for entry in asyncio.run(entries(user, after, most)):
        line = {
            "at": entry.at,
            "action": entry.action,
            "user": entry.user_id,
            "actor": entry.actor_id,
            "organisation": entry.organisation_id,
            "facts": dict(entry.facts),
            "device": entry.origin.device,
            "address": entry.origin.address,
        }
        typer.echo(to_json({name: value for name, value in line.items() if value is not None}))
