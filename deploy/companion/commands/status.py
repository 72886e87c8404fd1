"""`companion status`: what runs, since when, and whether it works."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show each process: state, pid, port, uptime, readiness. Exit code 3: not running."""
    from deploy.companion.installation import Installation
    from deploy.companion.running import Running

    running = Running.find(Installation.open())
    if running is None:
        typer.echo("null" if as_json else "Companion is not running; start it with `make run`.")
        raise typer.Exit(3)
    rows = running.processes()
    if as_json:
        described = {"url": running.url, "pid": running.pid, "processes": [asdict(r) for r in rows]}
        typer.echo(json.dumps(described))
    else:
        from deploy.companion.tables import status_table

        typer.echo(status_table(running, rows))
    if not all(row.ready for row in rows):
        raise typer.Exit(1)
