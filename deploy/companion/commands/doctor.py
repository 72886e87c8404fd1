"""`companion doctor`: what stands in the way of a start, and what to do about it."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command()
def doctor() -> None:
    """Check this machine and the data directory. Exit code 1: there is a problem."""
    from deploy.companion.checks import examine
    from deploy.companion.installation import Installation
    from deploy.companion.tables import findings_table

    findings = examine(Installation.open())
    typer.echo(findings_table(findings))
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)
