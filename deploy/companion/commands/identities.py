"""`companion identities`: the keys by which services know each other."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deploy.companion.identities import Identities

app = typer.Typer(no_args_is_help=True, help="The keys by which services know each other.")

Folder = Annotated[
    Path | None,
    typer.Option(
        help="A deployment's folder, or one with trusted.json; default: what COMPANION_SECRETS "
        "names, else the data's own."
    ),
]


@app.callback()
def identities() -> None:
    """The keys by which services know each other."""


@app.command("list")
def list_(folder: Folder = None) -> None:
    """List the public keys: service, id, and whether it is in use."""
    from shared.identity import RETIRED_SECONDS

    for known in _of(folder).known():
        until = ""
        if known.retired_at is not None:
            end = time.gmtime(known.retired_at + RETIRED_SECONDS)
            until = f"  trusted until {time.strftime('%Y-%m-%d %H:%M:%S', end)} UTC"
        typer.echo(f"{known.service:9} {known.kid:32} {known.state}{until}")


@app.command()
def rotate(
    service: Annotated[str | None, typer.Argument(help="One service; default: all.")] = None,
    folder: Folder = None,
    pause_seconds: Annotated[
        float, typer.Option(min=0, help="Between showing the new key and using it.")
    ] = 3.0,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until the old keys are no longer trusted.")
    ] = False,
) -> None:
    """Exchange keys while the services run; no call between them is refused."""
    from deploy.companion.errors import CompanionError
    from shared.identity import RETIRED_SECONDS

    identities_ = _of(folder)
    services = identities_.services()
    if service is not None and service not in services:
        raise CompanionError(
            f"There is no service {service}.", f"There are: {', '.join(services)}."
        )
    chosen = services if service is None else [service]
    for name, kid in identities_.rotate(chosen, pause_seconds=pause_seconds).items():
        typer.echo(f"{name} signs with {kid} from now on.")
    if wait:
        time.sleep(RETIRED_SECONDS + 1)
        identities_.tidy()
        typer.echo("The old keys are gone.")
    else:
        typer.echo(
            f"The old keys are trusted for {RETIRED_SECONDS} s more; the next rotation takes them "
            "out of the file."
        )


def _of(folder: Path | None) -> Identities:
    from deploy.companion.console_settings import deployment_folder
    from deploy.companion.data_dir import DataDir
    from deploy.companion.deployment import DeployedIdentities
    from deploy.companion.identities import Identities
    from deploy.companion.settings import Settings

    folder = folder or deployment_folder()
    if folder is not None and DeployedIdentities.is_at(folder):
        return DeployedIdentities(folder)
    return Identities(folder or DataDir(Settings.from_environment().data_dir).identities)
