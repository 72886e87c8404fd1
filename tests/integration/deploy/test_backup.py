"""A backup holds one moment of all databases, gives no secret away, and restores over nothing."""

from __future__ import annotations

import contextlib
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg2
import pytest

from deploy.companion.backup import create as creation
from deploy.companion.backup import cut, erasures, sealing
from deploy.companion.backup import restore as coming_back
from deploy.companion.backup.create import create, passphrase_from, without_password
from deploy.companion.backup.estate import Estate
from deploy.companion.backup.restore import restore_deployment, restore_embedded, verify
from deploy.companion.console import Console
from deploy.companion.deployment import Deployment, Hosts
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.ports import free_port
from deploy.companion.programs import SERVICES
from deploy.companion.settings import Settings
from deploy.companion.startup import up
from services.auth.domain.erasure import Erasure
from shared.db.migrations import upgrade
from shared.erasure import ErasureId
from shared.ids import UserId, uuid7
from tests.support.engines import PostgresServer, ValkeyServer, running_postgres

PASSPHRASE = "a phrase that nobody has thought of"
SECRET = "marked-secret-of-the-keyring"
_SENT = """
insert into outbox_sent (stream, sequence, event_id, envelope, created_at)
values (%s, %s, %s, '{"type": "x"}', now())
"""
_HANDLED = "insert into inbox (event_id) values (%s)"


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_COST", 1 << 10)


@pytest.fixture
def nothing(tmp_path: Path) -> Estate:
    """Where a restore that is refused at once would go."""
    return Estate({}, tmp_path / "nothing")


@pytest.fixture
def fresh(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Estate]:
    """A new installation: empty databases, and no secrets yet."""
    with contextlib.ExitStack() as stack:
        databases = {
            service: stack.enter_context(postgres_server.fresh_database()) for service in SERVICES
        }
        yield Estate(databases, tmp_path / "fresh")


@pytest.fixture
def estate(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Estate]:
    """An installation with tables, a secret and one event from auth to billing."""
    with contextlib.ExitStack() as stack:
        databases = {}
        for service in SERVICES:
            template = postgres_server.ensure_template(
                f"backup_{service}", partial(upgrade, service)
            )
            fresh = postgres_server.fresh_database(template=template)
            databases[service] = stack.enter_context(fresh)
        filled = Estate(databases, tmp_path / "secrets")
        (filled.secrets / "keyvault").mkdir(parents=True)
        (filled.secrets / "keyvault" / "keyring.json").write_text(SECRET)
        event = str(uuid7())
        run(filled, "auth", _SENT, "user.deleted.free", 1, event)
        run(filled, "billing", _HANDLED, event)
        yield filled


def run(estate: Estate, service: str, sql: str, *values: object) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(estate.databases[service])
    with contextlib.closing(connection), connection, connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []


def restore(source: Path, into: Estate, passphrase: str | None = PASSPHRASE) -> int:
    done = restore_deployment(
        source, into.secrets, passphrase, tell=lambda _: None, estate_of=lambda _: into
    )
    return done.sent_again


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_what_was_backed_up_comes_back_and_is_sent_once_more(
    estate: Estate, fresh: Estate, tmp_path: Path, name: str
) -> None:
    taken = create(estate, tmp_path / name, PASSPHRASE)
    assert verify(taken.path, PASSPHRASE) == taken.manifest
    assert set(taken.manifest.databases) == set(SERVICES)

    assert restore(taken.path, fresh) == 1

    assert (fresh.secrets / "keyvault" / "keyring.json").read_text() == SECRET
    assert (fresh.secrets / "keyvault" / "keyring.json").stat().st_mode & 0o077 == 0
    sent = run(fresh, "auth", "select stream, sequence from outbox")
    assert sent == [("user.deleted.free", 1)]
    # Its listener has had it, and will know it again.
    assert run(fresh, "billing", "select event_id from inbox") == run(
        estate, "billing", "select event_id from inbox"
    )
    with pytest.raises(CompanionError, match="not empty"):
        restore(taken.path, fresh)


