"""`companion secrets`: peppers and sealing keys, rotated while everything runs."""

from __future__ import annotations

import time
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Sealing keys and peppers: list, rotate, retire. docs/rotation.md has every other secret.",
)

Name = Annotated[str, typer.Argument(help="As `list` shows it.")]


@app.callback()
def secrets() -> None:
    """Sealing keys and peppers: list, rotate, retire."""


@app.command("list")
def list_() -> None:
    """List the versions of each, the newest first, and what still needs an older one."""
    from deploy.companion.backup.estate import Estate
    from deploy.companion.sealing_keys import KINDS, file_of, still_needed, versions

    databases = Estate.find().databases
    for name, kind in KINDS.items():
        for entry in versions(file_of(kind), kind):
            version = int(entry["version"])
            since = f"used since {_told(entry['from'])}" if "from" in entry else "from the start"
            needed = still_needed(databases, kind, version)
            typer.echo(f"{name:16} {version:4}  {since:36} {needed} rows need it")


@app.command()
def rotate(
    name: Name,
    shown_seconds: Annotated[
        float,
        typer.Option(min=0, help="How long it is shown before it is used: until all have it."),
    ] = 5.0,
) -> None:
    """Add a version, wait until all know it, and seal with it what an older one has sealed.

    Where secrets are distributed (Kubernetes takes a minute), give --shown-seconds accordingly.
    """
    from deploy.companion.backup.estate import Estate
    from deploy.companion.sealing_keys import add, file_of, kind, reseal

    chosen = kind(name)
    path = file_of(chosen)
    databases = Estate.find().databases
    version = add(path, chosen, shown_seconds=shown_seconds)
    typer.echo(f"{name}: version {version} is used in {shown_seconds:.0f} s. Back the file up now.")
    # A second more than anybody's look at the file.
    time.sleep(shown_seconds + 1)
    if chosen.sealed:
        done = reseal(databases, path, chosen)
        typer.echo(f"{done.anew} rows are sealed anew.")
        if done.broken:
            typer.echo(f"{done.broken} rows do not open with any version.", err=True)
            raise typer.Exit(1)


@app.command()
def retire(
    name: Name,
    version: Annotated[int, typer.Argument(help="The version to take out of the file.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also when something needs it; that is lost then.")
    ] = False,
) -> None:
    """Take an old version out of the file, once nothing needs it.

    A backup from before the rotation needs the file of its own day, which is in it.
    """
    from deploy.companion.backup.estate import Estate
    from deploy.companion.errors import CompanionError
    from deploy.companion.sealing_keys import drop, file_of, kind, still_needed

    chosen = kind(name)
    needed = still_needed(Estate.find().databases, chosen, version)
    if needed and not force:
        raise CompanionError(
            f"{needed} rows need version {version}.",
            f"They are {chosen.needed_for}." if chosen.needed_for else "Run `rotate` again.",
        )
    drop(file_of(chosen), chosen, version)
    typer.echo(f"{name}: version {version} is gone.")


def _told(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))
