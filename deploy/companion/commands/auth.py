"""`companion auth`: what only those who run the installation may do with auth."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from deploy.companion.commands.auth_audit import app as audit
from deploy.companion.commands.auth_clients import app as clients
from deploy.companion.commands.auth_erasures import erasures

app = typer.Typer(no_args_is_help=True, help="Signing keys, and what else auth's operators do.")
app.add_typer(audit, name="audit")
app.add_typer(clients, name="clients")
app.command("erasures")(erasures)


@app.callback()
def auth() -> None:
    """Signing keys, and what else auth's operators do."""


@app.command("signing-keys")
def signing_keys() -> None:
    """List the keys that sign access tokens: id, state, since when, what happens next."""
    from deploy.companion.signing_keys import SigningKeyDesk, shown

    for key, what_next in SigningKeyDesk.open().list():
        typer.echo(f"{key.kid}  {key.state:8}  since {shown(key.since)}  {what_next}")


@app.command("rotate-signing-key")
def rotate_signing_key(
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the next key has been shown long enough.")
    ] = False,
) -> None:
    """Let the next key sign. Running services take it within a second; nobody is signed out."""
    from deploy.companion.errors import CompanionError
    from deploy.companion.signing_keys import SigningKeyDesk, StandbyTooYoung, shown, told

    desk = SigningKeyDesk.open()
    while True:
        try:
            line = desk.rotate()
            typer.echo(told(line, desk.pace))
            _note("signing_key.rotated", kid=line.active.kid)
        except StandbyTooYoung as young:
            if not wait:
                raise CompanionError(
                    f"The next signing key {young.kid} may sign from {shown(young.ready_at)} on: "
                    "until then some would not know it yet and refuse its tokens.",
                    "Come back then, or use --wait. If a key was stolen: remove-signing-key.",
                ) from young
            seconds = max((young.ready_at - desk.clock.now()).total_seconds(), 0) + 0.05
            typer.echo(f"Waiting {seconds:.0f} s until {young.kid} may sign …")
            time.sleep(seconds)
        else:
            return


@app.command("remove-signing-key")
def remove_signing_key(
    kid: Annotated[str, typer.Argument(help="The id that `signing-keys` shows.")],
) -> None:
    """In an emergency: make every token void that a stolen key has signed, or will."""
    from deploy.companion.signing_keys import SigningKeyDesk, told

    desk = SigningKeyDesk.open()
    line = desk.remove(kid)
    typer.echo(
        f"{kid} is no longer published. Services and gateway keep public keys for 60 s: within "
        "that time and one fetch they refuse its tokens. Clients go on with their refresh tokens."
    )
    typer.echo(told(line, desk.pace))
    _note("signing_key.removed", kid=kid)


def _note(action: str, **facts: str) -> None:
    """What has been done stands; that nobody can read of it later is said at least here."""
    import asyncio

    from deploy.companion.audit import note

    if not asyncio.run(note(action, **facts)):
        typer.echo(f"Not in the audit trail, since auth's database is away: {action}.", err=True)
