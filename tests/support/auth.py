"""Builders and in-memory ports of auth, and the real service in one process."""

from __future__ import annotations

import json
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import httpx

from services.auth.actions._limit_guesses import LimitGuesses
from services.auth.actions._prove_identity import ProveIdentity
from services.auth.actions.begin_sign_in import BeginSignIn
from services.auth.actions.check_second_factor import CheckSecondFactor
from services.auth.actions.sign_in_with_password import SignInWithPassword
from services.auth.app import create_app
from services.auth.domain.attempts import (
    AttemptLimit,
    CeilingPerMinute,
    Failures,
    GuessLimits,
)
from services.auth.domain.audit import AuditEntry
from services.auth.domain.audit_chain import Link
from services.auth.domain.authorization import AuthorizationCode
from services.auth.domain.credentials import Credentials
from services.auth.domain.erasure import Erasure
from services.auth.domain.errors import AddressTaken, SigningKeysUnavailable, UsernameTaken
from services.auth.domain.mail import Mail
from services.auth.domain.mailed_proof import MailedProof
from services.auth.domain.oauth_client import OAuthClient
from services.auth.domain.organisation import (
    Invitation,
    InvitationId,
    Organisation,
    OrganisationId,
)
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password, PasswordHash
from services.auth.domain.personal_token import PersonalToken, PersonalTokenId
from services.auth.domain.ports import NewUnitOfWork, Passwords
from services.auth.domain.second_factor import Totp
from services.auth.domain.sign_in import EndReason, Proof, SignIn, SignInId, SignInLifetimes
from services.auth.domain.signing_keys import SigningKeys, new_signing_keys, parse_signing_keys
from services.auth.domain.token_pair import TokenIssuer
from services.auth.domain.user import EmailAddress, LoginName, User, Username
from services.auth.settings import Settings
from shared.clock import Clock
from shared.erasure import ErasureId
from shared.events import Event, Fact
from shared.http.app import WebProcess
from shared.ids import EventId, UserId
from tests.support.auth_audit import MemoryAudit, MemoryAuditChain
from tests.support.auth_erasure import MemoryErasures
from tests.support.auth_mails import MemoryMailedProofs, MemoryMails
from tests.support.auth_oauth import MemoryAuthorizationCodes, MemoryOAuthClients
from tests.support.auth_organisations import (
    MemoryInvitations,
    MemoryMembers,
    MemoryOrganisations,
)
from tests.support.auth_personal_tokens import MemoryPersonalTokens
from tests.support.auth_second_factors import MemorySecondFactors
from tests.support.clocks import NOON as NOON
from tests.support.clocks import StoppedClock as StoppedClock
from tests.support.tokens import AUDIENCE, ISSUER, serving, write_identities

PASSWORD = "a lamp lights nine rooms"
LIFETIMES = SignInLifetimes(
    idle=timedelta(days=14), absolute=timedelta(days=90), grace=timedelta(seconds=10)
)
LIMIT = AttemptLimit(failures=5, window=timedelta(minutes=15))
LIMITS = GuessLimits(LIMIT, replace(LIMIT, failures=30), CeilingPerMinute(1000))


class PlainPasswords:
    """Hashes at no cost, and remembers what it was asked to work on."""

    def __init__(self) -> None:
        self.hashed: list[str] = []
        self.verified: list[PasswordHash | None] = []
        self.outdated = False
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def hash(self, password: Password, origin: Origin) -> PasswordHash:
        self.hashed.append(password.text)
        return hash_of(password.text, made=len(self.hashed))

    async def verify(self, password: Password, hash_: PasswordHash | None, origin: Origin) -> bool:
        self.verified.append(hash_)
        if self.meanwhile is not None:
            await self.meanwhile()
        return hash_ is not None and hash_.encoded.partition(":")[2] == password.text

    def refuse_if_full(self, origin: Origin) -> None:
        pass

    def is_outdated(self, hash_: PasswordHash) -> bool:
        return self.outdated


def hash_of(password: str, *, made: int = 0) -> PasswordHash:
    """What `PlainPasswords` makes of a password; two hashes of one password differ."""
    return PasswordHash(f"{made}:{password}")


