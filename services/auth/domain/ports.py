"""What the verbs of auth need from the outside, in the words of the domain."""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import datetime
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from services.auth.domain.attempts import Failures
from services.auth.domain.audit import AuditEntry
from services.auth.domain.audit_chain import ChainedEvent, ChainState, Head, Link, LinkedEvent
from services.auth.domain.authorization import AuthorizationCode
from services.auth.domain.erasure import Erasure
from services.auth.domain.key_rotation import KeyLine
from services.auth.domain.letter import Letter
from services.auth.domain.mail import Mail
from services.auth.domain.mailed_proof import MailedProof, ProofPurpose
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.oauth_client import OAuthClient
from services.auth.domain.organisation import (
    Headcount,
    Invitation,
    InvitationId,
    InvitationToken,
    Member,
    Organisation,
    OrganisationId,
)
from services.auth.domain.password import Password, PasswordHash
from services.auth.domain.personal_token import PersonalToken, PersonalTokenId, PresentedToken
from services.auth.domain.second_factor import Totp
from services.auth.domain.sign_in import EndReason, SignIn, SignInId
from services.auth.domain.signing_keys import SigningKeys
from services.auth.domain.user import EmailAddress, LoginName, User, Username
from shared.erasure import ErasureId
from shared.events import Event
from shared.ids import EventId, UserId


class Users(Protocol):
    """The accounts."""

    async def get(self, user_id: UserId) -> User | None: ...

    async def hold(self, user_id: UserId) -> User | None:
        """The user, whom nobody else changes until this unit of work ends."""
        ...

    async def named(self, name: LoginName) -> User | None: ...

    async def add(self, user: User) -> None:
        """Raises UsernameTaken, or AddressTaken for a proven address."""
        ...

    async def save(self, user: User) -> None:
        """Write a user that this unit of work holds; leaves the tier alone.

        Raises UsernameTaken, or AddressTaken when another account has proven the address.
        """
        ...

    async def set_tiers(self, tiers: Mapping[UserId, tuple[str, int]], at: datetime) -> None:
        """Give users their tier where its revision is higher than the one known."""
        ...

    async def note_tiers(self, user_ids: Collection[UserId]) -> None:
        """Their effective tier may have changed: tell everybody once this is committed."""
        ...

    async def forget_unproven_before(self, at: datetime, *, most: int) -> int:
        """Delete some that were opened by then, never proved their address and never signed in."""
        ...


class SignIns(Protocol):
    """The sign-ins, including those that have ended but are not yet forgotten."""

    async def get(self, sign_in_id: SignInId) -> SignIn | None: ...

    async def live_of(
        self, user_id: UserId, at: datetime, *, before: SignInId | None, most: int
    ) -> Sequence[SignIn]:
        """The newest first, from the one after `before` on."""
        ...

    async def add(self, sign_in: SignIn) -> None: ...

    async def advance(self, rotated: SignIn) -> bool:
        """Keep a rotation unless another one was faster; False then."""
        ...

    async def prove_again(self, proven: SignIn) -> None:
        """Keep when and how its person has proven who they are."""
        ...

    async def end(self, sign_in_id: SignInId, reason: EndReason, at: datetime) -> bool:
        """The first reason stays; False when there was one. Everybody is told once this is
        committed."""
        ...

    async def end_all_of(
        self, user_id: UserId, reason: EndReason, at: datetime, *, but: SignInId | None = None
    ) -> int:
        """Answers how many these were."""
        ...

    async def end_all_of_client(self, client_id: str, reason: EndReason, at: datetime) -> int:
        """Answers how many were still live."""
        ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some of those that were over by then; answers how many."""
        ...


class LoginFailures(Protocol):
    """Wrong guesses, counted by subject."""

    async def of(self, subject: str) -> Failures | None: ...

    async def of_all(self, subjects: Sequence[str]) -> Mapping[str, Failures]: ...

    async def hold(self, subject: str) -> Failures | None:
        """As `of`, and nobody else holds this subject until this unit of work ends."""
        ...

    async def save(self, subject: str, failures: Failures) -> None:
        """Write the count of a subject that this unit of work holds."""
        ...

    async def add(self, subject: str, at: datetime, *, window_ends_at: datetime) -> Failures:
        """Count one more, holding nothing; the window is a new one if the last has ended."""
        ...

    async def forget(self, subject: str) -> None: ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some whose window had ended by then; answers how many."""
        ...


