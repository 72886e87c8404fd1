"""PostgreSQL as an embedded engine: one cluster on the loopback interface, reached by TCP only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from deploy.companion.engines import privileges
from deploy.companion.engines.binaries import postgres_programs
from deploy.companion.errors import CompanionError
from deploy.companion.ports import LOOPBACK
from shared.values import dataclass

SUPERUSER = "postgres"
ROLE = "companion"
"""The role of all services: may create databases and is no superuser."""
READERS = "billing_reader"
"""The group of those who may read billing's reports with SQL; nobody logs in as it."""

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "dynamic_shared_memory_type": "posix",
    # Statements are short; compiling them costs more than it saves.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "datestyle": "iso, ymd",
    "lc_messages": "C",
    "default_text_search_config": "pg_catalog.english",
    # Logs go to the supervisor and hold no value of any row: neither a statement's parameters nor
    # the DETAIL line of an error, which quotes the offending key.
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %d ",
    "log_statement": "none",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}

# Only root of the checkout's machine can open a cluster without its passwords.
_HBA = "host all all 127.0.0.1/32 scram-sha-256\n"


@dataclass(frozen=True, slots=True)
class Postgres:
    """One cluster: its place, its port and its two passwords."""

    data: Path
    port: int
    superuser_password: str = field(repr=False)
    role_password: str = field(repr=False)
    extra_settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The server as the services see it (`DATABASE_URL`)."""
        return f"postgresql://{ROLE}:{self.role_password}@{LOOPBACK}:{self.port}"

    @property
    def superuser_url(self) -> str:
        """The server as its superuser, who only makes the services' role."""
        return f"postgresql://{SUPERUSER}:{self.superuser_password}@{LOOPBACK}:{self.port}"

    def prefix(self) -> list[str]:
        """The words that run a command as the user who owns the cluster."""
        uid = privileges.owner_for(self.data)
        return privileges.prefix(uid, (postgres_programs() / "postgres", self.data))

    def command(self) -> list[str]:
        """The server's command line; all but the port stands in its configuration file."""
        program = str(postgres_programs() / "postgres")
        return [*self.prefix(), program, "-D", str(self.data), "-p", str(self.port)]

    def prepare(self) -> None:
        """Make the cluster if there is none and write its configuration. Raises CompanionError."""
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster()
        check_version(self.data)
        self._write_configuration()
        _forget_dead_server(self.data)

    def ensure_role(self) -> None:
        """Make the services' role, with the password we hold. The server must be running."""
        import psycopg2
        from psycopg2.extensions import encrypt_password
        from psycopg2.sql import SQL, Identifier, Literal

        connection = psycopg2.connect(self.superuser_url + "/postgres", connect_timeout=5)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,))
                verb = SQL("ALTER" if cursor.fetchone() else "CREATE")
                # Hashed here, because a failing statement is logged with its text.
                hashed = encrypt_password(self.role_password, ROLE, connection, "scram-sha-256")
                cursor.execute(
                    SQL("{} ROLE {} LOGIN CREATEDB PASSWORD {}").format(
                        verb, Identifier(ROLE), Literal(hashed)
                    )
                )
                # Billing's migrations grant it their views, and may not make it.
                cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (READERS,))
                if not cursor.fetchone():
                    cursor.execute(SQL("CREATE ROLE {} NOLOGIN").format(Identifier(READERS)))
        finally:
            connection.close()

    def is_ready(self) -> bool:
        """Whether the server takes connections now."""
        import psycopg2

        try:
            psycopg2.connect(self.superuser_url + "/postgres", connect_timeout=2).close()
        except psycopg2.OperationalError as error:
            if "password authentication failed" in str(error):
                raise CompanionError(
                    f"PostgreSQL on port {self.port} doesn't accept the password of this data "
                    "directory.",
                    "Restore secrets/passwords.json, or delete the data directory to start anew.",
                ) from error
            return False
        return True

    def _make_cluster(self) -> None:
        if self.data.exists() and any(self.data.iterdir()):
            raise CompanionError(
                f"{self.data} is neither empty nor a PostgreSQL cluster.",
                "Move it away, or delete the data directory to start anew.",
            )
        # Made beside its place and moved there when it is whole: half a cluster looks like one.
        draft = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700, parents=True)
        uid = privileges.owner_for(self.data)
        if uid is not None:
            os.chown(draft, uid, uid)
        with tempfile.NamedTemporaryFile("w", prefix="companion-") as password_file:
            password_file.write(self.superuser_password + "\n")
            password_file.flush()
            if uid is not None:
                os.chown(password_file.name, uid, uid)
            self._initdb(draft, password_file.name)
        draft.rename(self.data)

    def _initdb(self, folder: Path, password_file: str) -> None:
        command = [
            *self.prefix(),
            str(postgres_programs() / "initdb"),
            f"--pgdata={folder}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # Sorts by code point on every machine, whatever its C library thinks of languages.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--no-instructions",
            *(["--no-sync"] if self.extra_settings.get("fsync") == "off" else []),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=_environment(), cwd="/"
        )
        if done.returncode != 0:
            raise CompanionError(
                f"initdb could not make the PostgreSQL cluster: {_last_line(done.stderr)}",
                "Start again once the cause is gone.",
            )

    def _write_configuration(self) -> None:
        settings = {**_SETTINGS, **self.extra_settings}
        lines = [f"{name} = '{value}'" for name, value in settings.items()]
        if (self.data / "local.conf").exists():
            lines.append("include = 'local.conf'")
        head = "# Written by companion at each start; put your own settings into local.conf.\n"
        self._write("postgresql.conf", head + "\n".join(lines) + "\n")
        self._write("pg_hba.conf", _HBA)

    def _write(self, name: str, text: str) -> None:
        path = self.data / name
        try:
            path.write_text(text)
            path.chmod(0o600)
            uid = privileges.owner_for(self.data)
            if uid is not None:
                os.chown(path, uid, uid)
        except OSError as error:
            raise not_ours(self.data) from error