def a_user(name: str = "ada", *, password: str = PASSWORD, **parts: Any) -> User:
    """A user, with the address `<name>@example.com`."""
    user = User.registered(
        EmailAddress.parse(f"{name}@example.com"), Username.parse(name), hash_of(password), NOON
    )
    return replace(user, **parts)


def a_sign_in(user: User, *, at: datetime = NOON, **parts: Any) -> SignIn:
    """A sign-in of the user, just begun."""
    sign_in = SignIn.begun(
        user.id,
        device="a browser",
        pepper_version=1,
        proof=Proof(at, frozenset({"pwd"})),
        at=at,
        lifetimes=LIFETIMES,
    )
    return replace(sign_in, **parts)


def shown(
    login: str, password: str = PASSWORD, *, otp: str | None = None, address: str = "192.0.2.7"
) -> Credentials:
    """What somebody shows to sign in, from one browser."""
    return Credentials(login, Password(password), otp, Origin.of("a browser", address))


@cache
def some_signing_keys() -> SigningKeys:
    """Keys as a new installation has them."""
    return parse_signing_keys(json.dumps(new_signing_keys()))


class HeldKeys:
    """Signing keys that are there, or that are not."""

    def __init__(self, keys: SigningKeys | None) -> None:
        self.keys = keys

    def current(self) -> SigningKeys:
        if self.keys is None:
            raise SigningKeysUnavailable
        return self.keys


def an_issuer(keys: HeldKeys | None = None) -> TokenIssuer:
    """Issues tokens as the tests' verifiers expect them."""
    return TokenIssuer(
        keys or HeldKeys(some_signing_keys()), ISSUER, AUDIENCE, timedelta(minutes=15)
    )


def a_sign_in_action(
    work: NewUnitOfWork,
    passwords: Passwords | None = None,
    issuer: TokenIssuer | None = None,
    clock: Clock | None = None,
    limits: GuessLimits = LIMITS,
) -> SignInWithPassword:
    """Signing in, put together as the service does it."""
    clock = clock or StoppedClock()
    prove = ProveIdentity(
        work,
        passwords or PlainPasswords(),
        LimitGuesses(work, limits, clock),
        CheckSecondFactor(limits.account, clock),
        clock,
    )
    begin = BeginSignIn(issuer or an_issuer(), LIFETIMES, clock)
    return SignInWithPassword(work, prove, begin)


@dataclass
class Memory:
    """What is kept, in dictionaries; `memory.work` is a `NewUnitOfWork`."""

    accounts: dict[UserId, User] = field(default_factory=dict)
    devices: dict[SignInId, SignIn] = field(default_factory=dict)
    reasons: dict[SignInId, EndReason] = field(default_factory=dict)
    failures: dict[str, Failures] = field(default_factory=dict)
    handled: dict[EventId, datetime] = field(default_factory=dict)
    published: list[Fact[Any]] = field(default_factory=list)
    ended: dict[UUID, datetime] = field(default_factory=dict)
    personal_tokens: dict[PersonalTokenId, PersonalToken] = field(default_factory=dict)
    authenticators: dict[UserId, Totp] = field(default_factory=dict)
    recovery_codes: dict[tuple[UserId, bytes], datetime | None] = field(default_factory=dict)
    audited: list[AuditEntry] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    mails: list[Mail] = field(default_factory=list)
    mails_due: dict[UUID, datetime] = field(default_factory=dict)
    proofs: dict[bytes, MailedProof] = field(default_factory=dict)
    used_proofs: set[bytes] = field(default_factory=set)
    organisations: dict[OrganisationId, Organisation] = field(default_factory=dict)
    erasures: dict[ErasureId, Erasure] = field(default_factory=dict)
    invitations: dict[InvitationId, Invitation] = field(default_factory=dict)
    lost_seats: dict[UserId, tuple[datetime | None, datetime | None]] = field(default_factory=dict)
    retiered: list[UserId] = field(default_factory=list)
    oauth_clients: dict[str, OAuthClient] = field(default_factory=dict)
    codes: dict[bytes, AuthorizationCode] = field(default_factory=dict)

    def work(self) -> MemoryWork:
        return MemoryWork(self)

    def keep(self, *things: User | SignIn) -> Self:
        for thing in things:
            if isinstance(thing, User):
                self.accounts[thing.id] = thing
            else:
                self.devices[thing.id] = thing
        return self


