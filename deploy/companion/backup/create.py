"""Taking a backup: dumps of one moment, archived partitions, and the secrets sealed."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from deploy.companion.backup.cut import Snapshot, consistent_cut
from deploy.companion.backup.estate import Estate, program
from deploy.companion.backup.manifest import (
    NAME,
    SECRETS,
    Database,
    Manifest,
    check_files,
    files_of,
    read_manifest,
    said_plainly,
    sha256_of,
    sync_file,
)
from deploy.companion.backup.sealing import check_passphrase, seal
from deploy.companion.errors import CompanionError
from services.billing.domain.ledger_chain import chain_name
from shared.values import dataclass

_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that is complete."""

    path: Path
    manifest: Manifest
    bytes: int
    seconds: float


@said_plainly()
def create(estate: Estate, target: Path, passphrase: str | None) -> Taken:
    """Write a backup to a folder, or to one file when its name ends in `.tar`.

    There is the whole backup in the end, or nothing. Without a passphrase it has no secrets.
    Raises CompanionError.
    """
    began = time.monotonic()
    if passphrase is not None:
        check_passphrase(passphrase)
    if target.exists():
        raise CompanionError(f"{target} is there already; a backup never replaces another one.")
    with _draft(target) as draft:
        manifest = _fill(draft, estate, passphrase)
        check_files(draft, read_manifest(draft))
        if target.suffix == ".tar":
            _pack(draft, target)
        else:
            for path in (*draft.rglob("*"), draft):
                sync_file(path)
            draft.rename(target)
        sync_file(target.parent)
    size = sum(path.stat().st_size for path in ([target] if target.is_file() else files_of(target)))
    return Taken(target, manifest, size, time.monotonic() - began)


def passphrase_from(file: Path | None) -> str | None:
    """What a file says, or `COMPANION_BACKUP_PASSPHRASE`. Raises CompanionError."""
    if file is None:
        # Without the end of its line, as that of a file: one opens what the other has sealed.
        return os.environ.get("COMPANION_BACKUP_PASSPHRASE", "").strip() or None
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CompanionError(f"The passphrase can't be read from {file}.") from error


