"""Bringing a backup back: into a new data directory, or into a deployment's empty databases."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.companion.alone import engines_alone
from deploy.companion.archives import unpack
from deploy.companion.backup.create import without_password
from deploy.companion.backup.estate import Estate, archive_of, program
from deploy.companion.backup.manifest import (
    SECRETS,
    Manifest,
    check_files,
    read_manifest,
    said_plainly,
    sha256_of,
    sync_file,
)
from deploy.companion.backup.sealing import unseal
from deploy.companion.data_dir import DataDir, write_private
from deploy.companion.databases import connect, database_name, database_url, ensure_databases
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.previous_run import sole_run
from shared.values import dataclass

_AT_ONCE = 2

# What was sent shortly before may have been lost with the broker. Listeners know what they have
# had by its id, for 35 days, so all of it is sent once more: of a week, since a listener may have
# been away for a long weekend. Of usage billing asks for what it
# lacks by its numbers, however old: a few minutes save it the asking.
_SEND_AGAIN = """
with again as (
    delete from outbox_sent
    where sent_at >= %(moment)s::timestamptz - case when starts_with(stream, 'usage.recorded.')
        then interval '10 minutes' else interval '7 days' end
    and not starts_with(stream, 'usage.manifest')
    returning stream, sequence, event_id, envelope, created_at
)
insert into outbox (stream, sequence, event_id, envelope, created_at)
select stream, sequence, event_id, envelope, created_at from again on conflict do nothing
"""
# The relay that held a lease is not of this life.
_FORGET_LEASES = "update outbox set leased_until = null where leased_until is not null"

Tell = Callable[[str], None]
AfterRestore = Callable[[Estate], None]


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back."""

    manifest: Manifest
    sent_again: int
    seconds: float
    with_secrets: bool


@said_plainly()
def restore_embedded(
    source: Path,
    installation: Installation,
    passphrase: str | None,
    *,
    tell: Tell,
    after: AfterRestore | None = None,
) -> Restored:
    """Into the data directory, which must be new. `after` meets the restored databases before any
    service does. Raises CompanionError; then nothing is left of it."""
    began = time.monotonic()
    data = installation.data
    _require_new(data)
    with _opened(source) as folder:
        manifest = _checked(folder)
        tar = _embedded_secrets(folder, manifest, passphrase)
        data.create()
        with sole_run(data):
            # Once more: checking a large backup takes time, in which somebody may have begun here.
            _require_new(data)
            _restore_archive(folder, manifest, archive_of(installation.settings), tell)
            write_private(data.unfinished_restore, f"{source}\n")
            try:
                _unpack_secrets(tar, data.secrets)
                with engines_alone(installation):
                    estate = Estate.embedded(installation)
                    for service, url in estate.databases.items():
                        ensure_databases(database_url(url, ""), [database_name(service)])
                    sent_again = _fill(folder, manifest, estate, tell)
                    if after is not None:
                        after(estate)
                # The archive, the engines' files and the secrets are on the disk by now.
                data.unfinished_restore.unlink()
            except BaseException:
                _take_back(data)
                raise
    return Restored(manifest, sent_again, time.monotonic() - began, with_secrets=True)


@said_plainly()
def restore_deployment(
    source: Path,
    secrets: Path,
    passphrase: str | None,
    *,
    tell: Tell,
    after: AfterRestore | None = None,
    estate_of: Callable[[Path], Estate] = Estate.of_deployment,
) -> Restored:
    """Into the databases that a deployment's secrets name, which must be empty.

    The secrets come from the backup when their folder is empty, and stay as they are otherwise.
    Raises CompanionError.
    """
    began = time.monotonic()
    with _opened(source) as folder:
        manifest = _checked(folder)
        tar = None
        if _is_to_be_filled(secrets):
            tar = _unsealed(folder, manifest, passphrase)
            if tar is None:
                raise CompanionError(
                    f"{secrets} is empty, and the backup has no secrets.",
                    "Restore the secrets from where you keep them first.",
                )
            if _is_embedded(tar):
                raise CompanionError(
                    "This is a backup of the embedded default.",
                    "Restore it without COMPANION_SECRETS, into a new data directory.",
                )
            _unpack_secrets(tar, secrets, keep_owners=True)
            tell("  The secrets are back. If no engine runs with them yet, start the engines now")
            tell("  and run this again.")
        estate = estate_of(secrets)
        _restore_archive(folder, manifest, estate.archive, tell)
        sent_again = _fill(folder, manifest, estate, tell)
        if after is not None:
            _with_databases_filled(after, estate)
    return Restored(manifest, sent_again, time.monotonic() - began, with_secrets=tar is not None)