class MemoryUsers:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def get(self, user_id: UserId) -> User | None:
        return self._memory.accounts.get(user_id)

    async def get_all(self, user_ids: Collection[UserId]) -> Sequence[User]:
        return [user for id_ in user_ids if (user := self._memory.accounts.get(id_)) is not None]

    async def hold(self, user_id: UserId) -> User | None:
        return self._memory.accounts.get(user_id)

    async def named(self, name: LoginName) -> User | None:
        if name.username is not None:
            key = name.username.key
            return next((u for u in self._memory.accounts.values() if u.username.key == key), None)
        claims = [u for u in self._memory.accounts.values() if u.email == name.email]
        return max(claims, key=lambda user: (user.email_verified, user.id), default=None)

    async def claiming(self, address: EmailAddress, *, most: int) -> Sequence[User]:
        claims = [u for u in self._memory.accounts.values() if u.email == address]
        return sorted(claims, key=lambda user: user.id, reverse=True)[:most]

    async def add(self, user: User) -> None:
        if any(o.username.key == user.username.key for o in self._memory.accounts.values()):
            raise UsernameTaken
        proven = [o for o in self._memory.accounts.values() if o.email_verified]
        if user.email_verified and any(other.email == user.email for other in proven):
            raise AddressTaken
        self._memory.accounts[user.id] = user

    async def save(self, user: User) -> None:
        for other in self._memory.accounts.values():
            if other.id != user.id and other.username.key == user.username.key:
                raise UsernameTaken
            both_proven = other.email_verified and user.email_verified
            if other.id != user.id and both_proven and other.email == user.email:
                raise AddressTaken
        self._memory.accounts[user.id] = user

    async def set_tiers(self, tiers: Mapping[UserId, tuple[str, int]], at: datetime) -> None:
        for user_id, (tier, revision) in tiers.items():
            user = self._memory.accounts.get(user_id)
            if user is not None and user.tier_revision < revision:
                changed = replace(user, tier=tier, tier_revision=revision, updated_at=at)
                self._memory.accounts[user_id] = changed
                await self.note_tiers([user_id])

    async def note_tiers(self, user_ids: Collection[UserId]) -> None:
        self._memory.retiered += user_ids

    async def forget_unproven_before(self, at: datetime, *, most: int) -> Sequence[UserId]:
        unproven = [
            user.id
            for user in self._memory.accounts.values()
            if not user.email_verified and user.last_signed_in_at is None and user.created_at < at
        ][:most]
        for user_id in unproven:
            del self._memory.accounts[user_id]
        return unproven


