"""The key that wraps data keys is replaced on a real PostgreSQL while two keyvaults serve."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from deploy.companion import key_rotation
from deploy.companion.cli import app
from deploy.companion.errors import CompanionError
from services.keyvault.actions import (
    ActivateKeyringVersion,
    ExamineVault,
    LimitChecks,
    ReportKeyring,
    RetireKeyringVersion,
    RewrapDataKeys,
    StoreKey,
)
from services.keyvault.api.rotation_gauges import DATA_KEYS, REWRAPPED, show
from services.keyvault.domain.errors import (
    VaultSealed,
    VersionClosed,
    VersionInUse,
    VersionNotEverywhere,
)
from services.keyvault.domain.keyring import new_keyring_document
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.roots import Roots
from services.keyvault.domain.rotation import Replica, with_standby
from services.keyvault.domain.secret import DataKey, new_data_key, opened_data_key
from services.keyvault.domain.vault import Vault
from services.keyvault.providers.keyring_book import KeyringBook
from services.keyvault.providers.keyring_file import KeyringFile
from services.keyvault.storage.unit_of_work import SqlWork
from services.keyvault.tasks.jobs import report_keyring
from shared.clock import SystemClock
from shared.db.database import Database, open_database
from shared.db.migrations import upgrade
from shared.errors import DependencyUnavailable
from shared.settings import service_database_url
from tests.integration.keyvault.harness import SECRET, Keyvault, Surroundings, a_user, running
from tests.support.engines import running_postgres
from tests.support.keyvault import write_keyring

ROOT = Path(__file__).parents[3]
MANY = 12_000

_REWRAP = """
import asyncio
from deploy.companion.key_rotation import rewrap
asyncio.run(rewrap(lambda progress: print(progress.rewrapped, flush=True)))
"""


@pytest.fixture
def around_alone(around: Surroundings, tmp_path: Path) -> Iterator[Surroundings]:
    """A server, a database and a keyring that nobody else uses."""
    with running_postgres(tmp_path) as server:
        server.create_database("companion_keyvault")
        upgrade("keyvault", service_database_url(server.url, "keyvault"))
        yield replace(
            around,
            database_url=server.url,
            keyring_file=write_keyring(tmp_path / "keyring.json", new_keyring_document()),
        )


def environment_of(around: Surroundings) -> dict[str, str]:
    """What the keyvault's own container would have."""
    return {
        "DATABASE_URL": around.database_url,
        "CACHE_URL": around.broker_url,
        "BROKER_URL": around.broker_url,
        "JWKS_URL": around.jwks_url,
        "IDENTITY_KEY_FILE": str(around.identities / "keyvault.pem"),
        "IDENTITY_TRUST_FILE": str(around.identities / "trusted.json"),
        "KEYVAULT_KEYRING_FILE": str(around.keyring_file),
    }


async def filled(database: Database, path: Path, count: int = MANY) -> None:
    """Data keys of many users who do nothing at the moment."""
    kek = await KeyringFile(path).read()
    roots = Roots(kek, (await kek.state()).environment, kek.fingerprint_keys)
    keys = [await new_data_key(roots, Owner.user(a_user())) for _ in range(count)]
    await database.execute(
        """
        insert into data_key (id, owner_type, owner_id, kek_version, wrapped)
        select id, 'user', owner_id, version, wrapped
        from unnest($1::uuid[], $2::uuid[], $3::int[], $4::bytea[])
            as key (id, owner_id, version, wrapped)
        """,
        [key.id for key in keys],
        [key.owner.id for key in keys],
        [key.kek_version for key in keys],
        [key.wrapped for key in keys],
    )


