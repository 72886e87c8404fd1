"""Whatever happens to a vault: a live secret opens to its last value, a dead one never again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.keyvault.actions import (
    ActivateKeyringVersion,
    AddKeyringVersion,
    RetireKeyringVersion,
    RewrapDataKeys,
    rewrap_data_keys,
)
from services.keyvault.domain.canary import Purpose
from services.keyvault.domain.envelope import NotAuthentic
from services.keyvault.domain.errors import KeyNotFound, VaultSealed, VersionInUse
from services.keyvault.domain.key_encryption import KeyringEncryption
from services.keyvault.domain.keyring import Keyring, KeyState, new_keyring_document, read_keyring
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.rotation import Change, Document
from services.keyvault.domain.secret import (
    DataKey,
    OpenedSecret,
    SecretName,
    opened_data_key,
)
from shared.erasure import ErasureId
from shared.ids import UserId
from tests.support.keyvault import Desk, MemoryStore, MemoryWork, a_grant

T = TypeVar("T")
Held = dict[tuple[UserId, str], str]

USERS = [UserId(UUID(int=number)) for number in (1, 2, 3)]
PROVIDERS = ("openai", "gemini")
users, providers = some.sampled_from(USERS), some.sampled_from(PROVIDERS)
_REMEMBERED = 12
secrets = some.integers(0, 5).map(lambda number: f"secret-number-{number}")


class Crashed(Exception):
    """The process died here."""


@dataclass
class MemoryBook:
    """A keyring's file: what the console changes and the service reads."""

    document: Document = field(default_factory=new_keyring_document)

    async def read(self) -> Keyring:
        return read_keyring(self.document)

    async def change(self, change: Change) -> Keyring:
        self.document = change(self.document)
        return read_keyring(self.document)


@dataclass
class BookSource:
    """The same file, as the vault's examination reads it."""

    book: MemoryBook

    async def read(self) -> KeyringEncryption:
        return KeyringEncryption(await self.book.read())


class MortalWork(MemoryWork):
    """A transaction in the midst of which the process may die, before or after its commit."""

    def __init__(self, desk: MortalDesk) -> None:
        super().__init__(desk.store)
        self._desk = desk

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._desk.steps_to_live -= 1
        dies = self._desk.steps_to_live == 0
        if not dies or self._desk.commits_at_last:
            await super().__aexit__(kind, error, trace)
        if dies:
            raise Crashed


@dataclass
class MortalDesk(Desk):
    """All verbs, each of which dies with the transaction that `steps_to_live` names."""

    steps_to_live: int = -1
    commits_at_last: bool = False

    def work(self) -> MortalWork:
        return MortalWork(self)


@dataclass(frozen=True)
class Dump:
    """A backup of the database, and what was alive in it."""

    store: Mapping[str, Any]
    held: Held


def frozen(store: MemoryStore) -> dict[str, Any]:
    return {name: copy(value) for name, value in vars(store).items()}


