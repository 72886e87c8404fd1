"""What must hold before anything is started: `companion doctor`, and the first thing of `up`."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from deploy.companion.engines import binaries, privileges
from deploy.companion.engines.postgres import check_version, not_ours
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.ports import holder_of, why_not_free
from deploy.companion.prepare import damaged_secrets, lost_secrets, read_passwords
from deploy.companion.previous_run import leftovers, running
from deploy.companion.programs import Kind
from shared.values import dataclass

Level = Literal["ok", "warning", "problem"]

_MEBIBYTE = 1 << 20
# A cluster with five databases takes 80 MiB and its write-ahead log up to 1 GiB.
_DISK_NEEDED_MIB, _DISK_WANTED_MIB = 500, 2_000
_MEMORY_WANTED_MIB = 2_000
_OPEN_FILES_WANTED = 4096
_FROM_BACKUP = "Restore it from a backup."


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check; `remedy` is empty when all is well."""

    subject: str
    level: Level
    text: str
    remedy: str = ""


Check = Callable[[Installation], Iterator[Finding]]


def examine(installation: Installation, checks: tuple[Check, ...] | None = None) -> list[Finding]:
    """Run the checks; one that can't be made is a problem itself."""
    return [finding for check in checks or ALL for finding in _run(check, installation)]


def require(installation: Installation) -> None:
    """Raise CompanionError for the first problem that would stop `companion up`."""
    for finding in examine(installation, BEFORE_START):
        if finding.level == "problem":
            raise CompanionError(finding.text, finding.remedy)


def _run(check: Check, installation: Installation) -> list[Finding]:
    subject = check.__name__.replace("_", " ")
    try:
        return list(check(installation))
    except CompanionError as error:
        return [Finding(subject, "problem", error.message, error.remedy)]
    except Exception as error:
        return [not_looked_at(subject, error)]


def not_looked_at(subject: str, error: Exception) -> Finding:
    """A check that ended as nobody foresaw. Its kind is told; its text may hold a password."""
    said = f"It can't be looked at ({type(error).__name__})."
    return Finding(subject, "problem", said, "Check that it runs, and how it is set up.")


def python(_: Installation) -> Iterator[Finding]:
    """The interpreter and the packages it needs."""
    version = platform.python_version()
    if sys.version_info < (3, 11):  # noqa: UP036 - said in words before imports fail
        yield Finding(
            "python", "problem", f"This is Python {version}.", "Use Python 3.11 or later."
        )
        return
    missing = [name for name in ("supervisor", "psycopg2", "celery") if find_spec(name) is None]
    if missing:
        yield Finding(
            "python", "problem", f"Not installed: {', '.join(missing)}.", "Run `make setup`."
        )
        return
    yield Finding("python", "ok", f"{version} on {platform.system()} {platform.machine()}")


def engines(installation: Installation) -> Iterator[Finding]:
    """A build of each engine for this platform."""
    programs = {
        Kind.POSTGRES: lambda: binaries.postgres_programs() / "postgres",
        Kind.VALKEY: binaries.valkey_program,
        Kind.PROXY: binaries.envoy_program,
    }
    for kind in dict.fromkeys(role.kind for role in installation.roles):
        if kind in programs:
            yield Finding("engine", "ok", str(programs[kind]()))
    if not installation.settings.embeds_postgres:
        yield Finding("engine", "ok", "PostgreSQL is the server of DATABASE_URL")