@contextlib.asynccontextmanager
async def traffic(keyvaults: list[Keyvault], users: list[UUID]) -> AsyncIterator[Counter[object]]:
    """Users go on storing and using keys; answers what they got."""
    answers: Counter[object] = Counter()
    is_over = asyncio.Event()

    async def one(keyvault: Keyvault, user: UUID) -> None:
        while not is_over.is_set():
            used = await keyvault.egress(user)
            answers["used", used.status_code, used.headers.get("authorization")] += 1
            stored = await keyvault.put(a_user())
            answers["stored", stored.is_success] += 1
            await asyncio.sleep(0.02)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for keyvault, user in zip(keyvaults * len(users), users, strict=False):
            group.create_task(one(keyvault, user))
        try:
            yield answers
        finally:
            is_over.set()


async def killed_in_the_middle(around: Surroundings) -> int:
    """Rewrap in a process of its own that is killed after its third page."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _REWRAP,
        cwd=ROOT,
        env={**os.environ, **environment_of(around)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        for _ in range(3):
            while not (line := await process.stdout.readline()).strip().isdigit():
                assert line, "it ended before its third page"
    process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    return int(line)


async def test_a_rotation_under_way_is_not_noticed_and_survives_a_kill(
    around_alone: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment_of(around_alone).items():
        monkeypatch.setenv(name, value)
    users = [a_user() for _ in range(4)]
    told: list[str] = []
    url = service_database_url(around_alone.database_url, "keyvault")
    async with (
        running(around_alone) as first,
        running(around_alone) as second,
        open_database(url, connections=2, application="test") as database,
    ):
        for user in users:
            assert (await first.put(user)).is_success
        await filled(database, around_alone.keyring_file)

        async with traffic([first, second], list(users)) as answers:
            assert await key_rotation.add() == 2
            # Both keyvaults have to take the file first; that is waited for.
            assert await key_rotation.activate(None, wait_seconds=10, tell=told.append) == 2
            done = await killed_in_the_middle(around_alone)
            state = (await key_rotation.status()).rotation
            assert done <= state.rewrapped[2]
            assert state.data_keys[1] > 0
            before = state.rewrapped[2]

            # Killed as it was, it is run again, twice at once.
            runs = await asyncio.gather(
                key_rotation.rewrap(lambda _: None), key_rotation.rewrap(lambda _: None)
            )
            assert [run.is_complete for run in runs] == [True, True]
            state = (await key_rotation.status()).rotation
            assert sum(run.rewrapped for run in runs) + before == state.rewrapped[2]
            assert set(state.data_keys) == {2}
            assert len(state.replicas) == 2
            await key_rotation.retire(1, wait_seconds=10, tell=told.append)
            await asyncio.sleep(0.3)  # some looks at the changed file
        assert {answer for answer in answers if answer[0] == "used"} == {  # type: ignore[index]
            ("used", 200, f"Bearer {SECRET}")
        }
        assert answers["stored", False] == 0
        assert min(answers.values()) > 10

        found = await key_rotation.status()
        assert found.keys is not None and (found.keys.active, found.keys.usable) == (2, [2])
        state = found.rotation
        show(state)
        assert DATA_KEYS.labels(2)._value.get() == sum(state.data_keys.values())
        assert REWRAPPED.labels(2)._value.get() == state.rewrapped[2] >= MANY
        await what_an_operator_reads(sum(state.data_keys.values()))
        # What was stored before the rotation opens with the new version alone.
        file = json.loads(around_alone.keyring_file.read_text())
        file["keys"] = [entry for entry in file["keys"] if entry["version"] == 2]
        write_keyring(around_alone.keyring_file, file)
        await asyncio.sleep(0.3)
        assert (await first.egress(users[0])).headers["authorization"] == f"Bearer {SECRET}"


async def test_a_console_that_gets_a_copy_of_the_keyring_rotates_it_step_by_step(
    around_alone: Surroundings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in Kubernetes, where a step's keyring goes back into the Secret (docs/kubernetes.md)."""
    for name, value in environment_of(around_alone).items():
        monkeypatch.setenv(name, value)
    user, kept, copy = a_user(), around_alone.keyring_file, tmp_path / "copy.json"
    async with running(around_alone) as keyvault:
        assert (await keyvault.put(user)).is_success
        for step in (["add"], ["activate"], ["rewrap"], ["retire", "1"]):
            write_keyring(copy, kept.read_text())
            words = ["keyring", "--file", str(copy), *step]
            result = await asyncio.to_thread(CliRunner().invoke, app, words)
            assert result.exit_code == 0, (step, result.output, result.exception)
            write_keyring(kept, copy.read_text())
        states = {row["version"]: row["state"] for row in json.loads(kept.read_text())["keys"]}
        assert states == {1: "closed", 2: "active"}
        assert (await keyvault.egress(user)).headers["authorization"] == f"Bearer {SECRET}"


