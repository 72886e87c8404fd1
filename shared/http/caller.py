"""Who is calling: a user by their access token, or another service by its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import httpx
import structlog
from fastapi import Depends, Request
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.datastructures import Headers

from shared.errors import DependencyUnavailable, Forbidden, Unauthenticated
from shared.events.base import current_request_id
from shared.identity import OnBehalfOf, Peers
from shared.news.ended_sessions import EndedSessions
from shared.tiers import Tier, tier_named
from shared.tokens import Identity, TokenVerifier
from shared.values import dataclass

log = structlog.get_logger(__name__)

# A removed signing key must end its tokens within a minute: we begin to look before that, beside
# the requests, and let no request pass with keys that are older.
_FRESH_SECONDS = 45.0
_STALE_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 5.0
_PROOF_LASTS_SECONDS = 600
_SECOND_FACTORS = frozenset({"otp", "recovery"})
_NO_KEYS = (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Caller:
    """The signed-in user of this request, and the token that proves it."""

    identity: Identity
    token: str

    @property
    def tier(self) -> Tier:
        """The tier that the token claims."""
        return tier_named(self.identity.tier)

    def require(self, scope: str) -> None:
        """Raises ScopeMissing unless the token may be used for this."""
        if scope not in self.identity.scopes:
            raise ScopeMissing(scope)


def on_behalf_of(caller: Caller) -> OnBehalfOf:
    """Whose key a vendor is to be asked with, for this request."""
    return OnBehalfOf(
        user_id=caller.identity.user_id,
        request_id=current_request_id.get() or "",
        access_token=caller.token,
        sign_in_id=caller.identity.sign_in_id,
        served_by=caller.identity.served_by,
        organisation_id=caller.identity.organisation_id,
    )


def refresh_hint(caller: Caller, tier: str) -> dict[str, str]:
    """The header that tells a client to refresh its tokens: the user's tier is another one now."""
    return {} if tier == caller.identity.tier else {"x-token-refresh": "tier"}


class ScopeMissing(Forbidden):
    """The token is good, but not for this; a personal token never is for the account or keys."""

    code: ClassVar[str] = "scope_missing"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This token may not be used for {scope}.", scope=scope)


class StepUpRequired(Forbidden):
    """The sign-in is good, but this needs a fresh proof: `POST /auth/step-up`."""

    code: ClassVar[str] = "step_up_required"

    def __init__(self, max_age_seconds: int) -> None:
        super().__init__(
            "Prove again who you are (POST /auth/step-up), then repeat this.",
            max_age_seconds=max_age_seconds,
        )


class RemoteKeys:
    """auth's public keys, fetched from its JWKS and kept fresh.

    While auth is out of reach the last known keys go on serving. An unknown key id makes us look
    again, but not more often than every five seconds: forged ids must not flood auth.
    """

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.version = 0
        self._url = url
        self._client = client
        self._keys: KeySet | None = None
        self._document = b""
        self._looked_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def current(self) -> KeySet:
        """The known keys, at most a minute old unless auth is out of reach. Raises
        DependencyUnavailable while it never was in reach."""
        age = time.monotonic() - self._looked_at
        if age > _FRESH_SECONDS:
            fetching = self._fetch_once()
            if self._keys is None or age > _STALE_SECONDS:
                await asyncio.shield(fetching)
        if self._keys is None:
            raise DependencyUnavailable("sign-in keys")
        return self._keys

    async def refreshed_for(self, _key_id: str) -> KeySet:
        """The keys after looking again for an id not seen before."""
        if time.monotonic() - self._looked_at > _LOOK_AGAIN_SECONDS:
            await asyncio.shield(self._fetch_once())
        return await self.current()

    def _fetch_once(self) -> asyncio.Task[None]:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            answer = await self._client.get(self._url, timeout=2)
            answer.raise_for_status()
            keys = _key_set(answer.content)
        except _NO_KEYS as error:
            log.warning("jwks_unreachable", kind=type(error).__name__)
            # Known keys go on serving; without any, the next request may look again at once.
            self._looked_at = time.monotonic() if self._keys else float("-inf")
            return
        self._looked_at = time.monotonic()
        if answer.content != self._document:
            self._document, self._keys = answer.content, keys
            self.version += 1


def _key_set(document: bytes) -> KeySet:
    keys = KeySet.import_key_set(json.loads(document))
    if not keys.keys:
        # Nobody's token could be checked with it, and that is no proof against anybody.
        raise ValueError("no keys")
    return keys