def check_version(data: Path) -> None:
    """Refuse a cluster that another major version of PostgreSQL made. Raises CompanionError."""
    found, ours = cluster_version(data), engine_version()
    if found != ours:
        raise CompanionError(
            f"{data} was made by PostgreSQL {found}, and this is PostgreSQL {ours}.",
            f"Dump it with PostgreSQL {found} and load the dump into a new data directory, "
            "or delete the data directory to start anew.",
        )


def cluster_version(data: Path) -> str:
    """The major version that made a cluster. Raises CompanionError."""
    try:
        return (data / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise not_ours(data) from error


def engine_version() -> str:
    """The major version of the engine that is installed."""
    program = postgres_programs() / "postgres"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
    if match is None:
        raise CompanionError(f"{program} does not run on this machine: {_last_line(said.stderr)}")
    return match[1]


def not_ours(data: Path) -> CompanionError:
    """The answer to a cluster that this user may not read."""
    owner = f"user id {data.stat().st_uid}" if data.exists() else "nobody"
    return CompanionError(
        f"The PostgreSQL cluster {data} belongs to {owner} and can't be opened.",
        "Start companion as the user who made it, or hand it over with chown -R.",
    )


def server_process(data: Path) -> int | None:
    """The process id of the server that has this cluster open now, if there is one."""
    import psutil

    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        process = psutil.Process(pid)
        # The server works inside its cluster; a stranger with a reused process id does not.
        return pid if Path(process.cwd()).samefile(data) else None
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None
    except psutil.AccessDenied:
        return pid


def _forget_dead_server(data: Path) -> None:
    """Drop the lock file of a server that is gone.

    PostgreSQL does so itself unless another process has got the same id since, which is common in
    containers.
    """
    if server_process(data) is None:
        (data / "postmaster.pid").unlink(missing_ok=True)


def _environment() -> dict[str, str]:
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
    return {"LC_ALL": "C"} | {name: os.environ[name] for name in kept if name in os.environ}


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason."