def test_no_secret_is_in_it_in_clear_and_none_replaces_another(
    estate: Estate, tmp_path: Path
) -> None:
    taken = create(estate, tmp_path / "backup", PASSPHRASE)
    files = [path for path in taken.path.rglob("*") if path.is_file()]
    assert len(files) == len(SERVICES) + 2
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert not [path for path in files if path.stat().st_mode & 0o077]
    with pytest.raises(CompanionError, match="there already"):
        create(estate, taken.path, PASSPHRASE)
    with pytest.raises(CompanionError, match="shorter than"):
        create(estate, tmp_path / "other", "too short")
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []
    assert not (tmp_path / "other").exists()


def test_secrets_are_whole_also_where_kubernetes_mounts_them(
    estate: Estate, fresh: Estate, tmp_path: Path
) -> None:
    """It links each file to `..data`, and that to a folder that changes with the Secret."""
    mounted = estate.secrets / "keyvault"
    (mounted / "..2026_11_28").mkdir()
    (mounted / "keyring.json").rename(mounted / "..2026_11_28" / "keyring.json")
    (mounted / "..data").symlink_to("..2026_11_28")
    (mounted / "keyring.json").symlink_to("..data/keyring.json")

    restore(create(estate, tmp_path / "backup", PASSPHRASE).path, fresh)

    [restored] = [path for path in fresh.secrets.rglob("*") if path.is_symlink() or path.is_file()]
    assert restored == fresh.secrets / "keyvault" / "keyring.json"
    assert not restored.is_symlink() and restored.read_text() == SECRET


def test_a_backup_that_was_tampered_with_is_refused(
    estate: Estate, nothing: Estate, tmp_path: Path
) -> None:
    taken = create(estate, tmp_path / "backup", PASSPHRASE)
    with pytest.raises(CompanionError, match="do not open"):
        restore(taken.path, nothing, "another phrase that is long enough")
    with pytest.raises(CompanionError, match="sealed"):
        restore(taken.path, nothing, None)

    changed = shutil.copytree(taken.path, tmp_path / "changed")
    (changed / "auth.dump").write_bytes(b"something else")
    with pytest.raises(CompanionError, match="is not what was backed up"):
        restore(changed, nothing)
    # Also when whoever did it has put the sums right: these are bound to the secrets.
    manifest = changed / "manifest.json"
    digest = taken.manifest.files["auth.dump"]
    manifest.write_text(manifest.read_text().replace(digest, _digest(changed / "auth.dump")))
    with pytest.raises(CompanionError, match="do not open"):
        restore(changed, nothing)

    (changed / "manifest.json").unlink()
    with pytest.raises(CompanionError, match="is no backup"):
        restore(changed, nothing)