async def what_an_operator_reads(data_keys: int) -> None:
    """The same verbs as commands, when the rotation is over."""

    async def companion(*words: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["keyring", *words])
        failure = result.exception
        told = failure.message if isinstance(failure, CompanionError) else result.output
        return result.exit_code, told

    code, listed = await companion("status")
    assert code == 0
    assert "version 1  closed    0 data keys" in listed
    assert f"version 2  active    {data_keys} data keys, " in listed
    assert listed.count("wraps with 2, knows 2") == 2
    assert await companion("rewrap") == (0, "0 data keys rewrapped to version 2, 0 left.\n")
    assert await companion("activate") == (1, "No version of the keyring is on standby.")
    assert await companion("retire", "2") == (
        1,
        "Version 2 is the active one; activate another first.",
    )
    code, again = await companion("retire", "1")
    assert (code, "Version 1 opens nothing more." in again) == (0, True)


class Stand:
    """A rotation's verbs on one database."""

    def __init__(self, database: Database, path: Path) -> None:
        self.database, self.vault = database, Vault()
        self.book = KeyringBook(path)
        self.examine = ExamineVault(KeyringFile(path), self.work, self.vault, may_begin=True)
        self.activate = ActivateKeyringVersion(self.book, self.work, self.examine, self.vault)
        self.rewrap = RewrapDataKeys(self.work, self.examine, self.vault)
        self.retire = RetireKeyringVersion(self.book, self.work, self.examine, self.vault)

    def work(self) -> SqlWork:
        return SqlWork(self.database)

    async def new_data_key(self) -> DataKey:
        return await new_data_key(self.vault.roots, Owner.user(a_user()))


@pytest.fixture
async def stand(fresh_database: Database, tmp_path: Path) -> Stand:
    path = write_keyring(tmp_path / "keyring.json", new_keyring_document())
    stand = Stand(fresh_database, path)
    await stand.examine()
    return stand


async def test_a_data_key_under_a_closed_version_is_refused_by_the_database(stand: Stand) -> None:
    late = await stand.new_data_key()
    await stand.book.change(with_standby)
    await stand.activate()
    await stand.retire(1)
    with pytest.raises(VersionClosed):
        async with stand.work() as work:
            await work.data_keys.add(late)


async def test_whoever_stores_a_first_key_by_an_old_keyring_meets_a_sealed_vault(
    stand: Stand,
) -> None:
    late, clock = stand.vault.roots, SystemClock()
    await stand.book.change(with_standby)
    await stand.activate()
    await stand.retire(1)
    old = Vault()
    old.open(late)
    store = StoreKey(stand.work, old, clock, LimitChecks(clock, 0))
    with pytest.raises(VaultSealed):
        await store("openai", SECRET, by=a_user(), tier="free")


async def test_retiring_waits_for_a_data_key_that_is_being_stored(stand: Stand) -> None:
    late = await stand.new_data_key()
    await stand.book.change(with_standby)
    await stand.activate()
    async with stand.work() as work:
        await work.data_keys.add(late)
        retiring = asyncio.create_task(stand.retire(1))
        await asyncio.sleep(0.1)
        assert not retiring.done()
    with pytest.raises(VersionInUse, match="1 keys are still wrapped"):
        await retiring
    assert (await stand.rewrap()).rewrapped == 1
    await stand.retire(1)


