"""`companion env NAME`: the environment of one process, to run it by hand under a debugger."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def env(
    name: Annotated[str, typer.Argument(help="A process of the Procfile, such as chat.")],
) -> None:
    """Print the variables and the command of one process. The output contains passwords."""
    from deploy.companion.installation import Installation

    installation = Installation.open()
    program = installation.program(installation.role(name))
    for variable, value in program.environment.items():
        typer.echo(f"export {variable}={shlex.quote(value)}")
    typer.echo(f"# {shlex.join(program.command)}")
