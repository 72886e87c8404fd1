"""`companion demo`: walk the tour against the running suite."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def demo(
    url: Annotated[str | None, typer.Option(help="The gateway; default: the running one.")] = None,
    openai_key: Annotated[
        str | None, typer.Option(envvar="OPENAI_API_KEY", help="For the real vendor.")
    ] = None,
) -> None:
    """Register, sign in, store a key, chat whole and live, and find the usage in the ledger."""
    import httpx

    from deploy.companion.errors import CompanionError
    from deploy.companion.installation import Installation
    from deploy.companion.running import Running
    from deploy.companion.tour import Tour

    gateway = url or Running.require(Installation.open()).url
    try:
        Tour(gateway, typer.echo, openai_key).walk()
    except httpx.HTTPError as error:
        raise CompanionError(
            f"The gateway at {gateway} does not answer ({type(error).__name__}).",
            "See `companion status`.",
        ) from error
    typer.echo("The tour is complete.")