class SecondFactors(Protocol):
    """Authenticators and recovery codes."""

    async def totp_of(self, user_id: UserId) -> Totp | None:
        """Also one that waits to be confirmed. Raises SecondFactorUnreadable."""
        ...

    async def active_since(self, user_id: UserId) -> datetime | None:
        """Asks for no sealing key."""
        ...

    async def begin(self, totp: Totp) -> bool:
        """Keep a new one in place of one that was never confirmed; False if one is active."""
        ...

    async def confirm(self, totp: Totp) -> bool:
        """Activate the one that was begun, unless it has been activated or replaced meanwhile."""
        ...

    async def take_step(self, user_id: UserId, step: int) -> bool:
        """Note that the code of a step was used; False for a step that is not a later one."""
        ...

    async def remove(self, user_id: UserId) -> bool:
        """Delete an active one and its recovery codes; False if there was none."""
        ...

    async def replace_recovery_codes(self, user_id: UserId, hashes: Sequence[bytes]) -> None: ...

    async def take_recovery_code(self, user_id: UserId, hash_: bytes, at: datetime) -> bool:
        """Note that a code was used; False if it is none, or was used before."""
        ...

    async def recovery_codes_left(self, user_id: UserId) -> int: ...


class EndedCredentials(Protocol):
    """Sign-ins and personal tokens that have ended, while access tokens of theirs may live."""

    async def add(self, ids: Collection[UUID], *, of: UserId, at: datetime) -> None:
        """Everybody is told once this is committed. `sign_ins.end` does this by itself."""
        ...

    async def since(self, at: datetime) -> Sequence[UUID]: ...

    async def forget_before(self, at: datetime, *, most: int) -> int: ...


class PersonalTokens(Protocol):
    """Personal tokens, including those that are over but not yet forgotten."""

    async def get(self, token_id: PersonalTokenId) -> PersonalToken | None:
        """The token, which nobody else changes until this unit of work ends."""
        ...

    async def live_of(
        self, user_id: UserId, at: datetime, *, before: PersonalTokenId | None, most: int
    ) -> Sequence[PersonalToken]:
        """The newest first, from the one after `before` on."""
        ...

    async def count_live(self, user_id: UserId, at: datetime) -> int: ...

    async def add(self, token: PersonalToken) -> None: ...

    async def revoke(self, token_id: PersonalTokenId, at: datetime) -> None: ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some of those that were over by then; answers how many."""
        ...


class OAuthClients(Protocol):
    """The clients that an operator has registered."""

    async def get(self, client_id: str) -> OAuthClient | None: ...

    async def all(self) -> Sequence[OAuthClient]:
        """The oldest first."""
        ...

    async def add(self, client: OAuthClient) -> None: ...

    async def disable(self, client: OAuthClient) -> None: ...


class AuthorizationCodes(Protocol):
    """Codes, used ones too for as long as a second use is worth noticing."""

    async def add(self, code: AuthorizationCode) -> None: ...

    async def hold(self, code_hash: bytes) -> AuthorizationCode | None:
        """The code, which nobody else uses until this unit of work ends."""
        ...

    async def use(self, used: AuthorizationCode) -> None: ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some of those that had expired by then; answers how many."""
        ...


class PresentedTokens(Protocol):
    """Personal tokens as they are used: outside a unit of work, since each request asks."""

    async def by_hash(self, token_hash: bytes) -> PresentedToken | None: ...

    async def note_use(self, token_id: PersonalTokenId, at: datetime) -> None: ...


class Organisations(Protocol):
    """The organisations."""

    async def get(self, organisation_id: OrganisationId) -> Organisation | None: ...

    async def hold(self, organisation_id: OrganisationId) -> Organisation | None:
        """The organisation, whose members, seats and invitations nobody else changes until this
        unit of work ends."""
        ...

    async def add(self, organisation: Organisation) -> None: ...

    async def save(self, organisation: Organisation) -> None: ...

    async def delete(self, organisation_id: OrganisationId) -> None:
        """With its memberships and invitations."""
        ...


class Members(Protocol):
    """Who belongs to which organisation."""

    async def get(self, organisation_id: OrganisationId, user_id: UserId) -> Member | None: ...

    async def of(
        self, organisation_id: OrganisationId, *, after: tuple[datetime, UserId] | None, most: int
    ) -> Sequence[Member]:
        """By when they joined, from the one after `after` on."""
        ...

    async def seated(self, organisation_id: OrganisationId) -> Sequence[Member]: ...

    async def headcount(self, organisation_id: OrganisationId) -> Headcount: ...

    async def has_address(self, organisation_id: OrganisationId, email: EmailAddress) -> bool:
        """Whether a member has proven this address."""
        ...

    async def add(self, member: Member) -> None:
        """Raises InAnOrganisation or AccountGone."""
        ...

    async def save(self, members: Sequence[Member]) -> None:
        """Their role and seat."""
        ...

    async def remove(self, member: Member) -> None: ...


