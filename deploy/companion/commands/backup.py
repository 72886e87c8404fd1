"""`companion backup`: everything that can't be made anew, out of a running suite and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deploy.companion.backup.erasures import Replayed
    from deploy.companion.backup.restore import Restored

app = typer.Typer(no_args_is_help=True, help="Backups: create, verify, restore, drill.")

PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="What seals the secrets; or COMPANION_BACKUP_PASSPHRASE.", dir_okay=False),
]
Place = Annotated[Path, typer.Argument(help="A folder, or one file whose name ends in .tar.")]


@app.callback()
def backup() -> None:
    """Backups: create, verify, restore, drill."""


@app.command()
def create(
    target: Place,
    passphrase_file: PassphraseFile = None,
    without_secrets: Annotated[
        bool, typer.Option("--without-secrets", help="They are kept elsewhere.")
    ] = False,
    metrics_file: Annotated[
        Path | None, typer.Option(help="Where to tell Prometheus (a .prom file of its agent).")
    ] = None,
) -> None:
    """Back up the running suite, or the deployment whose secrets COMPANION_SECRETS names."""
    from deploy.companion.backup.create import create as take
    from deploy.companion.backup.create import passphrase_from
    from deploy.companion.backup.estate import Estate
    from deploy.companion.backup.marker import note_backup
    from deploy.companion.errors import CompanionError

    passphrase = None if without_secrets else passphrase_from(passphrase_file)
    if passphrase is None and not without_secrets:
        raise CompanionError(
            "There is no passphrase to seal the secrets with.",
            "Give --passphrase-file, or say --without-secrets.",
        )
    taken = take(Estate.find(), target.absolute(), passphrase)
    entries = taken.manifest.ledger["entries"]
    typer.echo(
        f"{taken.path}: {taken.bytes / 1e6:.1f} MB in {taken.seconds:.1f} s, as of "
        f"{taken.manifest.at}; {entries} entries of the ledger, "
        f"{'with' if passphrase else 'WITHOUT'} secrets."
    )
    note_backup(taken, metrics_file)


@app.command()
def verify(source: Place, passphrase_file: PassphraseFile = None) -> None:
    """Check a backup's files, that this release can restore it, and that its secrets open."""
    from deploy.companion.backup.create import passphrase_from
    from deploy.companion.backup.restore import verify as check

    passphrase = passphrase_from(passphrase_file)
    manifest = check(source.absolute(), passphrase)
    typer.echo(f"Whole: as of {manifest.at}, {len(manifest.files)} files.")
    if manifest.secrets_sha256 is None:
        typer.echo("It was made without secrets: restore these from where you keep them.")
    elif passphrase is None:
        typer.echo("Whether its secrets are there and open was not tried: give --passphrase-file.")


@app.command()
def restore(
    source: Place,
    passphrase_file: PassphraseFile = None,
    erasures: Annotated[
        Path | None, typer.Option(help="The list that `backup erasures` keeps.", dir_okay=False)
    ] = None,
) -> None:
    """Restore into a new data directory, or the empty databases of COMPANION_SECRETS.

    Nothing may run there yet. Accounts in the list of erasures are deleted again at once.
    """
    import os

    from deploy.companion.backup import erasures as deleted
    from deploy.companion.backup.create import passphrase_from
    from deploy.companion.backup.estate import SECRETS_VARIABLE, Estate
    from deploy.companion.backup.restore import restore_deployment, restore_embedded
    from deploy.companion.installation import Installation

    passphrase, folder = passphrase_from(passphrase_file), os.environ.get(SECRETS_VARIABLE)
    known = deleted.read(erasures) if erasures is not None else []
    installation = None if folder else Installation.open()

    def after(_: Estate) -> None:
        settings = (
            deleted.settings_of_deployment(Path(folder or ""))
            if installation is None
            else deleted.settings_of(installation)
        )
        _tell_replayed(deleted.replay(settings, known))

    if installation is None:
        done = restore_deployment(
            source.absolute(), Path(folder or ""), passphrase, tell=typer.echo, after=after
        )
    else:
        done = restore_embedded(
            source.absolute(), installation, passphrase, tell=typer.echo, after=after
        )
    _tell_restored(done, with_erasures=erasures is not None)


def _tell_restored(done: Restored, *, with_erasures: bool) -> None:
    typer.echo(
        f"Restored as of {done.manifest.at} in {done.seconds:.1f} s. {done.sent_again} events are "
        "sent once more when it starts; those that had arrived change nothing."
    )
    if not done.with_secrets:
        typer.echo("The secrets that were here stay as they are; none came out of the backup.")
    if not with_erasures:
        typer.echo(
            "Accounts that were deleted since are back: give --erasures next time, or run "
            "`companion backup forget FILE` before anybody signs in.",
            err=True,
        )


@app.command("erasures")
def erasures_(
    file: Annotated[Path, typer.Argument(help="Kept beside the backups; added to, never cut.")],
) -> None:
    """Keep the list of deleted accounts, to be run every few minutes: ids, and nobody's data."""
    from deploy.companion.backup import erasures as deleted
    from deploy.companion.backup.estate import Estate

    typer.echo(f"{deleted.keep(Estate.find(), file.absolute())} deleted accounts in {file}.")


@app.command()
def forget(
    file: Annotated[Path, typer.Argument(help="The list that `backup erasures` keeps.")],
) -> None:
    """Delete again whoever of the list came back with a restore. Safe to repeat."""
    from deploy.companion.backup import erasures as deleted
    from deploy.companion.staff import auth_settings

    replayed = deleted.replay(auth_settings(), deleted.read(file))
    _tell_replayed(replayed)
    if replayed.refused:
        raise typer.Exit(1)


@app.command()
def drill(
    keep: Annotated[
        Path | None, typer.Option(help="Keep the backup and the copy in this new folder.")
    ] = None,
) -> None:
    """Back the running sandbox up, restore it beside, start it, and prove that nothing is lost.

    Exit code 1 when something is not as promised.
    """
    from deploy.companion.backup.drill import drill as run
    from deploy.companion.installation import Installation

    report = run(Installation.open(), keep.absolute() if keep else None, typer.echo)
    typer.echo(report.table())
    if not report.all_hold:
        raise typer.Exit(1)


def _tell_replayed(replayed: Replayed) -> None:
    typer.echo(
        f"{len(replayed.again)} deleted accounts had come back and are deleted again; "
        f"{len(replayed.not_there)} had not."
    )
    for user_id, code in replayed.refused.items():
        typer.echo(f"NOT deleted: {user_id}: {code}. Decide, and run it again.", err=True)
