"""The doctor looks at real engines and says what would cost somebody's data, or a night."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg2
import pytest

from deploy.companion import key_rotation, server_checks
from deploy.companion.backup.restore import known_revisions
from deploy.companion.care_checks import care
from deploy.companion.checks import Finding
from deploy.companion.data_dir import DataDir
from deploy.companion.deployment import Deployment, Hosts
from deploy.companion.queues import declare_all
from deploy.companion.server_checks import Site, examine_site
from services.keyvault.actions.watch_rotation import RotationState
from services.keyvault.domain.key_encryption import KekState
from services.keyvault.domain.keyring import KeyState
from shared.db.migrations import upgrade
from tests.support.engines import PostgresServer, RabbitServer, ValkeyServer


@pytest.fixture
def site(
    postgres_server: PostgresServer, valkey_server: ValkeyServer, tmp_path: Path
) -> Iterator[Site]:
    """One service at the engines of the tests, which are hasty and keep nothing."""
    template = postgres_server.ensure_template("backup_chat", partial(upgrade, "chat"))
    with (
        postgres_server.fresh_database(template=template) as database,
        valkey_server.fresh_database() as cache,
    ):
        yield Site(postgres_server.engine.superuser_url, {"chat": database}, cache, cache, tmp_path)


def problems(findings: list[Finding], subject: str = "") -> str:
    found = [one for one in findings if one.level != "ok" and subject in one.subject]
    assert all(one.remedy for one in found), "whoever reads it wants to know what to do"
    return " ".join(one.text for one in found)


def test_engines_that_may_lose_what_they_confirmed_are_named(site: Site) -> None:
    checks = (server_checks.postgres, server_checks.cache, server_checks.broker)
    findings = examine_site(site, checks)
    assert "fsync is off" in problems(findings, "postgres")
    assert "synchronous_commit is off" in problems(findings, "postgres")
    assert "appendonly is off" in problems(findings, "cache")
    assert next(one for one in findings if one.subject == "cache").level == "ok"


def test_more_connections_than_there_is_room_for_are_told(site: Site) -> None:
    known = replace(site, most_connections=10_000)
    assert "may open 10000" in problems(examine_site(known, (server_checks.connections,)))
    fine = examine_site(site, (server_checks.connections, server_checks.clocks))
    assert problems(fine) == ""


def test_old_tables_late_and_dead_events_are_told(site: Site) -> None:
    checks = (server_checks.migrations, server_checks.events)
    assert problems(examine_site(site, checks)) == ""
    connection = psycopg2.connect(site.databases["chat"])
    with contextlib.closing(connection), connection, connection.cursor() as cursor:
        cursor.execute("update alembic_version set version_num = '0001'")
        cursor.execute(
            "insert into outbox (event_id, stream, envelope, created_at)"
            " values (gen_random_uuid(), 's', '{}', now() - interval '1 hour')"
        )
        cursor.execute("insert into dead_event (task, reason, body) values ('t', 'r', '{}')")
    said = problems(examine_site(site, checks))
    assert "chat is at 0001" in said
    assert "the oldest for 3,600 s" in said
    assert "1 events could not be handled" in said
    with contextlib.closing(psycopg2.connect(site.databases["chat"])) as connection, connection:
        connection.cursor().execute("update alembic_version set version_num = '9999'")
    [newer] = examine_site(site, (server_checks.migrations,))
    assert newer.level == "warning" and "chat is at 9999: a newer release" in newer.text
    others = replace(site, databases={"voice": site.databases["chat"]})
    for revision in ("9999", known_revisions("voice")[0]):
        with contextlib.closing(psycopg2.connect(site.databases["chat"])) as connection, connection:
            connection.cursor().execute("update alembic_version set version_num = %s", (revision,))
        [foreign] = examine_site(others, (server_checks.migrations,))
        assert foreign.level == "problem" and f"voice is at {revision} and has no" in foreign.text


def test_what_can_not_be_reached_is_a_problem_and_gives_no_password_away(site: Site) -> None:
    gone = "redis://:marked-password@127.0.0.1:1/0"
    broken = replace(
        site,
        server_url="postgresql://x:marked-password@127.0.0.1:1",
        databases={"chat": "postgresql://x:marked-password@127.0.0.1:1/x"},
        cache_url=gone,
        broker_url=gone,
    )
    checks = tuple(check for check in server_checks.ALL if check is not server_checks.keyring)
    findings = examine_site(broken, checks)
    assert {one.level for one in findings} == {"problem"}
    assert len(findings) == len(checks)
    assert "marked-password" not in str(findings)


def test_what_is_damaged_is_a_finding_beside_the_others(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("AUTH_", "COMPANION_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "auth-signing-keys.json").write_text("[1]")
    (tmp_path / "auth-signing-keys.json").chmod(0o600)
    (tmp_path / "last-backup.json").write_text('{"at": "2026-11-01T00:00:00", "path": 7}')
    found = care(tmp_path, sandbox=False, data=DataDir(tmp_path))
    assert [one.subject for one in found] == ["settings", "secrets", "rotation", "backup"]
    assert "can't be looked at (AttributeError)" in problems(found, "rotation")
    assert found[3].level == "warning"
    assert "There is no folder" in problems(care(tmp_path / "none", sandbox=True), "secrets")

    for address in ("", "postgresql:/x:marked-password@h", "postgresql://x:marked-password@h:no"):
        unknown = replace(site, server_url=address, databases={"chat": address})
        checks = (server_checks.postgres, server_checks.events)
        findings = examine_site(unknown, checks)
        assert [one.level for one in findings] == ["problem", "problem"]
        assert "marked-password" not in str(findings)
    with contextlib.closing(psycopg2.connect(site.databases["chat"])) as connection, connection:
        connection.cursor().execute("delete from alembic_version")
    assert "IndexError" in problems(examine_site(site, (server_checks.migrations,)))


def test_queues_without_listeners_and_a_broker_that_is_full_are_told(
    site: Site, rabbitmq_server: RabbitServer | None
) -> None:
    if rabbitmq_server is None:
        pytest.skip("this machine has no RabbitMQ")
    with rabbitmq_server.fresh_virtual_host() as url:
        known = replace(site, broker_url=url)
        assert "There are no queues" in problems(examine_site(known, (server_checks.broker,)))
        declare_all(url)
        with rabbitmq_server.disk_alarm():
            said = problems(examine_site(known, (server_checks.broker,)))
    assert "There are no queues" not in said
    assert "Nobody listens to" in said
    assert "The broker takes no messages" in said


def test_old_and_open_secrets_and_misspelt_settings_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("AUTH_", "COMPANION_"))]:
        monkeypatch.delenv(name)
    key = tmp_path / "identity" / "chat.pem"
    key.parent.mkdir()
    key.write_text("x")
    key.chmod(0o600)
    assert "not looked at" in problems(care(tmp_path, sandbox=True), "settings")
    settings = tmp_path / "settings"
    settings.mkdir()
    monkeypatch.setenv("COMPANION_SETTINGS", str(settings))
    assert problems(care(tmp_path, sandbox=True)) == ""

    key.chmod(0o644)
    long_ago = time.time() - 200 * 86_400
    os.utime(key, (long_ago, long_ago))
    monkeypatch.setenv("CHAT_RETRYS", "3")
    (settings / "gateway.env").write_text("CORS_ORIGINS=https://a.example\n")
    (settings / "gateway.env").chmod(0o600)
    said = problems(care(tmp_path, sandbox=True))
    assert f"CORS_ORIGINS in {settings}/gateway.env does nothing" in said
    assert f"Others can read {key}" in said
    assert "identities: 200 days old" in said
    assert "CHAT_RETRYS (CHAT_RETRIES?)" in said


def test_a_deployments_keyring_is_looked_at(
    valkey_server: ValkeyServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With no more than the folder of secrets; and a keyring that opens nothing is a problem."""
    secrets = tmp_path / "secrets"
    Deployment(secrets).create(Hosts())
    for name in ("KEYVAULT_KEYRING", "KEYVAULT_KEYRING_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COMPANION_SECRETS", str(secrets))
    # Not the engine of the tests: a keyvault's database is there, once others of them have run.
    (secrets / "keyvault" / "database_url").write_text("postgresql://nobody:nothing@127.0.0.1:1")
    (secrets / "keyvault" / "cache_url").write_text(valkey_server.url)
    known = Site("", {}, "", "", secrets)
    [finding] = examine_site(known, (server_checks.keyring,))
    assert finding.level == "problem" and "database" in finding.text
    (secrets / "keyvault" / "keyring.json").write_text("{}")
    [finding] = examine_site(known, (server_checks.keyring,))
    assert finding.level == "problem" and "sealed" in finding.text and finding.remedy