class Invitations(Protocol):
    """Invitations, including those that are not open any more but not yet forgotten."""

    async def get(
        self, organisation_id: OrganisationId, invitation_id: InvitationId
    ) -> Invitation | None: ...

    async def shown(self, token: InvitationToken) -> Invitation | None: ...

    async def open_of(
        self,
        organisation_id: OrganisationId,
        at: datetime,
        *,
        before: InvitationId | None,
        most: int,
    ) -> Sequence[Invitation]:
        """The newest first, from the one after `before` on."""
        ...

    async def count_open(self, organisation_id: OrganisationId, at: datetime) -> int: ...

    async def sent_since(
        self, organisation_id: OrganisationId, email: EmailAddress, since: datetime
    ) -> Sequence[datetime]:
        """When this address was invited, the oldest first."""
        ...

    async def add(self, invitation: Invitation) -> None: ...

    async def save(self, invitation: Invitation) -> None: ...

    async def withdraw_to(
        self, organisation_id: OrganisationId, email: EmailAddress, at: datetime
    ) -> None:
        """Withdraw what is open for this address."""
        ...

    async def withdraw_by(
        self,
        organisation_id: OrganisationId,
        inviter: UserId,
        at: datetime,
        *,
        roles: Collection[OrganisationRole],
    ) -> None:
        """Withdraw what this member has offered, where it is one of these roles."""
        ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some of those that had expired by then; answers how many."""
        ...


class Audit(Protocol):
    """The audit trail."""

    async def note(self, entry: AuditEntry) -> None: ...

    async def of_user(
        self, user_id: UserId, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        """What concerns a user: the newest first, from the one after `before` on."""
        ...

    async def of_organisation(
        self, organisation_id: UUID, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        """What happened in an organisation, likewise."""
        ...

    async def of_everybody(self, *, since: datetime | None, most: int) -> Sequence[AuditEntry]:
        """The newest first."""
        ...

    async def erase_origins_of(self, user_id: UserId, *, most: int) -> int:
        """Forget from where somebody did what they did; answers how many rows it was."""
        ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Forget from where things were done before; the entries themselves stay."""
        ...


class AuditChain(Protocol):
    """The links over the audit trail."""

    async def take_turn(self) -> bool:
        """Whether this unit of work is the one that may add links until it ends."""
        ...

    async def head(self) -> Head: ...

    async def unlinked(self, *, most: int) -> Sequence[ChainedEvent]:
        """Events that have no link, in the order in which they shall get one."""
        ...

    async def add(self, links: Sequence[Link]) -> None: ...

    async def after(self, sequence: int, *, most: int) -> Sequence[LinkedEvent]: ...

    async def events_after(
        self, event_id: UUID | None, *, most: int
    ) -> Sequence[tuple[UUID, bool, bool]]:
        """Ids of events in their order, with whether each is linked and whether it waits."""
        ...

    async def state(self, at: datetime) -> ChainState: ...


class Mails(Protocol):
    """Mails that wait to be sent."""

    async def add(self, mail: Mail, *, to: User | None = None) -> None:
        """Queue it and tell our worker; `to` is its reader, where that is a user already."""
        ...

    async def due(self, at: datetime, *, most: int) -> Sequence[UUID]: ...

    async def claim(self, mail_id: UUID, at: datetime, *, until: datetime) -> Mail | None:
        """Have a mail that is due for oneself until then; None if somebody else has it.

        Raises UnreadableMail.
        """
        ...

    async def postpone(self, mail_id: UUID, until: datetime) -> None: ...

    async def remove(self, mail_id: UUID) -> None: ...


class MailedProofs(Protocol):
    """Tokens that were mailed, by their hashes."""

    async def add(self, proof: MailedProof) -> None:
        """Older ones of the same user and purpose are void from now on."""
        ...

    async def find(
        self, token_hash: bytes, purposes: Collection[ProofPurpose], at: datetime
    ) -> MailedProof | None:
        """One that is still good, which it stays."""
        ...

    async def take(
        self, token_hash: bytes, purposes: Collection[ProofPurpose], at: datetime
    ) -> MailedProof | None:
        """Use one up. Of two who try at once, one gets it."""
        ...

    async def void(self, user_id: UserId, purpose: ProofPurpose, at: datetime) -> None: ...

    async def newest_at(self, user_id: UserId, purpose: ProofPurpose) -> datetime | None: ...

    async def forget_before(self, at: datetime, *, most: int) -> int: ...


