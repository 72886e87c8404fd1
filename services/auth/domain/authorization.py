"""What a client asks of the login page, where its answer goes, and the code that it gets."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from datetime import datetime, timedelta
from typing import Self
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from services.auth.domain.errors import (
    InvalidOAuthRequest,
    OAuthRefused,
    UnknownScope,
    UnsupportedResponseType,
)
from services.auth.domain.oauth_client import OAuthClient
from services.auth.domain.pkce import METHOD, CodeChallenge
from services.auth.domain.sign_in import Proof
from services.auth.domain.user import User
from shared.ids import UserId
from shared.scopes import SIGN_IN_SCOPES, USAGE_WRITE
from shared.values import dataclass

PARAMETERS = (
    *("response_type", "client_id", "redirect_uri", "code_challenge", "code_challenge_method"),
    *("state", "scope"),
)
"""What a request consists of; the login page carries them along."""

CODE_LIFETIME = timedelta(seconds=60)
_LONGEST_STATE = 1024
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_CODE = re.compile(r"[A-Za-z0-9_-]{43}")
# Extensions of the protocol that would change what a request means. Others are ignored (RFC 6749).
_NOT_SPOKEN = ("request", "request_uri", "response_mode")
_SCOPES = SIGN_IN_SCOPES | {USAGE_WRITE}


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters of a request, of which each may come once (RFC 6749, section 3.1)."""

    values: Mapping[str, str]
    repeated: frozenset[str]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """An empty value counts as none."""
        values: dict[str, str] = {}
        repeated = set()
        for name, value in pairs:
            if name in values:
                repeated.add(name)
            values[name] = value
        return cls({name: value for name, value in values.items() if value}, frozenset(repeated))

    def once(self, name: str) -> str | None:
        """The value of a parameter that did not come twice."""
        return None if name in self.repeated else self.values.get(name)

    def required(self, name: str) -> str:
        """Raises InvalidOAuthRequest."""
        value = self.once(name)
        if value is None:
            raise InvalidOAuthRequest(f"{name} is needed once.")
        return value


@dataclass(frozen=True, slots=True)
class ReturnAddress:
    """Where the answer goes: an address of the client's own, with the client's own state."""

    client: OAuthClient
    redirect_uri: str
    state: str | None
    issuer: str

    @property
    def form_target(self) -> str:
        """The address as a Content-Security-Policy names it, which knows no IPv6."""
        parts = urlsplit(self.redirect_uri)
        return f"{parts.scheme}:" if "[" in parts.netloc else f"{parts.scheme}://{parts.netloc}"

    def with_code(self, code: str) -> str:
        """Where to send the browser with a code."""
        return self._with(code=code)

    def with_error(self, refused: OAuthRefused) -> str:
        """Where to send the browser when the request is refused."""
        return self._with(error=refused.error, error_description=refused.message)

    def _with(self, **answer: str) -> str:
        # `iss` lets a client of many servers see which one has answered (RFC 9207).
        state = {} if self.state is None else {"state": self.state}
        query = urlencode({**answer, **state, "iss": self.issuer})
        return f"{self.redirect_uri}{'&' if '?' in self.redirect_uri else '?'}{query}"


def state_of(asked: Asked) -> str | None:
    """The client's state, unless it is one that we don't send back."""
    state = asked.once("state")
    return state if state is not None and _is_plain(state) else None


def _is_plain(state: str) -> bool:
    return len(state) <= _LONGEST_STATE and _PRINTABLE.fullmatch(state) is not None


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A client asks that somebody signs in and lets it act for them."""

    address: ReturnAddress
    challenge: CodeChallenge
    scopes: frozenset[str] | None

    @classmethod
    def read(cls, asked: Asked, address: ReturnAddress) -> Self:
        """Raises OAuthRefused, of which the client is told at its address."""
        for name in sorted(asked.repeated):
            if name in PARAMETERS:
                raise InvalidOAuthRequest(f"{name} came more than once.")
        for name in _NOT_SPOKEN:
            if asked.values.get(name, "query") != "query" or name in asked.repeated:
                raise InvalidOAuthRequest(f"{name} is not supported.")
        if not _is_plain(asked.values.get("state", "")):
            raise InvalidOAuthRequest("state is too long or not printable.")
        if asked.required("response_type") != "code":
            raise UnsupportedResponseType
        return cls(address, _challenge(asked), _scopes(asked.once("scope")))


def _challenge(asked: Asked) -> CodeChallenge:
    # Left out, the method would mean `plain`, which shows the secret to whoever reads the address.
    if asked.once("code_challenge_method") != METHOD:
        raise InvalidOAuthRequest(f"code_challenge_method must be {METHOD}.")
    text = asked.required("code_challenge")
    if not CodeChallenge.is_one(text):
        raise InvalidOAuthRequest("code_challenge is no SHA-256 in base64url.")
    return CodeChallenge(text)


def _scopes(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    scopes = frozenset(text.split(" "))
    if not scopes <= _SCOPES:
        raise UnknownScope(sorted(_SCOPES))
    return scopes


def new_code() -> str:
    """A code that nobody can guess."""
    return secrets.token_urlsafe(32)


def hash_of_code(code: str) -> bytes | None:
    """What is kept of a code; None for what can't be one."""
    return hashlib.sha256(code.encode()).digest() if _CODE.fullmatch(code) else None


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """The proof that somebody signed in for a client. It is good for one try within a minute."""

    code_hash: bytes = field(repr=False)
    client_id: str
    user_id: UserId
    redirect_uri: str
    challenge: CodeChallenge
    scopes: frozenset[str] | None
    proof: Proof
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    sign_in_id: UUID | None = None

    @classmethod
    def issued(
        cls, code: str, request: AuthorizationRequest, user: User, proof: Proof, at: datetime
    ) -> Self:
        return cls(
            code_hash=hashlib.sha256(code.encode()).digest(),
            client_id=request.address.client.client_id,
            user_id=user.id,
            redirect_uri=request.address.redirect_uri,
            challenge=request.challenge,
            scopes=request.scopes,
            proof=proof,
            created_at=at,
            expires_at=at + CODE_LIFETIME,
        )

    def is_met_by(self, shown: Redemption, at: datetime) -> bool:
        """Whether this is its client, in time, with all that it said when it asked."""
        return (
            at < self.expires_at
            and shown.client_id == self.client_id
            and shown.redirect_uri == self.redirect_uri
            and self.challenge.is_met_by(shown.verifier)
        )

    def is_still_of(self, user: User) -> bool:
        """Whether its user could sign in as they did. Whatever ends all sign-ins voids codes by
        itself; this holds whatever was done to the account."""
        return user.is_active and user.password_changed_at <= self.proof.at

    def used(self, at: datetime, sign_in_id: UUID | None) -> Self:
        return replace(self, used_at=at, sign_in_id=sign_in_id)


@dataclass(frozen=True, slots=True)
class Redemption:
    """What a client shows to get tokens for a code."""

    client_id: str
    code: str = field(repr=False)
    redirect_uri: str
    verifier: str = field(repr=False)