class MemorySignIns:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def get(self, sign_in_id: SignInId) -> SignIn | None:
        return self._memory.devices.get(sign_in_id)

    async def live_of(
        self, user_id: UserId, at: datetime, *, before: SignInId | None, most: int
    ) -> Sequence[SignIn]:
        live = [
            device
            for device in self._memory.devices.values()
            if device.belongs_to(user_id)
            and device.is_live(at)
            and (before is None or device.id < before)
        ]
        return sorted(live, key=lambda device: device.id, reverse=True)[:most]

    async def kept_of(
        self, user_id: UserId, *, before: SignInId | None, most: int
    ) -> Sequence[SignIn]:
        kept = [
            device
            for device in self._memory.devices.values()
            if device.belongs_to(user_id) and (before is None or device.id < before)
        ]
        return sorted(kept, key=lambda device: device.id, reverse=True)[:most]

    async def add(self, sign_in: SignIn) -> None:
        self._memory.devices[sign_in.id] = sign_in

    async def advance(self, rotated: SignIn) -> bool:
        known = self._memory.devices[rotated.id]
        if known.counter != rotated.counter - 1 or known.ended_at is not None:
            return False
        self._memory.devices[rotated.id] = rotated
        return True

    async def prove_again(self, proven: SignIn) -> None:
        self._memory.devices[proven.id] = proven

    async def end(self, sign_in_id: SignInId, reason: EndReason, at: datetime) -> bool:
        device = self._memory.devices.get(sign_in_id)
        if device is None or device.ended_at is not None:
            return False
        self._memory.devices[sign_in_id] = replace(device, ended_at=at)
        self._memory.reasons[sign_in_id] = reason
        self._memory.ended[sign_in_id] = at
        return True

    async def end_all_of(
        self, user_id: UserId, reason: EndReason, at: datetime, *, but: SignInId | None = None
    ) -> int:
        await MemoryAuthorizationCodes(self._memory).void(user_id, at)
        ended = 0
        for device in list(self._memory.devices.values()):
            if device.belongs_to(user_id) and device.id != but:
                ended += await self.end(device.id, reason, at)
        return ended

    async def end_all_of_client(self, client_id: str, reason: EndReason, at: datetime) -> int:
        ended = 0
        for device in list(self._memory.devices.values()):
            if device.client_id == client_id:
                ended += await self.end(device.id, reason, at)
        return ended

    async def forget_before(self, at: datetime, *, most: int) -> int:
        over = [
            device.id
            for device in self._memory.devices.values()
            if (device.ended_at or device.expires_at) < at
        ][:most]
        for sign_in_id in over:
            del self._memory.devices[sign_in_id]
        return len(over)


class MemoryLoginFailures:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def of(self, subject: str) -> Failures | None:
        return self._memory.failures.get(subject)

    async def of_all(self, subjects: Sequence[str]) -> Mapping[str, Failures]:
        known = self._memory.failures
        return {subject: known[subject] for subject in subjects if subject in known}

    async def hold(self, subject: str) -> Failures | None:
        return await self.of(subject)

    async def save(self, subject: str, failures: Failures) -> None:
        self._memory.failures[subject] = failures

    async def add(self, subject: str, at: datetime, *, window_ends_at: datetime) -> Failures:
        known = self._memory.failures.get(subject)
        if known is None or known.window_ends_at <= at:
            known = Failures(0, window_ends_at)
        self._memory.failures[subject] = replace(known, count=known.count + 1)
        return self._memory.failures[subject]

    async def forget(self, subject: str) -> None:
        self._memory.failures.pop(subject, None)

    async def forget_before(self, at: datetime, *, most: int) -> int:
        over = [s for s, f in self._memory.failures.items() if f.window_ends_at < at][:most]
        for subject in over:
            del self._memory.failures[subject]
        return len(over)


class MemoryEndedCredentials:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def add(self, ids: Collection[UUID], *, of: UserId, at: datetime) -> None:
        self._memory.ended |= dict.fromkeys(ids, at)

    async def take_back(self, ids: Collection[UUID]) -> None:
        for id_ in ids:
            self._memory.ended.pop(id_, None)

    async def since(self, at: datetime) -> Sequence[UUID]:
        return [id_ for id_, ended_at in self._memory.ended.items() if ended_at >= at]

    async def forget_before(self, at: datetime, *, most: int) -> int:
        over = [id_ for id_, ended_at in self._memory.ended.items() if ended_at < at][:most]
        for id_ in over:
            del self._memory.ended[id_]
        return len(over)


class MemoryWork:
    """All or nothing, like the real one."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._before: dict[str, Any] = {}
        self.users = MemoryUsers(memory)
        self.sign_ins = MemorySignIns(memory)
        self.login_failures = MemoryLoginFailures(memory)
        self.second_factors = MemorySecondFactors(memory)
        self.personal_tokens = MemoryPersonalTokens(memory)
        self.ended_credentials = MemoryEndedCredentials(memory)
        self.audit = MemoryAudit(memory.audited)
        self.audit_chain = MemoryAuditChain(memory.audited, memory.links)
        self.mails = MemoryMails(memory)
        self.mailed_proofs = MemoryMailedProofs(memory)
        self.oauth_clients = MemoryOAuthClients(memory)
        self.authorization_codes = MemoryAuthorizationCodes(memory)
        self.organisations = MemoryOrganisations(memory)
        self.erasures = MemoryErasures(memory)
        self.members = MemoryMembers(memory)
        self.invitations = MemoryInvitations(memory)

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None:
        self._memory.published.append(Fact(event=event, subject=subject, tier=tier, source="auth"))

    async def unseen(self, ids: Iterable[EventId]) -> set[EventId]:
        unseen = {id_ for id_ in ids if id_ not in self._memory.handled}
        self._memory.handled |= dict.fromkeys(unseen, NOON)
        return unseen

    async def __aenter__(self) -> Self:
        self._before = {name: copy(value) for name, value in vars(self._memory).items()}
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            vars(self._memory).update(self._before)


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the running service, signed in."""

    id: UUID
    email: str
    username: str
    password: str
    access_token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.access_token}"}