class Erasures(Protocol):
    """Deleted accounts, and who has forgotten their users."""

    async def hold_account(self, user_id: UserId) -> None:
        """From now on nobody begins anything for this account."""
        ...

    async def credentials_of(self, user_id: UserId) -> Sequence[UUID]:
        """The sign-ins and personal tokens that have not ended."""
        ...

    async def delete_account(self, user: User) -> None:
        """With all that hangs on it, and what waits for its proven address."""
        ...

    async def add(self, erasure: Erasure) -> None: ...

    async def find(self, receipt_hash: bytes) -> Erasure | None: ...

    async def hold(self, erasure_id: ErasureId) -> Erasure | None:
        """The erasure, which nobody else changes until this unit of work ends."""
        ...

    async def save(self, erasure: Erasure) -> None: ...

    async def unfinished(
        self, since: datetime, before: datetime, *, most: int
    ) -> Sequence[Erasure]:
        """Those that were asked for between then and then, the oldest first."""
        ...

    async def latest(self, *, most: int) -> Sequence[Erasure]: ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some that were complete by then; answers how many."""
        ...


class CollectedAccount(Protocol):
    """All that is kept about a user, complete."""

    def chunks(self) -> AsyncIterator[bytes]:
        """One JSON document; good once."""
        ...


class AccountCollector(Protocol):
    """Asks every service what it keeps about a user."""

    async def collect(
        self, user_id: UserId, own: AsyncIterator[bytes], *, at: datetime
    ) -> CollectedAccount:
        """Raises ExportUnavailable."""
        ...


class UnitOfWork(Protocol):
    """State and facts that commit together, on a clean exit."""

    @property
    def users(self) -> Users: ...

    @property
    def sign_ins(self) -> SignIns: ...

    @property
    def login_failures(self) -> LoginFailures: ...

    @property
    def second_factors(self) -> SecondFactors: ...

    @property
    def ended_credentials(self) -> EndedCredentials: ...

    @property
    def personal_tokens(self) -> PersonalTokens: ...

    @property
    def oauth_clients(self) -> OAuthClients: ...

    @property
    def authorization_codes(self) -> AuthorizationCodes: ...

    @property
    def organisations(self) -> Organisations: ...

    @property
    def members(self) -> Members: ...

    @property
    def invitations(self) -> Invitations: ...

    @property
    def audit(self) -> Audit: ...

    @property
    def audit_chain(self) -> AuditChain: ...

    @property
    def mails(self) -> Mails: ...

    @property
    def mailed_proofs(self) -> MailedProofs: ...

    @property
    def erasures(self) -> Erasures: ...

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None: ...

    async def unseen(self, ids: Iterable[EventId]) -> set[EventId]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


NewUnitOfWork = Callable[[], UnitOfWork]


class Passwords(Protocol):
    """Hashes and checks passwords; slow on purpose. Methods raise PasswordsBusy."""

    async def hash(self, password: Password) -> PasswordHash: ...

    async def verify(self, password: Password, hash_: PasswordHash | None) -> bool:
        """Whether the password fits. None stands for an unknown user: as much work, then False."""
        ...

    def refuse_if_full(self) -> None:
        """Before anything is looked up for a password that would find no place to wait."""
        ...

    def is_outdated(self, hash_: PasswordHash) -> bool:
        """Whether it was made with other parameters than today's."""
        ...


class PasswordRules(Protocol):
    """What a new password must be like."""

    async def check(self, password: Password, *, email: EmailAddress, username: Username) -> None:
        """Raises PasswordRefused or PasswordsBusy."""
        ...


class Mailer(Protocol):
    """Hands letters on."""

    async def send(self, letter: Letter) -> None:
        """Raises NotDelivered or Undeliverable."""
        ...


class SigningKeySource(Protocol):
    """Where the signing keys come from."""

    def current(self) -> SigningKeys:
        """Raises SigningKeysUnavailable."""
        ...


class SigningKeyStore(Protocol):
    """The same keys for the console, which alone may change them."""

    def read(self) -> KeyLine:
        """Raises UnusableSigningKeys or OSError."""
        ...

    def change(self, change: Callable[[KeyLine], KeyLine]) -> KeyLine:
        """Replace the keys in one step, one caller at a time; raises what `change` raises too."""
        ...


class SessionNews(Protocol):
    """Tells everybody which sessions have ended."""

    async def repeat(self, all_ended_lately: Iterable[UUID]) -> None:
        """Raises DependencyUnavailable."""
        ...


class ServiceState(StrEnum):
    """How a service is, seen from outside."""

    OK = "ok"
    NOT_READY = "not_ready"
    UNREACHABLE = "unreachable"


# Asks one service how it is; never fails.
Probe = Callable[[], Awaitable[ServiceState]]
