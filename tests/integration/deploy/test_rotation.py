"""What is sealed is sealed anew; engines take new passwords; a role has two logins in turn."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import OperationalError

from deploy.companion import passwords
from deploy.companion.alone import engines_alone
from deploy.companion.data_dir import DataDir, replace_private
from deploy.companion.databases import database_url
from deploy.companion.deployment import Deployment, Hosts
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.passwords import rotate
from deploy.companion.prepare import create_secrets, read_passwords
from deploy.companion.sealing_keys import (
    Resealed,
    add,
    keys_of,
    kind,
    reseal,
    still_needed,
    versions,
)
from deploy.companion.settings import Settings
from shared.db.migrations import upgrade
from shared.ids import uuid7
from shared.sealing import Sealer
from tests.support.engines import PostgresServer, running_postgres

PAGE = (Path(__file__).parents[3] / "docs" / "rotation.md").read_text()


def test_secrets_of_webhooks_are_sealed_anew_and_what_is_broken_is_told(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    create_secrets(tmp_path / "data")
    chosen = kind("webhooks")
    path = chosen.file(DataDir(tmp_path / "data"))
    template = postgres_server.ensure_template("backup_billing", partial(upgrade, "billing"))
    with postgres_server.fresh_database(template=template) as url:
        databases = {"billing": url}
        old = Sealer(keys_of(versions(path, chosen), chosen))
        good, bad = uuid7(), uuid7()
        _webhook(url, good, old.seal("webhook secret", good, b"marked"))
        _webhook(url, bad, old.seal("webhook secret", good, b"of another one"))
        assert still_needed(databases, chosen, 1) == 2

        add(path, chosen, shown_seconds=0)
        assert reseal(databases, path, chosen) == Resealed(anew=1, broken=1)
        assert reseal(databases, path, chosen) == Resealed(anew=0, broken=1)

        assert still_needed(databases, chosen, 1) == 1
        ((sealed,),) = _rows(url, f"select secret from webhook_endpoint where id = '{good}'")
        new = Sealer(keys_of(versions(path, chosen), chosen))
        assert new.open("webhook secret", good, bytes(sealed)) == b"marked"


def test_the_embedded_engines_take_new_passwords(tmp_path: Path) -> None:
    create_secrets(tmp_path / "data")
    tmp_path.chmod(0o711)
    environment = {"COMPANION_DATA_DIR": str(tmp_path / "data"), "SANDBOX": "1"}
    installation = Installation.open(Settings.from_environment(environment))
    installation.data.create()
    with engines_alone(installation):
        pass
    before = read_passwords(installation.data)

    rotate(installation)

    after = read_passwords(installation.data)
    assert not {before.postgres_role, before.postgres_superuser, before.valkey} & {
        after.postgres_role,
        after.postgres_superuser,
        after.valkey,
    }
    # Killed when the engines had them already and the file had not: the next call goes on.
    path = installation.data.passwords
    path.rename(path.with_name("passwords.next.json"))
    replace_private(path, json.dumps(asdict(before)))
    rotate(installation)
    assert read_passwords(installation.data) == after

    with engines_alone(installation):
        new = installation.postgres().url
        psycopg2.connect(database_url(new, "postgres")).close()
        old = new.replace(after.postgres_role, before.postgres_role)
        with pytest.raises(OperationalError, match="password"):
            psycopg2.connect(database_url(old, "postgres"))


def test_passwords_that_held_outlive_a_call_that_was_killed_while_it_tried_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_secrets(tmp_path / "data")
    environment = {"COMPANION_DATA_DIR": str(tmp_path / "data"), "SANDBOX": "1"}
    installation = Installation.open(Settings.from_environment(environment))
    data = installation.data
    data.create()
    data.postgres.mkdir()
    (data.postgres / "PG_VERSION").write_text("18")
    known = read_passwords(data)
    at_work = []

    @contextlib.contextmanager
    def engines_with(installation: Installation) -> Iterator[None]:
        at_work.append(read_passwords(installation.data))
        if len(at_work) == 2:
            # As they lie there while the others are tried.
            shutil.copytree(data.secrets, tmp_path / "killed")
        if at_work:
            raise CompanionError("They do not start.")
        yield

    monkeypatch.setattr(passwords, "engines_alone", engines_with)
    with pytest.raises(CompanionError, match="do not start"):
        rotate(installation)
    assert at_work[0] == known == read_passwords(data)
    assert at_work[1] != known

    shutil.rmtree(data.secrets)
    shutil.copytree(tmp_path / "killed", data.secrets)
    assert read_passwords(data) == at_work[1]
    with pytest.raises(CompanionError, match="do not start"):
        rotate(installation)
    assert at_work[2:] == at_work[:2]
    assert read_passwords(data) == known


def test_a_second_login_acts_as_the_owner_of_the_database(postgres_server: PostgresServer) -> None:
    """The statements of docs/rotation.md, as they stand there."""
    first, last = re.findall(r"```sql\n(.*?)```", PAGE, re.S)
    root = database_url(postgres_server.engine.superuser_url, "postgres")
    _run(root, "create role companion_chat login password 'OLD'")
    _run(root, "create database rotated owner companion_chat")
    try:
        _run(root, first)
        host = postgres_server.url.rpartition("@")[2]
        old = f"postgresql://companion_chat:OLD@{host}/rotated"
        new = f"postgresql://companion_chat_b:NEW@{host}/rotated"
        _run(old, "create table made_before (id int)")
        _run(new, "create table made_after (id int); alter table made_before add x int")
        owners = _rows(new, "select distinct tableowner from pg_tables where schemaname='public'")
        assert owners == [("companion_chat",)]
        _run(root, last)
        with pytest.raises(OperationalError):
            psycopg2.connect(old)
        assert _rows(new, "select count(*) from made_after") == [(0,)]
    finally:
        _run(root, "drop database rotated with (force)")
        _run(root, "drop role companion_chat_b")
        _run(root, "drop role companion_chat")


def test_a_cluster_made_after_an_exchange_takes_the_second_login_alone(tmp_path: Path) -> None:
    """As after a restore: what it runs when it is made comes from the services' URLs."""
    (cluster := tmp_path / "cluster").mkdir()
    tmp_path.chmod(0o755)
    with running_postgres(cluster) as server:
        host = server.url.rpartition("@")[2]
        deployment = Deployment(tmp_path / "secrets")
        deployment.create(Hosts(postgres=host))
        old = (deployment.root / "chat" / "database_url").read_text()
        new = f"postgresql://companion_chat_b:NEW@{host}"
        replace_private(deployment.root / "chat" / "database_url", new)
        deployment.tell_engines()
        made = (deployment.root / "postgres" / "init.sql").read_text()
        root = database_url(server.engine.superuser_url, "postgres")
        _run(root, "".join(line for line in made.splitlines() if "companion_chat" in line))
        in_new = database_url(new, "companion_chat")
        _run(in_new, "create table made (id int)")
        owners = _rows(in_new, "select tableowner from pg_tables where schemaname = 'public'")
        assert owners == [("companion_chat",)]
        with pytest.raises(OperationalError):
            psycopg2.connect(database_url(old, "companion_chat"))


def _webhook(url: str, id_: object, sealed: bytes) -> None:
    connection = psycopg2.connect(url)
    with contextlib.closing(connection), connection, connection.cursor() as cursor:
        cursor.execute(
            "insert into webhook_endpoint (id, owner_kind, url, types, secret, created_by,"
            " created_at) values (%s, 'operator', 'https://example.com', '{}', %s, %s, now())",
            (str(id_), sealed, str(uuid7())),
        )


def _run(url: str, sql: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        for statement in filter(str.strip, sql.split(";")):
            cursor.execute(statement)


def _rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(url)
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()