@dataclass(frozen=True, slots=True)
class RunningAuth:
    """The real service in this process: its doors without a network, and its JWKS with one."""

    process: WebProcess
    client: httpx.AsyncClient
    internal: httpx.AsyncClient
    settings: Settings

    async def register(self, **parts: str) -> httpx.Response:
        """Register somebody new; `parts` replace what is sent."""
        name = f"user{uuid4().hex[:12]}"
        body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD, **parts}
        return await self.client.post("/auth/register", json=body)

    async def login(
        self,
        login: str,
        password: str = PASSWORD,
        *,
        device: str = "tests",
        address: str = "127.0.0.1",
    ) -> httpx.Response:
        return await self.client.post(
            "/auth/login",
            json={"login": login, "password": password},
            headers={"user-agent": device, "x-envoy-external-address": address},
        )

    async def refresh(self, token: str) -> httpx.Response:
        return await self.client.post("/auth/refresh", json={"refresh_token": token})

    async def me(self, token: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"}
        return await self.client.get("/auth/me", headers=headers)

    async def account(self, **parts: str) -> Account:
        """Somebody new who has just signed in."""
        registered = await self.register(**parts)
        assert registered.status_code == 201, registered.text
        user = registered.json()["user"]
        password = parts.get("password", PASSWORD)
        tokens = (await self.login(user["email"], password)).json()
        return Account(
            id=UUID(user["id"]),
            email=user["email"],
            username=user["username"],
            password=password,
            access_token=tokens["access_token"],
            refresh_token=tokens["refresh_token"],
        )


def write_signing_keys(directory: Path) -> Path:
    """A new file of signing keys."""
    path = directory / "signing-keys.json"
    path.write_text(json.dumps(new_signing_keys()))
    return path


@asynccontextmanager
async def running_auth(
    database_url: str, directory: Path, **settings: Any
) -> AsyncIterator[RunningAuth]:
    """Run auth against a database server; `settings` replace the tests' own."""
    paths = write_identities(directory / "identities")
    late: dict[str, Any] = {}

    async def own_public_door(scope: Any, receive: Any, send: Any) -> None:
        await late["process"].public(scope, receive, send)

    async with serving(own_public_door) as url:
        values: dict[str, Any] = {
            "database_url": database_url,
            "cache_url": "redis://127.0.0.1:1/0",
            "broker_url": "redis://127.0.0.1:1/1",
            "jwks_url": f"{url}/.well-known/jwks.json",
            "identity_key_file": paths["auth"],
            "identity_trust_file": directory / "identities" / "trusted.json",
            "environment": "test",
            "log_level": "warning",
            # The cheapest that Argon2 can do: these tests are not about its cost.
            "argon2_passes": 1,
            "argon2_memory_kib": 64,
            "argon2_lanes": 1,
            # All tests call from one address.
            "login_failures_network": 1_000_000,
            "login_failures_global": 1_000_000,
            "registrations_network": 1_000_000,
            "resets_network": 1_000_000,
            **settings,
        }
        if "signing_keys_file" not in values:
            values["signing_keys_file"] = write_signing_keys(directory)
        known = Settings(**values)
        process = late["process"] = create_app(known)
        public, internal = (
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://auth")
            for app in (process.public, process.internal)
        )
        async with process.lifespan(), public, internal:
            yield RunningAuth(process, public, internal, known)