@said_plainly()
def verify(source: Path, passphrase: str | None) -> Manifest:
    """That a backup is whole and can be restored. Raises CompanionError."""
    with _opened(source) as folder:
        manifest = _checked(folder)
        if passphrase is not None:
            _unsealed(folder, manifest, passphrase)
        return manifest


def _require_new(data: DataDir) -> None:
    if data.unfinished_restore.exists() and not data.is_new:
        raise CompanionError(
            f"A restore into {data.root} did not come to its end, so something is missing there.",
            "Delete this data directory, and restore again.",
        )
    used = [path for path in (data.postgres, data.valkey) if path.is_dir() and any(path.iterdir())]
    if used or not data.is_new:
        raise CompanionError(
            f"{data.root} is in use; a backup is never restored over something.",
            "Set COMPANION_DATA_DIR to a new place, or move this one away.",
        )
    data.unfinished_restore.unlink(missing_ok=True)


def _take_back(data: DataDir) -> None:
    for made in (data.secrets, data.postgres, data.valkey):
        shutil.rmtree(made, ignore_errors=True)
    data.unfinished_restore.unlink(missing_ok=True)


def _embedded_secrets(folder: Path, manifest: Manifest, passphrase: str | None) -> bytes:
    """The archive of a data directory's secrets. Raises CompanionError where there is none."""
    tar = _unsealed(folder, manifest, passphrase)
    if tar is None:
        raise CompanionError(
            "This backup has no secrets: without its keyring the databases are of no use.",
            "Put the folder of secrets back yourself and restore as a deployment does.",
        )
    if not _is_embedded(tar):
        raise CompanionError(
            "This is a backup of a deployment in containers.",
            "Restore it with COMPANION_SECRETS, which names the folder of its secrets.",
        )
    return tar


def _is_embedded(tar: bytes) -> bool:
    """Whether secrets lie as in a data directory, where one file has the engines' passwords."""
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
            return "passwords.json" in archive.getnames()
    except tarfile.TarError as error:
        raise CompanionError("The sealed secrets are no archive of ours.") from error


def _with_databases_filled(after: AfterRestore, estate: Estate) -> None:
    try:
        after(estate)
    except CompanionError as error:
        raise CompanionError(
            f"The databases are back, but deleted accounts are not deleted again: {error.message}",
            "Run `companion backup forget FILE` before anybody signs in.",
        ) from error


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[Path]:
    """The folder of a backup, unpacked for as long as it is needed when it is one file."""
    if source.is_dir():
        yield source
        return
    if not source.exists():
        raise CompanionError(f"There is no backup at {source}.")
    with tempfile.TemporaryDirectory(prefix="companion-backup-") as folder:
        try:
            with tarfile.open(source, "r:") as archive:
                unpack(archive, folder)
        except OSError as error:
            raise CompanionError(
                f"{source} can't be unpacked below {folder}: {error.strerror or error}.",
                "Where there is too little room, set TMPDIR to another place.",
            ) from error
        except tarfile.TarError as error:
            raise CompanionError(f"{source} is no backup that can be read.") from error
        yield Path(folder)


