"""The real PostgreSQL, Valkey and RabbitMQ for tests: each started once, each test leaves no trace.

PostgreSQL and Valkey are the engines of the embedded default, run by the same code. RabbitMQ is
used if the machine has it. Install it without letting the system start a broker of its own:

    printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    apt-get update && apt-get install -y --no-install-recommends rabbitmq-server

Fixtures, for the root conftest to import: `postgres_server`, `valkey_server`, `rabbitmq_server`.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import kombu
import psycopg2
import pytest
import redis
from psycopg2.sql import SQL, Identifier

from deploy.companion.databases import database_url
from deploy.companion.engines import privileges
from deploy.companion.engines.postgres import Postgres
from deploy.companion.engines.valkey import Valkey
from deploy.companion.log_files import last_lines
from deploy.companion.ports import LOOPBACK, free_port

_POLL_SECONDS = 0.02

# Tests lose nothing when the machine fails, so nothing waits for the disk.
_HASTY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "shared_buffers": "64MB",
}
# A database for each test is some hundred files made and deleted, for which a disk's file system
# takes half of all processor time.
_IN_MEMORY, _ROOM_BYTES = Path("/dev/shm"), 4 << 30
_PREFIX = "companion-tests-"
_VALKEY_DATABASES = 512
_RABBITMQ_PROGRAMS = Path("/usr/lib/rabbitmq/bin")


class Child:
    """A server process that ends with the test session, whatever way that ends."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.log = log
        self._command = command
        self._environment = environment
        self._stop_signal = stop_signal
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self._command,
                cwd="/",
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for pytest, whose fixtures then stop us in order.
                start_new_session=True,
            )

    def start_again(self, ready: Callable[[], bool], *, seconds: float = 30) -> None:
        """Bring it back, with the same data and the same address, after `kill` or `stop`."""
        self._process = self._started()
        self.wait_until(ready, seconds=seconds)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 30) -> None:
        """Wait until the server works; fails with the end of its log."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("The server did not start:\n" + "\n".join(last_lines(self.log)))
            time.sleep(_POLL_SECONDS)

    def kill(self) -> None:
        """End it as a crash would, with the processes of its group."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, *, seconds: float = 15) -> None:
        """Ask it to stop; kill its whole group when it does not."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running PostgreSQL; its databases are made and dropped by tests."""

    engine: Postgres
    child: Child
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def url(self) -> str:
        """The server, as `DATABASE_URL` names it: without a database."""
        return self.engine.url

    def url_of(self, database: str) -> str:
        """One database of this server."""
        return database_url(self.url, database)

    @contextlib.contextmanager
    def fresh_database(self, *, template: str | None = None) -> Iterator[str]:
        """The URL of a database that nobody has used: empty, or a copy of a template."""
        name = f"test_{next(self._numbers)}_{secrets.token_hex(3)}"
        self.create_database(name, template=template)
        try:
            yield self.url_of(name)
        finally:
            self.drop_database(name)

    def ensure_template(self, name: str, fill: Callable[[str], object]) -> str:
        """Make a template once a session: `fill` gets its URL, for example to migrate it.

        `fill` must leave no connection open, or copies can't be made. Returns the name.
        """
        if not self._exists(name):
            self.create_database(name)
            fill(self.url_of(name))
        return name

    def create_database(self, name: str, *, template: str | None = None) -> None:
        """Make a database; a copy takes about as long as the template is large."""
        self._execute(
            SQL("CREATE DATABASE {} TEMPLATE {}").format(
                Identifier(name), Identifier(template or "template1")
            )
        )

    def drop_database(self, name: str) -> None:
        """Drop a database, also under connections that a test has left open."""
        self._execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))

    def _exists(self, name: str) -> bool:
        return bool(self._execute(SQL("SELECT 1 FROM pg_database WHERE datname = %s"), name))

    def _execute(self, statement: object, *values: str) -> list[tuple[object, ...]]:
        connection = psycopg2.connect(self.url_of("postgres"))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)  # type: ignore[arg-type]
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class ValkeyServer:
    """A running Valkey with many numbered databases, so that each test has its own."""

    engine: Valkey
    child: Child
    _numbers: Iterator[int] = field(
        default_factory=lambda: itertools.cycle(range(1, _VALKEY_DATABASES)), repr=False
    )

    @property
    def url(self) -> str:
        """Database 0; tests that share it see each other."""
        return self.engine.url(0)

    @contextlib.contextmanager
    def fresh_database(self) -> Iterator[str]:
        """The URL of an empty database, emptied again afterwards."""
        url = self.engine.url(next(self._numbers))
        try:
            yield url
        finally:
            with redis.Redis.from_url(url) as client:
                client.flushdb()


