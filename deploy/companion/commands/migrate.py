"""`companion migrate`: databases, tables and queues, for deployments that run it as a step."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command()
def migrate() -> None:
    """Create what is missing at DATABASE_URL and BROKER_URL; without them, at the running suite."""
    from deploy.companion import prepare
    from deploy.companion.programs import SERVICES
    from deploy.companion.servers import Servers

    servers = Servers.find()
    prepare.migrate(servers.database_url, SERVICES)
    typer.echo(f"Migrated the databases of {', '.join(SERVICES)}.")
    prepare.declare_queues(servers.broker_url)
    typer.echo("Declared their queues.")
