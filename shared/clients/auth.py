"""auth, asked on its internal port what somebody may do in an organisation.

Fits the ports of billing, of keyvault and of voice by its shape alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
import structlog

from shared.errors import DependencyUnavailable
from shared.identity import ServiceIdentity
from shared.ids import UserId
from shared.telemetry.tracing import calling

log = structlog.get_logger(__name__)

# Somebody waits for the answer, and auth only looks at one row.
_TIMEOUT_SECONDS = 2.0
_AUDIENCE = "auth"


class AuthOrganisations:
    """Asks auth each time: what somebody is in an organisation may have changed a second ago.

    Answers None for who is no member. Raises DependencyUnavailable.
    """

    def __init__(
        self, client: httpx.AsyncClient, base_url: str | None, me: ServiceIdentity
    ) -> None:
        """Without a URL no organisation can be asked about."""
        self._client = client
        self._base_url = base_url
        self._me = me

    async def may_buy(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        """Whether the user decides about the organisation's subscription."""
        return await self._may("may_buy", organisation_id, user_id)

    async def may_manage_keys(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        """Whether the user decides about the organisation's keys."""
        return await self._may("may_manage_keys", organisation_id, user_id)

    async def seats_taken(self, organisation_id: UUID, user_id: UserId) -> int | None:
        """How many people sit there; None when auth does not say (an older one)."""
        body = await self._member(organisation_id, user_id)
        taken = body.get("seats_taken") if body is not None else None
        return taken if isinstance(taken, int) else None

    async def _may(self, what: str, organisation_id: UUID, user_id: UserId) -> bool | None:
        body = await self._member(organisation_id, user_id)
        return None if body is None else body.get(what) is True

    async def _member(self, organisation_id: UUID, user_id: UserId) -> dict[str, object] | None:
        answer = await self._ask(f"/internal/organisations/{organisation_id}/members/{user_id}")
        body = _body_of(answer)
        # Any 404 but auth's own (a wrong address, a proxy) says nothing about members.
        if answer.status_code == 404 and body.get("code") == "member_not_found":
            return None
        if answer.status_code != 200:
            log.warning("auth_did_not_answer", status=answer.status_code)
            raise DependencyUnavailable("account service")
        return body

    async def _ask(self, path: str) -> httpx.Response:
        if self._base_url is None:
            raise DependencyUnavailable("account service")
        proof = {"authorization": f"Bearer {self._me.token_for(_AUDIENCE)}"}
        try:
            with calling("ask auth") as trace:
                return await self._client.get(
                    self._base_url.rstrip("/") + path,
                    headers=proof | trace,
                    timeout=_TIMEOUT_SECONDS,
                )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            log.warning("auth_unreachable", reason=type(error).__name__)
            raise DependencyUnavailable("account service") from error


def _body_of(answer: httpx.Response) -> dict[str, object]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


@asynccontextmanager
async def open_auth(base_url: str | None, me: ServiceIdentity) -> AsyncIterator[AuthOrganisations]:
    """The client: no proxy from the environment, no redirects."""
    async with httpx.AsyncClient(trust_env=False, follow_redirects=False) as client:
        yield AuthOrganisations(client, base_url, me)
