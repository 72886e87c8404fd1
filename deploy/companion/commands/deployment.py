"""`companion deployment`: the secrets of a deployment in containers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

CONTAINER_USER = 10001
"""Who runs the containers, unless `COMPANION_UID` says somebody else."""

app = typer.Typer(
    no_args_is_help=True, help="Secrets of a deployment in containers: create, users, check."
)

Folder = Annotated[Path, typer.Argument(help="The folder that COMPANION_SECRETS names.")]
Owner = Annotated[
    int,
    typer.Option("--uid", envvar="COMPANION_UID", help="Who runs the containers (as root only)."),
]


@app.callback()
def deployment() -> None:
    """Secrets of a deployment in containers: create, users, check."""


@app.command()
def create(
    folder: Folder,
    uid: Owner = CONTAINER_USER,
    postgres: Annotated[str, typer.Option(help="host:port")] = "postgres:5432",
    valkey: Annotated[str, typer.Option(help="host:port")] = "valkey:6379",
    rabbitmq: Annotated[str, typer.Option(help="host:port")] = "broker:5672",
) -> None:
    """Make all keys, passwords and users of a new deployment, and never another time."""
    from deploy.companion.deployment import Deployment, Hosts

    is_root = os.geteuid() == 0
    made = Deployment(folder.absolute())
    made.create(Hosts(postgres, valkey, rabbitmq), owner=uid if is_root else None)
    typer.echo(
        f"Made the secrets of a deployment in {made.root}. Keep a copy of keyvault/keyring.json"
    )
    typer.echo("in another place than the backups: without it the users' provider keys are lost.")
    if not is_root:
        typer.echo(
            f"They are yours: put COMPANION_UID={os.geteuid()} and COMPANION_GID={os.getegid()} "
            "into .env."
        )
    elif uid != CONTAINER_USER:
        typer.echo(f"Put COMPANION_UID={uid} and COMPANION_GID={uid} into .env.")


@app.command()
def users(folder: Folder) -> None:
    """Have the engines' files say which logins the services use, after one was exchanged."""
    from deploy.companion.deployment import Deployment

    made = Deployment(folder.absolute())
    made.tell_engines()
    typer.echo(f"What the engines read in {made.root} has the logins of the services' URLs alone.")


@app.command()
def check(folder: Folder, uid: Owner = CONTAINER_USER) -> None:
    """Say what is missing, or could not be read by the containers, or could be by others.

    Also which settings do nothing where they stand, or name a place that ends with its container:
    those of the folder that COMPANION_SETTINGS names, here or in `.env`, else of `settings`, and
    those of `.env`, both beside the secrets.
    """
    from deploy.companion.compose_settings import SettingsFiles
    from deploy.companion.deployment import Deployment
    from deploy.companion.errors import CompanionError

    owner = uid if os.geteuid() == 0 else os.geteuid()
    troubles = list(Deployment(folder.absolute()).troubles(owner=owner))
    for trouble in troubles:
        typer.echo(trouble)
    if troubles:
        raise CompanionError(
            f"{len(troubles)} secrets in {folder} are not as they should be.",
            "Restore from their backup what is missing or empty; none is made anew.",
        )
    typer.echo("Every secret is there, for its container alone.")
    files = SettingsFiles.beside(folder)
    idle = list(files.troubles())
    for trouble in idle:
        typer.echo(trouble)
    if idle:
        raise CompanionError(
            f"{len(idle)} settings do nothing where they stand, or keep nothing where they say.",
            "docs/compose.md (Settings) says what belongs where.",
        )
    for path in files.found():
        typer.echo(f"Every setting of ours in {path} is read.")
    for path in files.absent():
        typer.echo(f"Not looked at: {path}, which is not here.")