def without_password(url: str) -> tuple[str, dict[str, str]]:
    """A URL as others may see it in the list of processes, and the environment with the rest."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    password = {"PGPASSWORD": unquote(parts.password)} if parts.password else {}
    query = []
    for part in filter(None, parts.query.split("&")):
        # libpq takes these from a URL's parameters, too.
        name, _, value = part.partition("=")
        if name == "password":
            password["PGPASSWORD"] = unquote(value)
        else:
            query.append(part)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "LD_LIBRARY_PATH", "TMPDIR"} or name.startswith("PGSSL")
    }
    address = urlunsplit(parts._replace(netloc=user + host, query="&".join(query)))
    return address, {**kept, **password}


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    # Two at once must not empty each other's.
    draft = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise CompanionError(f"{target.parent} can't be written: {error.strerror}.") from error
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fill(draft: Path, estate: Estate, passphrase: str | None) -> Manifest:
    packed = None if passphrase is None else _packed(estate.secrets)
    with consistent_cut(estate.databases) as snapshots:
        moments = [snapshot.at for snapshot in snapshots.values()]
        _require_archive(snapshots["billing"], estate.archive)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            dumps = {
                name: pool.submit(_dump, estate.databases[name], snapshot, draft / f"{name}.dump")
                for name, snapshot in snapshots.items()
            }
            for dump in dumps.values():
                dump.result()
        # After the dump: a partition that is dropped meanwhile has its file already.
        _copy_archive(estate.archive, draft / "archive")
        manifest = Manifest(
            at=min(moments).isoformat(),
            until=max(moments).isoformat(),
            server_version=_one(snapshots["auth"], "show server_version"),
            databases={
                name: _described(snapshot, draft / f"{name}.dump")
                for name, snapshot in snapshots.items()
            },
            ledger=_ledger(snapshots["billing"]),
            ledger_heads=_heads(snapshots["billing"]),
        )
    digests = {str(path.relative_to(draft)): sha256_of(path) for path in files_of(draft)}
    manifest = replace(manifest, files=digests)
    if packed is not None and passphrase is not None:
        if _packed(estate.secrets) != packed:
            # A version that left meanwhile may be the one that something in the dumps needs.
            raise CompanionError(
                "The secrets were changed while the backup was taken.", "Take it once more."
            )
        secrets = draft / SECRETS
        secrets.write_bytes(seal(packed, passphrase, manifest.binding))
        manifest = replace(manifest, secrets_sha256=sha256_of(secrets))
    (draft / NAME).write_text(manifest.to_json(), "utf-8")
    for path in files_of(draft):
        path.chmod(0o600)
    return manifest


def _dump(url: str, snapshot: Snapshot, target: Path) -> None:
    address, environment = without_password(url)
    command = [
        program("pg_dump"),
        f"--dbname={address}",
        f"--snapshot={snapshot.name}",
        "--format=custom",
        "--no-owner",
        f"--file={target}",
    ]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise CompanionError(
            f"pg_dump failed for {target.stem}: {said[-1] if said else 'it gave no reason'}"
        )


def _described(snapshot: Snapshot, dump: Path) -> Database:
    return Database(
        revision=_one(snapshot, "select version_num from alembic_version"),
        events_sent=int(
            _one(snapshot, "select coalesce(sum(last_sequence), 0) from outbox_stream")
        ),
        bytes=dump.stat().st_size,
    )


def _ledger(snapshot: Snapshot) -> Mapping[str, int]:
    sums = "select count(*), coalesce(sum(cost_microusd), 0) from ledger_entry"
    ((entries, cost),) = _rows(snapshot, sums)
    return {"entries": int(str(entries)), "cost_microusd": int(str(cost))}


def _heads(snapshot: Snapshot) -> Mapping[str, str]:
    rows = _rows(
        snapshot,
        "select distinct on (chain) chain, last_sequence,"
        " encode(substring(links from length(links) - 31), 'hex')"
        " from ledger_link order by chain, first_sequence desc",
    )
    return {chain_name(int(str(chain))): f"{last}:{head}" for chain, last, head in rows}


def _one(snapshot: Snapshot, sql: str) -> str:
    return str(_rows(snapshot, sql)[0][0])


def _rows(snapshot: Snapshot, sql: str) -> list[tuple[object, ...]]:
    with snapshot.connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def _require_archive(billing: Snapshot, folder: Path | None) -> None:
    """That what the ledger has put into files is where it is looked for. Raises CompanionError."""
    rows = _rows(
        billing,
        "select partition from ledger_archive where state in ('exported', 'verified', 'dropped')",
    )
    names = [f"{name}.parquet" for (name,) in rows]
    # A container's folder is there and empty where its mount was misspelt.
    if not names or (folder is not None and any((folder / name).is_file() for name in names)):
        return
    where = "BILLING_LEDGER_ARCHIVE_DIR is not set" if folder is None else f"none is in {folder}"
    raise CompanionError(
        f"The ledger has {len(names)} partitions in files, and {where}.",
        "BILLING_LEDGER_ARCHIVE_DIR must name their folder here, too (docs/backup.md).",
    )


def _copy_archive(archive: Path | None, target: Path) -> None:
    if archive is None or not archive.is_dir():
        return
    target.mkdir()
    for path in files_of(archive):
        # What is being written has a name of its own until it is whole.
        if path.suffix in {".parquet", ".json"}:
            place = target / path.relative_to(archive)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def _packed(secrets: Path) -> bytes:
    """The folder of secrets as a tar archive in memory: in clear it never reaches a disk."""
    if not secrets.is_dir():
        raise CompanionError(f"There is no folder of secrets at {secrets}.")
    buffer = io.BytesIO()
    # What is a link here (Kubernetes mounts Secrets so) is a file there.
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
        for path in files_of(secrets):
            if not path.name.endswith(".lock"):
                archive.add(path, str(path.relative_to(secrets)), recursive=False)
    return buffer.getvalue()


def _pack(draft: Path, target: Path) -> None:
    whole = draft.with_suffix(".whole")
    try:
        with tarfile.open(whole, "w") as archive:
            whole.chmod(0o600)
            for path in files_of(draft):
                archive.add(path, str(path.relative_to(draft)), recursive=False)
        sync_file(whole)
        whole.rename(target)
    finally:
        whole.unlink(missing_ok=True)
