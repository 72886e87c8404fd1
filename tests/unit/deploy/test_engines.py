"""The embedded engines start and stop here, also as root below a directory closed to others."""

import contextlib
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis

from deploy.companion.databases import connect, database_url, ensure_databases, existing_databases
from deploy.companion.engines import privileges
from deploy.companion.engines.postgres import server_process
from deploy.companion.engines.valkey import REWRITES
from deploy.companion.errors import CompanionError
from deploy.companion.settings import ROOT
from tests.support.engines import (
    PostgresServer,
    RabbitServer,
    ValkeyServer,
    has_rabbitmq,
    running_postgres,
    running_rabbitmq,
    running_valkey,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="about what root does")


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place below a directory that only its owner can enter."""
    parent = tmp_path_factory.mktemp("closed")
    parent.chmod(0o700)
    (parent / "data").mkdir()
    return parent / "data"


@pytest.fixture(scope="module")
def postgres(closed: Path) -> Iterator[PostgresServer]:
    with running_postgres(closed) as server:
        yield server
    assert server_process(server.engine.data) is None


@pytest.fixture(scope="module")
def valkey(closed: Path) -> Iterator[ValkeyServer]:
    with running_valkey(closed) as server:
        yield server
    assert not psutil.pid_exists(server.child.pid)


@as_root
def test_postgres_is_nobody_with_one_way_in(postgres: PostgresServer, closed: Path) -> None:
    process = psutil.Process(postgres.child.pid)
    assert process.uids().effective == privileges.NOBODY
    status = Path(f"/proc/{process.pid}/status").read_text()
    [effective] = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff")]
    # dac_override is bit 1 and dac_read_search bit 2: one of them, and nothing else.
    assert int(effective, 16) in (1 << 1, 1 << 2)
    assert stat.S_IMODE(closed.parent.stat().st_mode) == 0o700
    assert closed.parent.stat().st_uid == 0


def test_the_services_role_is_no_superuser(postgres: PostgresServer) -> None:
    connection = connect(postgres.url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == (False, True)
    connection.close()


def test_a_wrong_password_opens_nothing(postgres: PostgresServer, valkey: ValkeyServer) -> None:
    wrong = postgres.url_of("postgres").replace(postgres.engine.role_password, "wrong")
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(wrong)
    assert not replace(valkey.engine, password="wrong").is_ready()


def test_everything_listens_on_loopback_only(
    postgres: PostgresServer, valkey: ValkeyServer
) -> None:
    for pid in (postgres.child.pid, valkey.child.pid):
        sockets = psutil.Process(pid).net_connections(kind="all")
        listening = {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}


def test_databases_are_made_once(postgres: PostgresServer) -> None:
    names = ["companion_one", "companion_two"]
    assert ensure_databases(postgres.url, names) == names
    assert ensure_databases(postgres.url, [*names, "companion_three"]) == ["companion_three"]
    assert set(names) < existing_databases(postgres.url)


def test_a_server_that_is_not_there_is_told_without_its_password() -> None:
    with pytest.raises(CompanionError, match=r"127\.0\.0\.1:1 can't be used") as caught:
        ensure_databases("postgresql://u:hunter2@127.0.0.1:1", ["x"])
    assert "hunter2" not in str(caught.value)


def test_no_value_lands_in_the_log(postgres: PostgresServer) -> None:
    with postgres.fresh_database() as url:
        connection = connect(url)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE person (email text PRIMARY KEY)")
            cursor.execute("INSERT INTO person SELECT concat('ada', '@example.org')")
            with pytest.raises(psycopg2.errors.UniqueViolation):
                cursor.execute("INSERT INTO person SELECT concat('ada', '@example.org')")
        connection.close()
    log = postgres.child.log.read_text()
    assert "duplicate key" in log
    assert "ada@example.org" not in log


def test_a_fresh_database_is_a_copy_of_its_template(postgres: PostgresServer) -> None:
    def fill(url: str) -> None:
        connection = connect(url)
        connection.cursor().execute("CREATE TABLE filled AS SELECT 42 AS answer")
        connection.close()

    postgres.ensure_template("filled", fill)
    postgres.ensure_template("filled", lambda _: pytest.fail("filled twice"))
    with postgres.fresh_database(template="filled") as url:
        left_open = connect(url)
        with left_open.cursor() as cursor:
            cursor.execute("SELECT answer FROM filled")
            assert cursor.fetchone() == (42,)
    left_open.close()
    assert not {name for name in existing_databases(postgres.url) if name.startswith("test_")}


def test_valkey_keeps_everything_or_says_so(valkey: ValkeyServer) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        policy = client.config_get("maxmemory-policy")
    assert policy == {"maxmemory-policy": "noeviction"}


def test_what_valkey_has_forgotten_goes_from_the_disk(tmp_path: Path) -> None:
    """Of a small installation, too: texts of answers are there for an hour at most."""

    def is_on_disk() -> bool:
        for file in (tmp_path / "valkey" / "appendonlydir").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if b"a marked answer" in file.read_bytes():
                    return True
        return False

    with running_valkey(tmp_path, durable=True) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("turn:1", "a marked answer", px=100)
            assert is_on_disk()
            for _ in range(11):
                client.set("limit:1", "x" * 100_000)
        deadline = time.monotonic() + 15
        while is_on_disk():
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_every_valkey_of_ours_makes_its_file_anew_as_soon() -> None:
    composed = (ROOT / "deploy/compose/valkey.conf").read_text("utf-8")
    in_pods = (ROOT / "deploy/k8s/engines/valkey.yaml").read_text("utf-8")
    for name, value in REWRITES.items():
        assert f"\n{name} {value}\n" in composed
        assert f"--{name}, {value}," in in_pods.replace('"', "")


def test_a_pods_disk_holds_valkeys_file_while_it_is_made_anew() -> None:
    """All that fits into its memory, grown until the file is made anew; the new one beside it, and
    as much again that is written meanwhile."""
    in_pods = (ROOT / "deploy/k8s/engines/valkey.yaml").read_text("utf-8")
    (memory,) = re.findall(r"--maxmemory, (\d+)mb", in_pods)
    (disk,) = re.findall(r"name: data, emptyDir: \{sizeLimit: (\d+)Gi\}", in_pods)
    grown = 1 + int(REWRITES["auto-aof-rewrite-percentage"]) / 100
    assert int(disk) * 1024 >= int(memory) * (grown + 2)


def test_each_test_has_its_own_valkey_database(valkey: ValkeyServer) -> None:
    with valkey.fresh_database() as one, valkey.fresh_database() as other:
        with redis.Redis.from_url(one) as client:
            client.set("x", "1")
        with redis.Redis.from_url(other) as client:
            assert client.get("x") is None
    with redis.Redis.from_url(one) as client:
        assert client.get("x") is None


def test_a_barrier_is_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert privileges.first_barrier([tmp_path / "data"]) is not None
    assert privileges.first_barrier([Path("/usr/bin/env")]) is None


@as_root
def test_without_setpriv_a_barrier_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "_setpriv", lambda: None)
    tmp_path.chmod(0o700)
    with pytest.raises(CompanionError, match="no other user can enter") as caught:
        privileges.prefix(privileges.NOBODY, [tmp_path / "data"])
    assert "setpriv" in caught.value.remedy
    plain = privileges.prefix(privileges.NOBODY, [Path("/usr/bin/env")])
    assert plain[-1] == str(privileges.NOBODY)


def test_a_url_keeps_its_server(postgres: PostgresServer) -> None:
    assert database_url("postgresql://u:p@h:5/x?sslmode=require", "y") == (
        "postgresql://u:p@h:5/y?sslmode=require"
    )


@pytest.mark.rabbitmq
@pytest.mark.skipif(not has_rabbitmq(), reason="no RabbitMQ on this machine")
def test_rabbitmq_starts_beside_any_other_and_leaves_nothing(tmp_path: Path) -> None:
    import kombu

    with running_rabbitmq(tmp_path) as server, server.fresh_virtual_host() as url:
        assert isinstance(server, RabbitServer)
        with kombu.Connection(url) as connection:
            arguments = {"x-queue-type": "quorum"}
            channel = connection.channel()
            kombu.Queue("kept", queue_arguments=arguments, channel=channel).declare()
    assert not [p for p in psutil.process_iter() if _home_of(p) == str(tmp_path)]


def _home_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("HOME")
    except psutil.Error:
        return None


@as_root
def test_programs_behind_a_barrier_can_be_found_and_run(tmp_path: Path) -> None:
    # As initdb does: it asks access(2) for the programs beside it before it runs them.
    tmp_path.chmod(0o700)
    program = tmp_path / "program"
    program.write_text("")
    program.chmod(0o755)
    words = privileges.prefix(privileges.NOBODY, [program, Path(sys.executable)])
    question = "import os, sys; print(os.access(sys.argv[1], os.R_OK | os.X_OK))"

    answer = subprocess.run(
        [*words, sys.executable, "-I", "-c", question, str(program)],
        capture_output=True,
        text=True,
        cwd="/",
    )

    assert answer.stdout == "True\n", answer.stderr