def data_directory(installation: Installation) -> Iterator[Finding]:
    """That we may use it, and nobody else can look into it."""
    root = installation.data.root
    existing = next(path for path in (root, *root.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        owner = existing.stat().st_uid
        yield Finding(
            "data directory",
            "problem",
            f"{existing} can't be written by this user; it belongs to user id {owner}.",
            "Start companion as that user, or set COMPANION_DATA_DIR to another place.",
        )
        return
    yield Finding("data directory", "ok", str(root) if root.exists() else f"{root} (new)")
    secrets = installation.data.secrets
    if secrets.exists() and (open_files := [str(f) for f in open_to_others(secrets)]):
        yield Finding(
            "data directory",
            "problem",
            f"Others can read {', '.join(open_files)}.",
            f"chmod -R go= {secrets}",
        )


def disk(installation: Installation) -> Iterator[Finding]:
    """Room for the databases and their logs."""
    root = installation.data.root
    existing = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(existing).free // _MEBIBYTE
    remedy = "Free some, or set COMPANION_DATA_DIR to another disk."
    if free < _DISK_NEEDED_MIB:
        yield Finding("disk", "problem", f"Only {free} MiB are free at {existing}.", remedy)
    elif free < _DISK_WANTED_MIB:
        yield Finding("disk", "warning", f"{free} MiB are free at {existing}.", remedy)
    else:
        yield Finding("disk", "ok", f"{free:,} MiB free")


def memory(_: Installation) -> Iterator[Finding]:
    """Room for about twenty Python processes and the engines."""
    import psutil

    free = psutil.virtual_memory().available // _MEBIBYTE
    if free < _MEMORY_WANTED_MIB:
        remedy = f"Everything together wants {_MEMORY_WANTED_MIB:,} MiB; stop something else."
        yield Finding("memory", "warning", f"Only {free:,} MiB are free.", remedy)
    else:
        yield Finding("memory", "ok", f"{free:,} MiB free")


def postgres_cluster(installation: Installation) -> Iterator[Finding]:
    """That the cluster is readable and of the engine's major version."""
    data = installation.data.postgres
    if not installation.settings.embeds_postgres:
        return
    if os.geteuid() != 0 and data.exists() and data.stat().st_uid != os.geteuid():
        raise not_ours(data)
    privileges.prefix(privileges.owner_for(data), (binaries.postgres_programs() / "postgres", data))
    if installation.data.has_database:
        check_version(data)
        yield Finding("postgres cluster", "ok", str(data))


def secrets(installation: Installation) -> Iterator[Finding]:
    """That nothing is missing or damaged which can't be made again."""
    data = installation.data
    if data.is_new:
        return
    is_well = True
    for warning in lost_secrets(data):
        is_well = False
        yield Finding("secrets", "warning", warning, _FROM_BACKUP)
    for damage in damaged_secrets(data):
        is_well = False
        yield Finding("secrets", "problem", damage, _FROM_BACKUP)
    if is_well:
        yield Finding("secrets", "ok", "keyring and signing keys are there")


def passwords(installation: Installation) -> Iterator[Finding]:
    """That the embedded engines can be entered."""
    settings = installation.settings
    if not installation.data.is_new and (settings.embeds_postgres or settings.embeds_valkey):
        read_passwords(installation.data)
        yield Finding("passwords", "ok", "those of the embedded engines are there")


def gateway_port(installation: Installation) -> Iterator[Finding]:
    """That the one port with a fixed number is free."""
    port = installation.settings.port
    if running(installation.data) is not None:
        return
    error = why_not_free(port)
    remedy = "Stop it, or choose another with PORT=… ."
    if error is None:
        yield Finding("gateway port", "ok", f"{port} is free")
    elif isinstance(error, PermissionError):
        yield Finding(
            "gateway port", "problem", f"This user may not listen on port {port}.", remedy
        )
    else:
        holder = holder_of(port) or "another process"
        yield Finding("gateway port", "problem", f"Port {port} is taken by {holder}.", remedy)


def run(installation: Installation) -> Iterator[Finding]:
    """Whether companion runs, and whether a run before left something behind."""
    record = running(installation.data)
    if record is not None:
        yield Finding("run", "ok", f"running with pid {record.pid} at {record.url}")
        return
    orphans = leftovers(installation.data)
    if orphans:
        pids = ", ".join(str(process.pid) for process in orphans)
        yield Finding(
            "run",
            "warning",
            f"A run that ended without cleaning up left these processes: {pids}.",
            "The next `companion up` stops them; so does `companion down`.",
        )
    else:
        yield Finding("run", "ok", "not running")


def open_files(_: Installation) -> Iterator[Finding]:
    """How many connections a process may hold."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < _OPEN_FILES_WANTED:
        yield Finding("open files", "warning", f"At most {hard}.", "Raise the limit (ulimit -Hn).")
    else:
        yield Finding(
            "open files", "ok", "unlimited" if hard == resource.RLIM_INFINITY else f"{hard}"
        )


def open_to_others(folder: Path) -> Iterator[Path]:
    """Files that more than their owner can read. A lock, which holds nothing, is none."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        found = path.stat()
        is_lock = path.name.endswith(".lock") and not found.st_size
        if not is_lock and stat.S_IMODE(found.st_mode) & ~_safe_modes(found):
            yield path


def _safe_modes(found: os.stat_result) -> int:
    # Kubernetes mounts a Secret as root's and lets its pod's group read it (fsGroup, 0440).
    of_ours = found.st_gid in (os.getegid(), *os.getgroups())
    is_lent = found.st_uid == 0 != os.geteuid() and of_ours
    return 0o740 if is_lent else 0o700


ALL: tuple[Check, ...] = (
    python,
    engines,
    data_directory,
    disk,
    memory,
    postgres_cluster,
    secrets,
    passwords,
    gateway_port,
    run,
    open_files,
)

BEFORE_START: tuple[Check, ...] = (
    python,
    engines,
    data_directory,
    disk,
    postgres_cluster,
    gateway_port,
)