def test_a_keyring_whose_active_version_is_old_is_told(
    postgres_server: PostgresServer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def status() -> key_rotation.KeyringStatus:
        keys = KekState("test", 2, {2: KeyState.ACTIVE})
        return key_rotation.KeyringStatus(keys, RotationState({2: 1}, {}, ()))

    monkeypatch.setattr(key_rotation, "status", status)
    template = postgres_server.ensure_template("doctor_keyvault", partial(upgrade, "keyvault"))
    with postgres_server.fresh_database(template=template) as url:
        known = replace(site, databases={"keyvault": url})
        insert = (
            "insert into keyring_canary (purpose, version, proof, created_at)"
            " values ('wrapping', %s, 'x', now() - %s * interval '1 day')"
        )
        for version, days in ((1, 500), (2, 100), (3, 0)):
            with contextlib.closing(psycopg2.connect(url)) as connection, connection:
                connection.cursor().execute(insert, (version, days))
        findings = examine_site(known, (server_checks.keyring,))
        assert problems(findings) == "" and "keyring 100 d" in [one.text for one in findings]
        with contextlib.closing(psycopg2.connect(url)) as connection, connection:
            older = "update keyring_canary set created_at = created_at - interval '81 days'"
            connection.cursor().execute(older)
        said = problems(examine_site(known, (server_checks.keyring,)))
        assert said == "The keyring: 181 days old, due after 180."