@dataclass(frozen=True, slots=True)
class RabbitServer:
    """A running RabbitMQ without any plugin."""

    port: int
    password: str = field(repr=False)
    child: Child
    environment: Mapping[str, str] = field(repr=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def url(self) -> str:
        """The default virtual host, as `BROKER_URL` names it."""
        return self.url_of("/")

    def is_ready(self) -> bool:
        """Whether it accepts clients now."""
        return _takes_amqp(self.url)

    def url_of(self, virtual_host: str) -> str:
        """One virtual host of this server."""
        host = virtual_host.replace("/", "%2F")
        return f"amqp://companion:{self.password}@{LOOPBACK}:{self.port}/{host}"

    @contextlib.contextmanager
    def fresh_virtual_host(self) -> Iterator[str]:
        """The URL of an empty virtual host. Takes about two seconds: share it where you can."""
        name = f"test{next(self._numbers)}"
        self._control("add_vhost", name)
        self._control("set_permissions", "-p", name, "companion", ".*", ".*", ".*")
        try:
            yield self.url_of(name)
        finally:
            self._control("delete_vhost", name)

    @contextlib.contextmanager
    def disk_alarm(self) -> Iterator[None]:
        """For the length of a block it thinks that its disk is full, and takes no message."""
        self._control("set_disk_free_limit", "1000000GB")
        try:
            yield
        finally:
            self._control("set_disk_free_limit", "1MB")

    def connections(self) -> int:
        """How many it has, those among them whose client has gone without its notice."""
        return int(self._control("eval", "length(rabbit_networking:local_connections())."))

    @contextlib.contextmanager
    def stalled(self, queue: str) -> Iterator[None]:
        """For the length of a block a quorum queue of the default virtual host confirms nothing, as
        one without its majority."""
        # Each is a process of that name (rabbit_quorum_queue:qname_to_internal_name/1).
        process = f"{{'%2F_{queue}', node()}}"
        self._control("eval", f"sys:suspend({process}).")
        try:
            yield
        finally:
            self._control("eval", f"sys:resume({process}).")

    def _control(self, *words: str) -> str:
        program = str(_RABBITMQ_PROGRAMS / "rabbitmqctl")
        return subprocess.run(
            [program, "--quiet", *words],
            env=dict(self.environment),
            check=True,
            cwd="/",
            stdout=subprocess.PIPE,
            text=True,
        ).stdout


@contextlib.contextmanager
def running_postgres(directory: Path, *, hasty: bool = True) -> Iterator[PostgresServer]:
    """A PostgreSQL with its data below `directory`; `hasty` trades safety for speed."""
    engine = Postgres(
        data=directory / "postgres",
        port=free_port(),
        superuser_password=secrets.token_urlsafe(12),
        role_password=secrets.token_urlsafe(12),
        extra_settings=_HASTY if hasty else {},
    )
    engine.prepare()
    child = Child(engine.command(), log=directory / "postgres.log", stop_signal=signal.SIGINT)
    try:
        child.wait_until(engine.is_ready)
        engine.ensure_role()
        yield PostgresServer(engine, child)
    finally:
        child.stop()


@contextlib.contextmanager
def running_valkey(directory: Path, *, durable: bool = False) -> Iterator[ValkeyServer]:
    """A Valkey with its data below `directory`; by default it keeps all in memory."""
    settings = {"databases": str(_VALKEY_DATABASES)}
    engine = Valkey(
        data=directory / "valkey",
        configuration=directory / "valkey.conf",
        port=free_port(),
        password=secrets.token_urlsafe(12),
        extra_settings=settings if durable else {**settings, "appendonly": "no"},
    )
    engine.prepare()
    words = privileges.prefix(None, (), parent_death="TERM")
    child = Child([*words, *engine.command()], log=directory / "valkey.log")
    try:
        child.wait_until(engine.is_ready)
        yield ValkeyServer(engine, child)
    finally:
        child.stop()


def has_rabbitmq() -> bool:
    """Whether this machine has RabbitMQ."""
    return (_RABBITMQ_PROGRAMS / "rabbitmq-server").exists() and shutil.which("epmd") is not None


@contextlib.contextmanager
def running_rabbitmq(directory: Path) -> Iterator[RabbitServer]:
    """A RabbitMQ with its data, its name service and its configuration below `directory`."""
    port = free_port()
    epmd_port = free_port(avoid={port})
    peer_port = free_port(avoid={port, epmd_port})
    password = secrets.token_urlsafe(12)
    environment = _rabbitmq_environment(directory, epmd_port, peer_port)
    (directory / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = {LOOPBACK}:{port}\n"
        f"default_user = companion\ndefault_pass = {password}\n"
        "log.console = true\nlog.file = false\ndisk_free_limit.absolute = 50MB\n"
    )
    (directory / "enabled_plugins").write_text("[].\n")
    words = privileges.prefix(None, (), parent_death="TERM")
    # Our own, in the foreground: the one that Erlang starts by itself outlives everybody.
    epmd = Child(
        [*words, "epmd", "-address", LOOPBACK, "-port", str(epmd_port)],
        log=directory / "epmd.log",
        environment=environment,
    )
    child = Child(
        [*words, str(_RABBITMQ_PROGRAMS / "rabbitmq-server")],
        log=directory / "rabbitmq.log",
        environment=environment,
    )
    server = RabbitServer(port, password, child, environment)
    try:
        child.wait_until(server.is_ready, seconds=60)
        yield server
    finally:
        child.stop()
        epmd.stop()


def _rabbitmq_environment(directory: Path, epmd_port: int, peer_port: int) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        # Holds the Erlang cookie.
        "HOME": str(directory),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "RABBITMQ_NODENAME": f"companion-test-{peer_port}@localhost",
        "RABBITMQ_DIST_PORT": str(peer_port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(directory / "generated"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        # The system's own file must not change what is set here.
        "RABBITMQ_CONF_ENV_FILE": str(directory / "no-environment-file"),
    }


def _takes_amqp(url: str) -> bool:
    try:
        with kombu.Connection(url, connect_timeout=5) as connection:
            connection.connect()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def quick_folder(otherwise: Path) -> Iterator[Path]:
    """An empty folder in memory, where there is room for a test session's databases."""
    if not _IN_MEMORY.is_dir():
        yield otherwise
        return
    with contextlib.ExitStack() as stack:
        # Nobody looks while a folder is there and not locked yet.
        with _locked(_IN_MEMORY):
            _sweep()
            if shutil.disk_usage(_IN_MEMORY).free < _ROOM_BYTES:
                folder = None
            else:
                made = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_IN_MEMORY)
                folder = Path(stack.enter_context(made))
                stack.enter_context(_locked(folder))
        if folder is None:
            yield otherwise
            return
        # An engine that doesn't run as root has a folder of its own in it.
        folder.chmod(0o755)
        yield folder


def _sweep() -> None:
    """Take away what sessions have left that were killed: the kernel let go of their locks."""
    for folder in _IN_MEMORY.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), _locked(folder, wait=False):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Nobody else has it locked meanwhile. Raises OSError when somebody has and it doesn't wait."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The PostgreSQL of this test session."""
    with (
        quick_folder(tmp_path_factory.mktemp("engine")) as folder,
        running_postgres(folder) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """The Valkey of this test session."""
    with running_valkey(tmp_path_factory.mktemp("engine")) as server:
        yield server


@pytest.fixture
def valkey_url(valkey_server: ValkeyServer) -> Iterator[str]:
    """An empty database of that Valkey."""
    with valkey_server.fresh_database() as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer | None]:
    """The RabbitMQ of this test session, or None on a machine that has none."""
    if not has_rabbitmq():
        yield None
        return
    with running_rabbitmq(tmp_path_factory.mktemp("broker")) as server:
        yield server
