"""The key that wraps data keys is replaced: step by step, killed at every step, and rerun."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.keyvault.actions import (
    ActivateKeyringVersion,
    AddKeyringVersion,
    ExamineVault,
    ReportKeyring,
    RetireKeyringVersion,
    RewrapDataKeys,
    ShowRotation,
    rewrap_data_keys,
)
from services.keyvault.domain.errors import (
    KeyringIsElsewhere,
    VaultSealed,
    VersionClosed,
    VersionInUse,
    VersionIsActive,
    VersionNotEverywhere,
)
from services.keyvault.domain.keyring import new_keyring_document
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.rotation import Progress
from services.keyvault.domain.secret import DataKey, new_data_key, opened_data_key
from services.keyvault.domain.vault import Vault
from services.keyvault.providers.data_key_cache import CachedKeyEncryption
from services.keyvault.providers.keyring_book import KeyringBook
from services.keyvault.providers.keyring_file import KeyringFile
from services.keyvault.providers.remote_kek import RemoteKeyEncryption
from services.keyvault.providers.vault_transit import TransitKey, VaultTransit
from shared.ids import UserId
from tests.support.key_services import TransitStandIn, serving
from tests.support.keyvault import (
    Desk,
    MemoryDataKeys,
    MemoryWork,
    a_grant,
    an_open_desk,
    write_keyring,
)

SECRET = "sk-marked-0123456789-abcd"
USERS = [UserId(UUID(int=number)) for number in range(1, 6)]


class Killed(BaseException):
    """The process ends here; nothing of ours may catch it."""


@dataclass
class Trap:
    """Counts the steps of a run, and kills it at one of them."""

    at: int = -1
    steps: int = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Killed


class Trapped:
    """Something whose methods are steps: it may be killed before and after each."""

    def __init__(self, inner: Any, trap: Trap) -> None:
        self._inner, self._trap = inner, trap

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def stepping(*words: Any, **named: Any) -> Any:
            self._trap.step()
            answer = await method(*words, **named)
            self._trap.step()
            return answer

        return stepping


class TrappedWork(MemoryWork):
    """A transaction that may be killed before each statement, before and after its commit."""

    def __init__(self, store: Any, trap: Trap) -> None:
        super().__init__(store)
        self._trap = trap

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in {"canaries", "data_keys", "rotation"}:
            return Trapped(found, super().__getattribute__("_trap"))
        return found

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self._trap.step()
        await super().__aexit__(kind, error, trace)
        self._trap.step()


@dataclass
class Console:
    """The verbs of a rotation, in a process of their own beside the service."""

    desk: Desk
    path: Path
    trap: Trap = field(default_factory=Trap)

    def __post_init__(self) -> None:
        book: Any = Trapped(KeyringBook(self.path), self.trap)
        vault = Vault()
        examine = ExamineVault(KeyringFile(self.path), self.work, vault)
        self.add = AddKeyringVersion(book)
        self.activate = ActivateKeyringVersion(book, self.work, examine, vault)
        self.rewrap = RewrapDataKeys(self.work, examine, vault)
        self.retire = RetireKeyringVersion(book, self.work, examine, vault)
        self.show = ShowRotation(self.work)

    def work(self) -> Any:
        return TrappedWork(self.desk.store, self.trap)

    @property
    def steps(self) -> list[Callable[[], Awaitable[Any]]]:
        """What an operator types, one after the other."""
        return [
            self.add,
            lambda: self.activate(2),
            self.rewrap,
            lambda: self.retire(1),
        ]

    def versions(self) -> set[int]:
        return {key.kek_version for key in self.desk.store.data_keys.values()}


async def a_console(folder: Path) -> Console:
    """Beside a service in which five users have stored a key."""
    path = write_keyring(folder / f"{uuid4()}.json", new_keyring_document())
    desk = await an_open_desk(source=KeyringFile(path))
    for user in USERS:
        await desk.store_key("openai", SECRET, by=user, tier="free")
    return Console(desk, path)


async def all_opens(console: Console) -> bool:
    """Whether the service, at its next look, opens what everybody has stored."""
    await console.desk.examine_vault()
    for data_key in console.desk.store.data_keys.values():
        async with opened_data_key(console.desk.vault.roots, data_key) as key:
            assert len(key) == 32
    return len(console.desk.store.data_keys) == len(USERS)


@pytest.fixture
async def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setattr(rewrap_data_keys, "PAGE", 2)
    return await a_console(tmp_path)


async def test_a_rotation_from_start_to_end(console: Console) -> None:
    assert await console.add() == 2
    assert await all_opens(console)
    assert await console.activate() == 2
    assert await all_opens(console)
    told: list[Progress] = []
    assert await console.rewrap(told.append) == Progress(2, rewrapped=5, left=0)
    assert [(step.rewrapped, step.left) for step in told] == [(2, 3), (4, 1), (5, 0)]
    assert console.versions() == {2}
    await console.retire(1)
    assert await all_opens(console)
    assert set((await KeyringBook(console.path).read()).keys) == {2}
    state = await console.show()
    assert (state.data_keys, state.rewrapped) == ({2: 5}, {2: 5})


async def test_what_somebody_else_holds_is_left_for_another_run(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrap_data_keys, "_PAUSE_SECONDS", 0)
    looks = 0

    async def none_is_free(*_: Any, **__: Any) -> list[DataKey]:
        nonlocal looks
        looks += 1
        return []

    await console.add()
    await console.activate()
    with monkeypatch.context() as held:
        held.setattr(MemoryDataKeys, "claim_older", none_is_free)
        held_up = await console.rewrap()
    assert (held_up, held_up.is_complete) == (Progress(2, rewrapped=0, left=5), False)
    assert looks == 20
    assert (await console.rewrap()).is_complete


async def test_while_it_gets_on_it_goes_through_as_often_as_it_takes(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrap_data_keys, "_LOOKS", 2)
    claim, asked = MemoryDataKeys.claim_older, itertools.count()

    async def one_is_free(*words: Any, **named: Any) -> Sequence[DataKey]:
        return (await claim(*words, **named))[: next(asked) % 2]

    await console.add()
    await console.activate()
    # Its first look finds none.
    monkeypatch.setattr(MemoryDataKeys, "claim_older", one_is_free)
    assert await console.rewrap() == Progress(2, rewrapped=5, left=0)


async def test_secrets_stay_as_they_are(console: Console) -> None:
    before = {place: key.secret for place, key in console.desk.store.keys.items()}
    for step in console.steps:
        await step()
    assert {place: key.secret for place, key in console.desk.store.keys.items()} == before


async def test_killed_at_every_step_nothing_is_lost_and_a_rerun_comes_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrap_data_keys, "PAGE", 2)
    kills = 0
    for at in itertools.count(1):
        first = await a_console(tmp_path)
        first.trap.at = at
        reached = 0
        try:
            for step in first.steps:
                await step()
                reached += 1
        except Killed:
            kills += 1
        else:
            break
        assert await all_opens(first), at
        again = Console(first.desk, first.path)
        for step in again.steps[reached:]:
            await step()
        assert again.versions() == {2}, at
        assert await all_opens(again), at
        assert set((await KeyringBook(first.path).read()).keys) == {2}, at
    assert kills > 40


async def test_a_version_is_not_activated_before_every_process_knows_it(console: Console) -> None:
    report = ReportKeyring(console.desk.work, console.desk.vault)
    await report("web", good_for=timedelta(minutes=1))
    await console.add()
    with pytest.raises(VersionNotEverywhere, match="web"):
        await console.activate()
    assert not any(canary.version == 2 for canary in console.desk.store.canaries)

    await console.desk.examine_vault()
    await report("web", good_for=timedelta(minutes=1))
    assert await console.activate() == 2
    assert await all_opens(console)

    # It wraps with the old version still, which is fine but for retiring that one.
    await console.rewrap()
    with pytest.raises(VersionNotEverywhere, match="web"):
        await console.retire(1)
    await report.leave("web")
    await console.retire(1)


async def test_a_sealed_process_has_nothing_to_report(console: Console) -> None:
    console.desk.vault.seal("keyring_missing")
    await ReportKeyring(console.desk.work, console.desk.vault)("web", good_for=timedelta(1))
    assert not console.desk.store.replicas


async def test_a_version_that_wraps_something_is_not_retired(console: Console) -> None:
    await console.add()
    with pytest.raises(VersionIsActive):
        await console.retire(1)
    await console.activate()
    with pytest.raises(VersionInUse) as refusal:
        await console.retire(1)
    assert refusal.value.facts == {"version": 1, "data_keys": 5}
    assert await all_opens(console)


async def test_the_service_wraps_with_the_new_version_and_goes_on_during_a_rewrap(
    console: Console,
) -> None:
    await console.add()
    await console.activate()
    await console.desk.examine_vault()
    newcomer = UserId(uuid4())
    await console.desk.store_key("openai", SECRET, by=newcomer, tier="free")
    assert console.desk.store.data_keys[Owner.user(newcomer)].kek_version == 2
    assert (await console.rewrap()).rewrapped == 5


async def test_a_data_key_that_does_not_open_is_left_and_told(console: Console) -> None:
    owner = Owner.user(USERS[0])
    spoiled = replace(console.desk.store.data_keys[owner], wrapped=b"spoiled")
    console.desk.store.data_keys[owner] = spoiled
    await console.add()
    await console.activate()
    progress = await console.rewrap()
    assert (progress.rewrapped, progress.left, progress.broken) == (4, 1, 1)
    assert console.desk.store.data_keys[owner] == spoiled
    with pytest.raises(VersionInUse):
        await console.retire(1)


async def test_a_second_rewrap_finds_nothing_to_do(console: Console) -> None:
    await console.add()
    await console.activate()
    await console.rewrap()
    assert await console.rewrap() == Progress(2, rewrapped=0, left=0)


async def test_nothing_is_rewrapped_to_a_version_that_was_closed_meanwhile(
    console: Console,
) -> None:
    await console.add()
    await console.activate()
    roots = console.desk.vault.roots
    data_key = await new_data_key(roots, Owner.user(UserId(uuid4())))
    async with console.desk.work() as work:
        await work.canaries.remove(1)
    with pytest.raises(VersionClosed):
        async with console.desk.work() as work:
            await work.canaries.hold(data_key.kek_version)


async def test_with_a_keyring_of_another_database_nothing_is_done(
    console: Console, tmp_path: Path
) -> None:
    other = Console(console.desk, write_keyring(tmp_path / "other.json", new_keyring_document()))
    await other.add()
    for step in (other.activate, other.rewrap, lambda: other.retire(1)):
        with pytest.raises(VaultSealed):
            await step()
    assert console.versions() == {1}


async def test_at_a_key_service_there_is_no_file_to_change(console: Console) -> None:
    with pytest.raises(KeyringIsElsewhere):
        await AddKeyringVersion(None)()
    with pytest.raises(KeyringIsElsewhere):
        await replace(console.activate, book=None)()


async def test_a_look_in_the_middle_of_a_step_does_not_seal(console: Console) -> None:
    """The keyring was read before `add`, the canaries after `activate`."""
    old = await KeyringFile(console.path).read()
    await console.add()
    await console.activate()

    class Late:
        looks = 0

        async def read(self) -> Any:
            self.looks += 1
            return old if self.looks == 1 else await KeyringFile(console.path).read()

    vault = Vault()
    await ExamineVault(Late(), console.desk.work, vault)()
    assert not vault.is_sealed


async def test_at_a_key_service_data_keys_are_rewrapped_and_its_old_version_closed(
    tmp_path: Path,
) -> None:
    transit, token = TransitStandIn(), tmp_path / "token"
    token.write_text(transit.token)
    with serving(transit) as url:
        service = VaultTransit(TransitKey(url, token, key="companion"), timeout_seconds=2)
        kek = RemoteKeyEncryption(service, installation="test", timeout_seconds=2)
        desk = await an_open_desk(source=CachedKeyEncryption(kek, seconds=60))
        for user in USERS:
            await desk.store_key("openai", SECRET, by=user, tier="free")
        transit.rotate()

        rewrap = RewrapDataKeys(desk.work, desk.examine_vault, desk.vault)
        assert await rewrap() == Progress(2, rewrapped=5, left=0)
        await RetireKeyringVersion(None, desk.work, desk.examine_vault, desk.vault)(1)
        transit.oldest = 2

        desk.vault.forget()
        await desk.examine_vault()
        for user in USERS:
            grant = a_grant(user)
            assert await desk.use_key(grant, caller=user, provider="openai")
        kek.close()
