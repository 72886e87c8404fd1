"""`companion auth erasures`: deleted accounts, and which services have forgotten their users."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer


def erasures(
    receipt: Annotated[
        str | None, typer.Option(help="Only the one with this receipt.", show_default=False)
    ] = None,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
) -> None:
    """List deleted accounts, the newest first. Exit code 1 when a service has yet to forget one."""
    from deploy.companion.erasures import of_receipt, recent

    found = [asyncio.run(of_receipt(receipt))] if receipt else asyncio.run(recent(most))
    for one in found:
        state = (
            f"complete {one.completed_at:%Y-%m-%d %H:%M:%S}"
            if one.completed_at
            else f"waits for {', '.join(one.missing)}"
        )
        typer.echo(f"{one.id}  user {one.user_id}  {one.requested_at:%Y-%m-%d %H:%M:%S}  {state}")
    if any(one.missing for one in found):
        raise typer.Exit(1)
