"""`companion keyring`: the keys that everything in the vault is sealed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The vault's keyring: made once, never replaced.")


@app.callback()
def keyring() -> None:
    """The vault's keyring: made once, never replaced."""


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