def test_secrets_behind_links_are_in_it_and_what_can_not_be_read_stops_it(
    estate: Estate, fresh: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "safe"
    (estate.secrets / "keyvault").rename(elsewhere)
    (estate.secrets / "keyvault").symlink_to(elsewhere)
    (elsewhere / "again").symlink_to(estate.secrets)

    restore(create(estate, tmp_path / "backup", PASSPHRASE).path, fresh)

    assert (fresh.secrets / "keyvault" / "keyring.json").read_text() == SECRET

    def refused(*_arguments: object, **_named: object) -> None:
        raise PermissionError(13, "Permission denied", "a secret")

    monkeypatch.setattr(tarfile.TarFile, "add", refused)
    with pytest.raises(CompanionError, match="a secret: Permission denied"):
        create(estate, tmp_path / "other", PASSPHRASE)
    assert not (tmp_path / "other").exists()


def test_secrets_that_change_while_it_is_taken_are_no_part_of_it(
    estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a version that is retired meanwhile would be missing for what the dumps hold."""
    dump = creation._dump

    def meanwhile(url: str, snapshot: cut.Snapshot, target: Path) -> None:
        (estate.secrets / "keyvault" / "keyring.json").write_text("without the old version")
        dump(url, snapshot, target)

    monkeypatch.setattr(creation, "_dump", meanwhile)
    with pytest.raises(CompanionError, match="were changed"):
        create(estate, tmp_path / "backup", PASSPHRASE)
    assert not (tmp_path / "backup").exists()


def test_a_passphrase_is_the_same_from_a_file_and_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passphrase"
    file.write_text(f"{PASSPHRASE}\n")
    monkeypatch.setenv("COMPANION_BACKUP_PASSPHRASE", f"{PASSPHRASE}\r\n")
    assert passphrase_from(file) == passphrase_from(None) == PASSPHRASE
    monkeypatch.setenv("COMPANION_BACKUP_PASSPHRASE", " \n")
    assert passphrase_from(None) is None
    with pytest.raises(CompanionError, match="can't be read"):
        passphrase_from(tmp_path / "none")
    file.write_text("")
    with pytest.raises(CompanionError, match="shorter than"):
        create(Estate({}, tmp_path), tmp_path / "backup", passphrase_from(file))


def test_no_password_is_in_the_list_of_processes() -> None:
    for url in (
        "postgresql://ada:marked%21@[::1]:5432/x?sslmode=require",
        "postgresql://ada@[::1]:5432/x?password=marked%21&sslmode=require",
    ):
        address, environment = without_password(url)
        assert address == "postgresql://ada@[::1]:5432/x?sslmode=require"
        assert environment["PGPASSWORD"] == "marked!"


def test_what_may_have_waited_over_a_long_weekend_is_sent_once_more(
    estate: Estate, tmp_path: Path
) -> None:
    taken = create(estate, tmp_path / "backup", None)
    run(estate, "auth", "delete from outbox_sent")
    for stream, sequence, ago in (
        ("user.deleted.free", 1, "8 days"),
        ("user.deleted.free", 2, "6 days"),
        ("usage.recorded.free", 3, "6 days"),
        ("usage.recorded.free", 4, "9 minutes"),
        ("usage.manifest", 5, "9 minutes"),
    ):
        run(estate, "auth", _SENT, stream, sequence, str(uuid7()))
        run(
            estate,
            "auth",
            "update outbox_sent set sent_at = %s::timestamptz - %s::interval where sequence = %s",
            taken.manifest.at,
            ago,
            sequence,
        )

    assert coming_back._prepare_events(estate.databases["auth"], taken.manifest) == 2

    assert run(estate, "auth", "select sequence from outbox order by sequence") == [(2,), (4,)]
    # Whoever asks for older usage finds it where it was.
    kept = run(estate, "auth", "select sequence from outbox_sent order by sequence")
    assert kept == [(1,), (3,), (5,)]


def test_a_manifest_that_tells_of_half_a_backup_is_refused(
    estate: Estate, nothing: Estate, tmp_path: Path
) -> None:
    taken = create(estate, tmp_path / "backup", None)
    file = taken.path / "manifest.json"
    whole = json.loads(file.read_text())
    (taken.path / "auth.dump").unlink()
    del whole["files"]["auth.dump"]
    halves = [whole, {**whole, "at": "yesterday"}, {**whole, "databases": {}}, [], "x", None]
    for half in halves:
        file.write_text(json.dumps(half))
        with pytest.raises(CompanionError, match="is damaged"):
            restore(taken.path, nothing)
    with file.open("w") as huge:
        huge.truncate(1 << 30)
    with pytest.raises(CompanionError, match="is damaged"):
        restore(taken.path, nothing)


def test_the_archive_comes_back_whole_and_replaces_nothing(
    estate: Estate, fresh: Estate, tmp_path: Path
) -> None:
    archived = tmp_path / "archive"
    (archived / "2026").mkdir(parents=True)
    for name in ("one.parquet", "two.parquet"):
        (archived / "2026" / name).write_text(name)
    taken = create(replace(estate, archive=archived), tmp_path / "backup", PASSPHRASE)
    (taken.path / "archive" / "2026" / "stranger.parquet").write_text("not in the manifest")
    back = tmp_path / "back"
    (back / "2026").mkdir(parents=True)
    (back / "2026" / "two.parquet").write_text("another")

    restore(taken.path, replace(fresh, archive=back))

    found = {path.name: path.read_text() for path in back.rglob("*") if path.is_file()}
    assert found == {"one.parquet": "one.parquet", "two.parquet": "another"}


_ARCHIVED = """
insert into ledger_archive (partition, begins, ends, first_chain, last_chain, state, changed_at)
values ('ledger_entry_20260101', gen_random_uuid(), gen_random_uuid(), 1, 1, %s, now())
"""


@pytest.mark.parametrize("state", ["exported", "verified", "dropped"])
def test_a_ledger_that_has_left_into_files_is_not_backed_up_without_them(
    estate: Estate, tmp_path: Path, state: str
) -> None:
    run(estate, "billing", _ARCHIVED, state)
    folder, place = tmp_path / "ledger", tmp_path / "backup"
    for archive in (None, folder):
        with pytest.raises(CompanionError, match="1 partitions in files") as refused:
            create(replace(estate, archive=archive), place, PASSPHRASE)
        assert "BILLING_LEDGER_ARCHIVE_DIR" in refused.value.remedy
    # As the engine makes a folder whose name was misspelt.
    folder.mkdir()
    with pytest.raises(CompanionError, match="none is in"):
        create(replace(estate, archive=folder), place, PASSPHRASE)

    (folder / "ledger_entry_20260101.parquet").write_text("whole")
    taken = create(replace(estate, archive=folder), place, PASSPHRASE)
    assert (taken.path / "archive/ledger_entry_20260101.parquet").read_text() == "whole"


def test_what_is_still_on_its_way_into_a_file_is_in_the_database(
    estate: Estate, tmp_path: Path
) -> None:
    run(estate, "billing", _ARCHIVED, "exporting")
    assert create(estate, tmp_path / "backup", PASSPHRASE).manifest.ledger["entries"] == 0


def test_a_restore_goes_over_nothing_and_what_it_left_half_way_is_not_started(
    estate: Estate, tmp_path: Path
) -> None:
    taken = create(estate, tmp_path / "backup", PASSPHRASE)
    environment = {"COMPANION_DATA_DIR": str(tmp_path / "data"), "PORT": str(free_port())}
    installation = Installation.open(Settings.from_environment(environment))
    data = installation.data

    def attempt() -> None:
        restore_embedded(taken.path, installation, PASSPHRASE, tell=lambda _: None)

    for folder in (data.postgres, data.valkey, data.secrets):
        folder.mkdir(parents=True)
        (folder / "mine").write_text("x")
        with pytest.raises(CompanionError, match="is in use"):
            attempt()
        assert (folder / "mine").read_text() == "x"
        shutil.rmtree(folder)

    with pytest.raises(CompanionError, match="of a deployment"):
        attempt()
    assert not data.root.joinpath("run").exists()
    (estate.secrets / "passwords.json").write_text("{}")
    embedded = create(estate, tmp_path / "embedded", PASSPHRASE)
    with pytest.raises(CompanionError, match="of the embedded default"):
        restore(embedded.path, Estate({}, tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    with pytest.raises(CompanionError, match="no backup at"):
        verify(tmp_path / "none", PASSPHRASE)

    # As a kill leaves it.
    data.secrets.mkdir()
    data.unfinished_restore.touch()
    with pytest.raises(CompanionError, match="did not come to its end"):
        attempt()
    with pytest.raises(CompanionError, match="did not come to its end"):
        up(installation, Console())


def test_a_database_that_does_not_come_back_is_told_with_those_that_did(
    estate: Estate, fresh: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = create(estate, tmp_path / "backup", PASSPHRASE)
    load = coming_back._load

    def all_but_chat(url: str, dump: Path) -> None:
        if dump.stem == "chat":
            dump = tmp_path / "none.dump"
        load(url, dump)

    monkeypatch.setattr(coming_back, "_load", all_but_chat)
    with pytest.raises(CompanionError, match="failed for none") as told:
        restore(taken.path, fresh)
    assert "auth, keyvault, voice, billing anew" in told.value.remedy


def test_an_effect_without_its_cause_makes_it_look_again(
    estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a producer's snapshot is older than what its listener has had from it."""
    stranger = str(uuid7())
    run(estate, "billing", _HANDLED, stranger)
    with pytest.raises(CompanionError, match="one moment"):
        create(estate, tmp_path / "backup", PASSPHRASE)

    looked = []
    see = cut.effects_without_cause

    def late(snapshots: dict[str, cut.Snapshot]) -> int:
        looked.append(see(snapshots))
        run(estate, "chat", _SENT + " on conflict do nothing", "key.x.free", 1, stranger)
        return looked[-1]

    monkeypatch.setattr(cut, "effects_without_cause", late)
    create(estate, tmp_path / "backup", PASSPHRASE)
    assert looked == [1, 0]


def _digest(path: Path) -> str:
    from deploy.companion.backup.manifest import sha256_of

    return sha256_of(path)


def test_a_deployment_comes_back_with_its_secrets_and_without_whom_it_had_deleted(
    tmp_path: Path, valkey_server: ValkeyServer
) -> None:
    """As in containers: a role and a folder for each service, and nobody else's rights."""
    with running_postgres(tmp_path) as server:
        host = server.url.rpartition("@")[2]
        secrets = tmp_path / "secrets"
        Deployment(secrets).create(Hosts(postgres=host))
        (secrets / "auth" / "cache_url").write_text(valkey_server.url)
        _make_roles(server, secrets, drop_first=False)
        estate = Estate.of_deployment(secrets)
        for service, url in estate.databases.items():
            upgrade(service, url)
        erased = Erasure(ErasureId(uuid7()), _account(estate), b"x" * 32, datetime.now(UTC))
        taken = create(estate, tmp_path / "backup", PASSPHRASE)

        keyring = (secrets / "keyvault" / "keyring.json").read_text()
        shutil.rmtree(secrets)
        # A container's folder, which can't be exchanged; an earlier restore was broken off in it.
        secrets.mkdir()
        (secrets / ".restored" / "billing").mkdir(parents=True)
        (secrets / "auth").mkdir()
        mounted = secrets.stat().st_ino
        # The engines have yet to be made with the secrets that come back.
        with pytest.raises(CompanionError):
            _drop_databases(server)
            restore_deployment(taken.path, secrets, PASSPHRASE, tell=lambda _: None)
        assert (secrets / "keyvault" / "keyring.json").read_text() == keyring
        assert secrets.stat().st_ino == mounted
        assert not (secrets / ".restored").exists()
        _make_roles(server, secrets, drop_first=True)

        replayed = []
        restore_deployment(
            taken.path,
            secrets,
            PASSPHRASE,
            tell=lambda _: None,
            after=lambda _: replayed.append(
                erasures.replay(erasures.settings_of_deployment(secrets), [erased])
            ),
        )

        assert list(replayed[0].again) == [erased.user_id]
        assert run(estate, "auth", "select count(*) from user_account") == [(0,)]
        stream = run(estate, "auth", "select distinct stream from outbox")
        assert stream == [("user.deleted.free",)]
        kept = tmp_path / "erasures"
        assert erasures.keep(estate, kept) == 1
        assert [one.id for one in erasures.read(kept)] == [erased.id]


def _make_roles(server: PostgresServer, secrets: Path, *, drop_first: bool) -> None:
    """What the cluster runs when it is made."""
    connection = psycopg2.connect(f"{server.engine.superuser_url}/postgres")
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        if drop_first:
            for service in SERVICES:
                cursor.execute(f"drop role companion_{service}")
        for statement in (secrets / "postgres" / "init.sql").read_text().splitlines():
            # The engine of the tests has made the group of readers already.
            if statement.startswith(("create role companion_", "create database", "revoke all")):
                cursor.execute(statement)


def _drop_databases(server: PostgresServer) -> None:
    connection = psycopg2.connect(f"{server.engine.superuser_url}/postgres")
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        for service in SERVICES:
            cursor.execute(f"drop database companion_{service} with (force)")


def _account(estate: Estate) -> UserId:
    id_ = uuid7()
    run(
        estate,
        "auth",
        "insert into user_account (id, email, username, username_key, password_hash,"
        " password_changed_at, tier, tier_revision, role, is_active, email_verified, created_at,"
        " updated_at) values (%s, 'ada@example.com', 'ada', 'ada', 'x', now(), 'free', 0,"
        " 'member', true, false, now(), now())",
        str(id_),
    )
    return UserId(id_)