async def test_storing_a_secret_does_not_wait_for_a_rewrap(stand: Stand) -> None:
    """The foreign key's lock and the rewrap's get along."""
    key = await stand.new_data_key()
    async with stand.work() as work:
        await work.data_keys.add(key)
    async with stand.work() as rewrapping, stand.work() as storing:
        assert await rewrapping.data_keys.claim_older(2, after=None, most=9) == [key]
        await storing.connection.execute("set local lock_timeout = '500ms'")
        await storing.connection.execute("select from data_key where id = $1 for key share", key.id)
        # A second rewrap does not wait either: it leaves this one out.
        async with stand.work() as other:
            assert await other.data_keys.claim_older(2, after=None, most=9) == []


async def test_a_data_key_that_somebody_else_rewrapped_is_left_as_it_is(stand: Stand) -> None:
    key = await stand.new_data_key()
    async with stand.work() as work:
        await work.data_keys.add(key)
        mine = replace(key, kek_version=2, wrapped=b"mine")
        assert await work.data_keys.replace_wraps([(key, mine)]) == 1
        theirs = replace(key, kek_version=2, wrapped=b"theirs")
        assert await work.data_keys.replace_wraps([(key, theirs)]) == 0
        assert await work.data_keys.of(key.owner) == mine


async def test_a_shredded_data_key_does_not_come_back(stand: Stand) -> None:
    key = await stand.new_data_key()
    async with stand.work() as work:
        await work.data_keys.add(key)
        await work.data_keys.shred(key.owner)
        assert await work.data_keys.replace_wraps([(key, replace(key, kek_version=2))]) == 0
        assert await work.data_keys.of(key.owner) is None


async def test_pages_go_by_version_and_id_and_miss_none(stand: Stand) -> None:
    keys = [await stand.new_data_key() for _ in range(7)]
    async with stand.work() as work:
        for key in keys:
            await work.data_keys.add(key)
        found: list[DataKey] = []
        while page := await work.data_keys.claim_older(
            2, after=found[-1] if found else None, most=3
        ):
            found += page
    assert found == sorted(keys, key=lambda key: key.id)


async def test_a_process_counts_while_its_word_is_good(stand: Stand) -> None:
    async with stand.work() as work:
        web = Replica("web", 1, frozenset({1}))
        await work.rotation.report(web, good_for=timedelta(minutes=1))
        await work.rotation.report(Replica("gone", 1, frozenset({1})), good_for=timedelta(0))
        assert await work.rotation.live() == [web]
    await stand.book.change(with_standby)
    with pytest.raises(VersionNotEverywhere):
        await stand.activate()
    async with stand.work() as work:
        await work.rotation.leave("web")
    assert await stand.activate() == 2


async def test_a_lost_database_ends_a_rewrap_with_what_is_done(stand: Stand) -> None:
    key = await stand.new_data_key()
    async with stand.work() as work:
        await work.data_keys.add(key)
    await stand.book.change(with_standby)
    await stand.activate()

    def unreachable() -> SqlWork:
        raise DependencyUnavailable("database")

    with pytest.raises(DependencyUnavailable):
        await replace(stand.rewrap, unit_of_work=unreachable)()
    assert (await stand.rewrap()).rewrapped == 1
    async with stand.work() as work:
        moved = await work.data_keys.of(key.owner)
    assert moved is not None
    async with opened_data_key(stand.vault.roots, moved) as content:
        assert len(content) == 32


async def test_a_worker_tells_of_its_keyring_too(stand: Stand) -> None:
    report = ReportKeyring(stand.work, stand.vault)
    actions: Any = SimpleNamespace(examine_vault=stand.examine, report_keyring=report)
    await report_keyring(actions)
    async with stand.work() as work:
        (worker,) = await work.rotation.live()
    assert worker.name.startswith("worker ")
    assert (worker.active, set(worker.versions)) == (1, {1})