class VaultLife(RuleBasedStateMachine):
    """Users, operators and accidents, in any order."""

    dumps = Bundle("dumps")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.book = MemoryBook()
        self.desk = MortalDesk(source=BookSource(self.book))
        desk = self.desk
        examine, vault = desk.examine_vault, desk.vault
        self.add = AddKeyringVersion(self.book)
        self.activate = ActivateKeyringVersion(self.book, desk.work, examine, vault)
        self.retire = RetireKeyringVersion(self.book, desk.work, examine, vault)
        self.rewrap = RewrapDataKeys(desk.work, examine, vault)
        self.held: Held = {}
        # Every secret that was ever sealed, with all that it lay in.
        self.seen: list[tuple[DataKey, SecretName, bytes]] = []

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(what)

    def teardown(self) -> None:
        self.runner.close()

    @initialize()
    def begin(self) -> None:
        self.run(self.desk.examine_vault())

    @rule(user=users, provider=providers, secret=secrets)
    def put(self, user: UserId, provider: str, secret: str) -> None:
        self.run(self.desk.store_key(provider, secret, by=user, tier="free"))
        self.held[user, provider] = secret
        self.note(user, provider)

    @rule(user=users, provider=providers)
    def put_the_same_again(self, user: UserId, provider: str) -> None:
        secret = self.held.get((user, provider))
        if secret is not None:
            before = self.desk.store.key(provider, of=user)
            self.put(user, provider, secret)
            after = self.desk.store.key(provider, of=user)
            assert (after.version, after.secret) == (before.version, before.secret)

    @rule(user=users, provider=providers)
    def revoke(self, user: UserId, provider: str) -> None:
        revoke = self.desk.revoke_key(provider, by=user, tier="free")
        if (user, provider) in self.held:
            self.run(revoke)
            del self.held[user, provider]
        else:
            with pytest.raises(KeyNotFound):
                self.run(revoke)

    @rule(user=users)
    def delete_user(self, user: UserId) -> None:
        self.run(self.desk.forget_user.begin([(user, ErasureId(uuid4()))]))
        self.held = {key: secret for key, secret in self.held.items() if key[0] != user}

    @rule(user=users, provider=providers, secret=secrets, commits=some.booleans())
    def die_while_putting(self, user: UserId, provider: str, secret: str, commits: bool) -> None:
        with self.dying(1, commits=commits):
            self.run(self.desk.store_key(provider, secret, by=user, tier="free"))
        if commits:
            self.held[user, provider] = secret
            self.note(user, provider)

    @rule(user=users, provider=providers, commits=some.booleans())
    def die_while_revoking(self, user: UserId, provider: str, commits: bool) -> None:
        if (user, provider) not in self.held:
            return
        with self.dying(1, commits=commits):
            self.run(self.desk.revoke_key(provider, by=user, tier="free"))
        if commits:
            del self.held[user, provider]

    @rule(user=users, step=some.integers(1, 2), commits=some.booleans())
    def die_while_deleting_a_user_and_go_on(self, user: UserId, step: int, commits: bool) -> None:
        with self.dying(step, commits=commits):
            self.run(self.desk.forget_user.begin([(user, ErasureId(uuid4()))]))
        self.run(self.desk.forget_user.go_on())
        if step > 1 or commits:  # it was written down
            self.held = {key: secret for key, secret in self.held.items() if key[0] != user}

    @rule()
    def add_a_version(self) -> None:
        if len(self.states) < 6:
            self.run(self.add())

    @precondition(lambda self: KeyState.STANDBY in self.states.values())
    @rule()
    def activate_it(self) -> None:
        version = self.run(self.activate())
        self.run(self.desk.examine_vault())
        assert self.states[version] is KeyState.ACTIVE

    @precondition(lambda self: KeyState.STANDBY in self.states.values())
    @rule(commits=some.booleans())
    def die_while_activating(self, commits: bool) -> None:
        # The second transaction: the first one examines the vault.
        with self.dying(2, commits=commits):
            self.run(self.activate())

    @rule()
    def rewrap_all(self) -> None:
        progress = self.run(self.rewrap())
        assert (progress.left, progress.broken) == (0, 0)
        active = read_keyring(self.book.document).active
        wraps = {key.kek_version for key in self.desk.store.data_keys.values()}
        assert wraps <= {active}

    @rule(step=some.integers(2, 6), commits=some.booleans())
    def die_while_rewrapping(self, step: int, commits: bool) -> None:
        with self.dying(step, commits=commits, surely=False):
            self.run(self.rewrap())

    @precondition(lambda self: KeyState.RETIRED in self.states.values())
    @rule()
    def retire_the_oldest(self) -> None:
        version = min(v for v, state in self.states.items() if state is KeyState.RETIRED)
        in_use = version in {key.kek_version for key in self.desk.store.data_keys.values()}
        if in_use:
            with pytest.raises(VersionInUse):
                self.run(self.retire(version))
        else:
            self.run(self.retire(version))
        self.run(self.desk.examine_vault())

    @rule(target=dumps)
    def dump(self) -> Dump:
        return Dump(frozen(self.desk.store), dict(self.held))

    @rule(dump=consumes(dumps))
    def restore(self, dump: Dump) -> None:
        """Into the keyring of today. Older activations are taken back first: a vault stays sealed
        while its active version has no canary."""
        usable = {v for v, state in self.states.items() if state is not KeyState.CLOSED}
        if {key.kek_version for key in dump.store["data_keys"].values()} - usable:
            self.run(self.stays_shut(dump))
            return
        proven = {c.version for c in dump.store["canaries"] if c.purpose is Purpose.WRAPPING}
        if not proven & usable:
            return
        granted, forgotten = self.desk.store.granted, self.desk.store.forgotten
        vars(self.desk.store).update(frozen(MemoryStore(**dump.store)))
        self.desk.store.granted, self.desk.store.forgotten = granted, forgotten
        self.held = dict(dump.held)
        self.run(self.desk.examine_vault())
        if read_keyring(self.book.document).active not in proven:
            assert self.desk.vault.sealed_because == "canary_missing"
            self.book.document = with_active_again(self.book.document, max(proven & usable))
            self.run(self.desk.examine_vault())
        assert not self.desk.vault.is_sealed

    async def stays_shut(self, dump: Dump) -> None:
        """What only a closed version could open, nothing opens."""
        roots = self.desk.vault.roots
        for key in dump.store["data_keys"].values():
            if self.states[key.kek_version] is KeyState.CLOSED:
                with pytest.raises(VaultSealed):
                    async with opened_data_key(roots, key):
                        pass

    def note(self, user: UserId, provider: str) -> None:
        key = self.desk.store.key(provider, of=user)
        assert key.secret is not None
        data_key = self.desk.store.data_keys[key.owner]
        self.seen.append((data_key, key.name, key.secret.envelope))

    @property
    def states(self) -> Mapping[int, KeyState]:
        return read_keyring(self.book.document).states

    @invariant()
    def a_live_secret_opens_to_its_last_value_and_a_dead_one_never(self) -> None:
        self.run(self.check())

    async def check(self) -> None:
        for user in USERS:
            for provider in PROVIDERS:
                assert await self.opened(user, provider) == self.held.get((user, provider))
        # Without a live secret there is no data key either: it was shredded with the last one.
        owners = {Owner.user(user) for user, _ in self.held}
        assert set(self.desk.store.data_keys) == owners
        for data_key, name, envelope in self.seen[-_REMEMBERED:]:
            await self.is_dead_unless_it_lives(data_key, name, envelope)

    async def opened(self, user: UserId, provider: str) -> str | None:
        grant = a_grant(user, provider=provider)
        try:
            header = await self.desk.use_key(grant, caller=user, provider=provider)
        except KeyNotFound:
            return None
        return next(iter(header.values())).removeprefix("Bearer ")

    async def is_dead_unless_it_lives(
        self, data_key: DataKey, name: SecretName, envelope: bytes
    ) -> None:
        """Put back into the database by hand, it opens neither as the present secret nor, once its
        owner's data key was shredded, as itself."""
        store, roots = self.desk.store, self.desk.vault.roots
        present = store.data_keys.get(name.owner)
        key = store.keys.get((name.owner, name.provider))
        if present is None or key is None or key.secret is None or key.secret.envelope == envelope:
            return
        names = [key.name] if key.name != name else []
        if present.id != data_key.id:
            names.append(name)
        for tried in names:
            with pytest.raises(NotAuthentic):
                async with OpenedSecret(roots, present, tried, envelope):
                    pass

    @contextmanager
    def dying(self, step: int, *, commits: bool, surely: bool = True) -> Iterator[None]:
        """The process dies with this transaction; another one takes its place."""
        self.desk.steps_to_live, self.desk.commits_at_last = step, commits
        died = False
        try:
            yield
        except Crashed:
            died = True
        finally:
            self.desk.steps_to_live = -1
        assert died or not surely
        self.run(self.desk.examine_vault())


def with_active_again(document: Document, version: int) -> Document:
    """The file as an operator edits it who goes back to an older database."""
    states = {document["active"]: KeyState.STANDBY.value, version: KeyState.ACTIVE.value}
    keys = [
        {**entry, "state": states.get(entry["version"], entry["state"])}
        for entry in document["keys"]
    ]
    return {**document, "active": version, "keys": keys}


def test_live_secrets_open_and_dead_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrap_data_keys, "PAGE", 1)
    life = settings(
        max_examples=40,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(VaultLife, settings=life)
