"""`companion keyring`: the keys that everything in the vault is sealed with."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from services.keyvault.domain.rotation import Progress

_HELP = "The vault's keyring: made once; its versions follow each other while everything runs."

app = typer.Typer(no_args_is_help=True, help=_HELP)

WaitSeconds = Annotated[
    float, typer.Option(min=0, help="How long to wait for processes with the keyring as it was.")
]


@app.callback()
def keyring(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Option(help="The keyring, where it is not at its place: a copy that goes back."),
    ] = None,
) -> None:
    """The vault's keyring: made once; its versions follow each other while everything runs."""
    context.obj = file


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to; the folder must be there.")],
) -> None:
    """Make a keyring for a new vault. `make run` does this by itself for a new data directory.

    Keep it apart from the database's backups: whoever has both can read every key, and whoever has
    lost it can read none.
    """
    from deploy.companion.errors import CompanionError
    from deploy.companion.keyring import create_keyring_file

    if not path.parent.is_dir():
        raise CompanionError(f"There is no folder {path.parent}.", "Make it first, mode 0700.")
    create_keyring_file(path)
    typer.echo(f"Made {path}, readable by you alone. Keep a copy in a safe place.")


@app.command()
def status(context: typer.Context) -> None:
    """List the versions, how many data keys each wraps, and which processes know which.

    Ends with 1 where these keys don't open the vault, and says why.
    """
    from deploy.companion.errors import CompanionError
    from deploy.companion.key_rotation import status as look

    found = asyncio.run(look(context.obj))
    versions = found.keys.versions if found.keys else {}
    rotation = found.rotation
    for version in sorted({*versions, *rotation.data_keys, *found.missing}):
        state = versions[version].value if version in versions else "missing"
        line = f"version {version}  {state:8}  {rotation.data_keys.get(version, 0)} data keys"
        moved = rotation.rewrapped.get(version, 0)
        typer.echo(line + (f", {moved} rewrapped to it so far" if moved else ""))
    for replica in rotation.replicas:
        known = ", ".join(map(str, sorted(replica.versions)))
        typer.echo(f"{replica.name}: wraps with {replica.active}, knows {known}")
    if found.trouble:
        raise CompanionError(found.trouble, "docs/runbooks/VaultSealed.md says what to do.")


@app.command()
def add(context: typer.Context) -> None:
    """Put a new version on standby. First step of a rotation; nothing uses it yet.

    Back the keyring up now: from `activate` on, this version is needed.
    """
    from deploy.companion.key_rotation import add as put

    version = asyncio.run(put(context.obj))
    typer.echo(
        f"Version {version} is on standby. Back the keyring up, bring it to every machine that "
        "runs a keyvault, then: companion keyring activate."
    )


@app.command()
def activate(
    context: typer.Context,
    version: Annotated[
        int | None, typer.Argument(help="Which one; the one on standby if not said.")
    ] = None,
    wait_seconds: WaitSeconds = 60,
) -> None:
    """Let the version on standby wrap what is new, once every running keyvault knows it."""
    from deploy.companion.key_rotation import activate as use

    active = asyncio.run(use(version, wait_seconds=wait_seconds, tell=typer.echo, file=context.obj))
    typer.echo(f"Version {active} wraps what is new. Next: companion keyring rewrap.")


@app.command()
def rewrap(context: typer.Context) -> None:
    """Bring all data keys under the active version. May be stopped, run again, and run twice."""
    from deploy.companion.key_rotation import rewrap as move

    progress = asyncio.run(move(_ProgressLine(), context.obj))
    if sys.stderr.isatty():
        typer.echo(err=True)
    typer.echo(
        f"{progress.rewrapped} data keys rewrapped to version {progress.target}, "
        f"{progress.left} left."
    )
    if progress.broken:
        typer.echo(
            f"{progress.broken} of these do not open; the log lines data_key_not_opened name them.",
            err=True,
        )
    if not progress.is_complete:
        raise typer.Exit(1)


@app.command()
def retire(
    context: typer.Context,
    version: Annotated[int, typer.Argument(help="The version that nothing is wrapped with.")],
    wait_seconds: WaitSeconds = 60,
) -> None:
    """Close a version: it opens nothing more. Refused while any data key is wrapped under it.

    It stays in the file, closed, for the day on which a backup of the database is restored that
    still needs it. When there is none any more, take its entry out of the file.
    """
    from deploy.companion.key_rotation import retire as close

    asyncio.run(close(version, wait_seconds=wait_seconds, tell=typer.echo, file=context.obj))
    typer.echo(
        f"Version {version} opens nothing more. Destroy it once no backup of the database is kept "
        "that needs it: only then are deleted keys gone from the backups, too."
    )


class _ProgressLine:
    """One line that is written over on a terminal, and a new one every few seconds elsewhere."""

    _EVERY_SECONDS = 2.0

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        is_terminal = sys.stderr.isatty()
        if not is_terminal and now - self._last < self._EVERY_SECONDS:
            return
        self._last = now
        rate = progress.rewrapped / max(now - self._began, 0.001)
        line = (
            f"to version {progress.target}: {progress.rewrapped} done, {progress.left} left, "
            f"{rate:.0f}/s"
        )
        typer.echo(f"\r{line:78}" if is_terminal else line, err=True, nl=not is_terminal)