def bearer_token(header: str | None) -> str:
    """The token in an Authorization header. Raises Unauthenticated when there is none."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Send an access token: `Authorization: Bearer …`.")
    return token.strip()


def sdk_token(headers: Headers, key_header: str) -> str:
    """The one token that a vendor's SDK shows, as a bearer or in `key_header`, where it puts what
    it takes for a key; a blank header is none. Raises Unauthenticated.
    """
    bearers = [value for value in headers.getlist("authorization") if value.strip()]
    shown = set(map(bearer_token, bearers))
    if key_header != "authorization":
        shown |= {key.strip() for key in headers.getlist(key_header)} - {""}
    if len(shown) != 1:
        raise Unauthenticated("Send one access token or personal token.")
    return shown.pop()


async def signed_in(request: Request) -> Caller:
    """The caller of a user's route, with a token meant for this service's routes.

    Raises Unauthenticated, or ScopeMissing.
    """
    return await caller_with(request.app, bearer_token(request.headers.get("authorization")))


async def caller_with(app: Any, token: str) -> Caller:
    """Whose token it is, for `app`'s routes. Raises Unauthenticated, or ScopeMissing."""
    verifier: TokenVerifier = app.state.verifier
    caller = Caller(await verifier.verify(token), token)
    caller.require(app.state.scope)
    return caller


async def caller_of(scope: Mapping[str, Any]) -> Caller:
    """`signed_in` for a route that is plain ASGI."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            return await caller_with(scope["app"], bearer_token(value.decode("latin-1")))
    return await caller_with(scope["app"], bearer_token(None))


class Holding:
    """A dependency for a route that needs a scope of its own, in place of its service's: the
    caller, whose session has not ended.

    Raises Unauthenticated, ScopeMissing, SessionEnded or DependencyUnavailable.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> Caller:
        verifier: TokenVerifier = request.app.state.verifier
        token = bearer_token(request.headers.get("authorization"))
        caller = Caller(await verifier.verify(token), token)
        caller.require(self.scope)
        ended: EndedSessions = request.app.state.ended_sessions
        await ended.check(caller.identity.sign_in_id)
        return caller


SignedIn = Annotated[Caller, Depends(signed_in)]
"""Proven by signature: right until the token expires, even if the session has ended since. Where
the service hears of that (chat, voice), its verifier refuses the token (`news.living_sessions`)."""


async def still_signed_in(request: Request, caller: SignedIn) -> Caller:
    """The caller, whose session has not ended. Raises SessionEnded or DependencyUnavailable."""
    ended: EndedSessions = request.app.state.ended_sessions
    await ended.check(caller.identity.sign_in_id)
    return caller


StillSignedIn = Annotated[Caller, Depends(still_signed_in)]
"""For what matters: a session that was ended is out within a second. Needs Valkey."""


class AlsoHolding:
    """A dependency for a route that needs a scope beside its service's: the caller, whose session
    has not ended. Raises ScopeMissing, too."""

    def __init__(self, scope: str) -> None:
        self.scope = scope

    async def __call__(self, caller: StillSignedIn) -> Caller:
        caller.require(self.scope)
        return caller


class SdkSignedIn:
    """A dependency for a route that a vendor's SDK calls: the caller, wherever it put the token.
    `key_header` is where it puts what it takes for a key. Raises Unauthenticated, or ScopeMissing.
    """

    def __init__(self, key_header: str) -> None:
        self._key_header = key_header

    async def __call__(self, request: Request) -> Caller:
        return await caller_with(request.app, sdk_token(request.headers, self._key_header))


async def freshly_proven(caller: StillSignedIn) -> Caller:
    """The caller, who proved a short while ago who they are. Raises StepUpRequired."""
    identity = caller.identity
    proven_lately = time.time() - identity.authenticated_at <= _PROOF_LASTS_SECONDS
    with_all = not identity.has_second_factor or identity.methods & _SECOND_FACTORS
    if not proven_lately or not with_all:
        raise StepUpRequired(_PROOF_LASTS_SECONDS)
    return caller


FreshlyProven = Annotated[Caller, Depends(freshly_proven)]
"""For what can't be undone: a token found on an unlocked machine is not enough."""


def calling_service(request: Request) -> str:
    """The name of the service that calls an internal route. Raises Unauthenticated."""
    peers: Peers = request.app.state.peers
    return peers.service_of(bearer_token(request.headers.get("authorization")))


class OnlyFrom:
    """A dependency that lets only the named services in.

    Like every dependency here it is async: FastAPI runs the others in a thread, which costs more
    than what they do.
    """

    def __init__(self, *services: str) -> None:
        self._services = frozenset(services)

    async def __call__(self, request: Request) -> str:
        name = calling_service(request)
        if name not in self._services:
            raise Forbidden(f"{name} may not call this.")
        return name