def _checked(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    for service, database in manifest.databases.items():
        if database.revision not in known_revisions(service):
            raise CompanionError(
                f"The backup's database of {service} is at revision {database.revision}, which "
                "this release does not know.",
                "Restore it with the release that migrated it, or a later one.",
            )
    return manifest


def known_revisions(service: str) -> Sequence[str]:
    """All revisions of a service's migrations, the newest first."""
    from alembic.script import ScriptDirectory

    from shared.db.migrations import alembic_config

    directory = ScriptDirectory.from_config(alembic_config(service, ""))
    return [script.revision for script in directory.walk_revisions()]


def _unsealed(folder: Path, manifest: Manifest, passphrase: str | None) -> bytes | None:
    sealed = folder / SECRETS
    if manifest.secrets_sha256 is None:
        return None
    if not sealed.exists():
        raise CompanionError(
            f"{SECRETS} is not beside the dumps.", "Put the file there that was taken with them."
        )
    if passphrase is None:
        raise CompanionError(
            "The backup's secrets are sealed.",
            "Give --passphrase-file, or set COMPANION_BACKUP_PASSPHRASE.",
        )
    return unseal(sealed.read_bytes(), passphrase, manifest.binding)


def _is_to_be_filled(secrets: Path) -> bool:
    """Whether no secrets are there, or only some, because a restore was broken off."""
    if not secrets.exists() or _draft_in(secrets).exists():
        return True
    return not any(secrets.iterdir())


def _draft_in(folder: Path) -> Path:
    return folder / ".restored"


def _unpack_secrets(tar: bytes, target: Path, *, keep_owners: bool = False) -> None:
    """A folder that is there already may be a container's, which can't be exchanged: it is filled,
    and its draft is in it until all is in place."""
    draft = _draft_in(target) if target.exists() else target.with_name(f".{target.name}.restored")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
            unpack(archive, draft)
            owners = {member.name: (member.uid, member.gid) for member in archive}
    except tarfile.TarError as error:
        raise CompanionError("The sealed secrets are no archive of ours.") from error
    for path in draft.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    if keep_owners and os.geteuid() == 0:
        # Containers run as somebody else, who must be able to read them.
        for name, owner in owners.items():
            for path in (draft / name, *(draft / parent for parent in Path(name).parents)):
                os.chown(path, *owner)
    for path in (*draft.rglob("*"), draft):
        sync_file(path)
    if target.exists():
        _fill_in_place(draft, target)
    else:
        draft.rename(target)
    sync_file(target.parent)


def _fill_in_place(draft: Path, target: Path) -> None:
    sync_file(target)
    for path in list(draft.iterdir()):
        place = target / path.name
        # Of a restore that was broken off.
        shutil.rmtree(place, ignore_errors=True)
        path.rename(place)
    state = draft.stat()
    if os.geteuid() == 0:
        os.chown(target, state.st_uid, state.st_gid)
    with contextlib.suppress(PermissionError):  # somebody else's, who lets us write
        target.chmod(0o700)
    draft.rmdir()
    sync_file(target)


def _fill(folder: Path, manifest: Manifest, estate: Estate, tell: Tell) -> int:
    for service, url in estate.databases.items():
        if _has_tables(url):
            raise CompanionError(
                f"The database of {service} is not empty; a backup is never restored over it.",
                "Drop it first, or restore to another server.",
            )
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        done = {
            service: pool.submit(_load, url, folder / f"{service}.dump")
            for service, url in estate.databases.items()
        }
    filled = [service for service, loading in done.items() if loading.exception() is None]
    for service, loading in done.items():
        failure = loading.exception()
        if isinstance(failure, CompanionError) and filled:
            others = ", ".join(filled)
            raise CompanionError(
                failure.message,
                f"It is empty still; make the databases of {others} anew before you try again.",
            ) from failure
        loading.result()
        tell(f"  {service}: revision {manifest.databases[service].revision}")
    return sum(_prepare_events(url, manifest) for url in estate.databases.values())


def _has_tables(url: str) -> bool:
    with contextlib.closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("select exists (select from pg_tables where schemaname = 'public')")
        ((found,),) = cursor.fetchall()
        return bool(found)


def _load(url: str, dump: Path) -> None:
    address, environment = without_password(url)
    command = [
        program("pg_restore"),
        f"--dbname={address}",
        "--no-owner",
        "--exit-on-error",
        "--single-transaction",
        str(dump),
    ]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        raise CompanionError(
            f"pg_restore failed for {dump.stem}: {said[0] if said else 'it gave no reason'}",
            "Nothing of it was kept; the database is still empty.",
        )


def _prepare_events(url: str, manifest: Manifest) -> int:
    with contextlib.closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(_FORGET_LEASES)
        cursor.execute(_SEND_AGAIN, {"moment": manifest.at})
        return int(cursor.rowcount)


def _restore_archive(folder: Path, manifest: Manifest, target: Path | None, tell: Tell) -> None:
    """What the manifest names, each file whole or not at all; what is there already stays."""
    names = [name for name in manifest.files if name.startswith("archive/")]
    if not names:
        return
    if target is None:
        tell("  The ledger's archive stays in the backup: BILLING_LEDGER_ARCHIVE_DIR is not set.")
        return
    for name in sorted(names):
        place = target / Path(name).relative_to("archive")
        if place.exists():
            if sha256_of(place) != manifest.files[name]:
                tell(f"  {place} is another file than the backup's, and stays as it is.")
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.restored")
        shutil.copyfile(folder / name, draft)
        sync_file(draft)
        draft.rename(place)
        sync_file(place.parent)
