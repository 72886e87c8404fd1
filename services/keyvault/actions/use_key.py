"""Let a service's call go out with a user's key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from services.keyvault.domain.audit import Kind
from services.keyvault.domain.envelope import NotAuthentic
from services.keyvault.domain.errors import (
    GrantReplayed,
    KeyNotFound,
    KeyNotUsable,
    NotYourKey,
    ProviderNotAllowed,
)
from services.keyvault.domain.key_use import FoundKey, KeyUse
from services.keyvault.domain.organisation import ClaimedSeat
from services.keyvault.domain.own_server import OwnServer
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.policy import may_use
from services.keyvault.domain.ports import KeyUses
from services.keyvault.domain.provider_key import USABLE
from services.keyvault.domain.service_use import UseMeter
from services.keyvault.domain.vault import Vault
from shared.clock import Clock
from shared.identity import Grant
from shared.ids import UserId
from shared.revocation import KEY_HEADER
from shared.values import dataclass
from shared.vendors import vendors


@dataclass(frozen=True, slots=True)
class UseKey:
    """The header that carries a user's key, for one call that a service makes for them, and the one
    that tells the service which key it is.

    It takes two proofs, the service's grant and the user's own presence, and a line in the trail:
    without that line no key leaves the vault.
    """

    key_uses: KeyUses
    vault: Vault
    clock: Clock
    meter: UseMeter
    most_per_user_minute: int
    own_server: OwnServer | None = None

    async def __call__(
        self, grant: Grant, *, caller: UserId, provider: str, seat: ClaimedSeat | None = None
    ) -> Mapping[str, str]:
        """`seat` is what the user's token says of their place in an organisation: where they have
        no usable key of their own, that organisation's serves them. For the operator's own server
        it may be that there is no header.

        Raises NotYourKey, ProviderNotAllowed, KeyNotFound, KeyNotUsable, GrantReplayed,
        ServiceStopped, ServiceRateReached, UserRateReached or VaultSealed; NotAuthentic, which is
        noted, for a secret that can't be opened.
        """
        if grant.user_id != caller:
            raise NotYourKey
        if provider != grant.provider or not may_use(grant.service, provider):
            raise ProviderNotAllowed
        if provider not in vendors:
            return await self._keyless(grant, provider)
        roots, now = self.vault.roots, self.clock.now()
        self.meter.admit(grant.service, now)
        use = _use(grant, now, seat)
        noted = await self.key_uses.note(use, if_status=USABLE, most=self.most_per_user_minute)
        found = _usable(noted, provider)
        self.meter.served(grant.service, grant.user_id)
        try:
            async with found.opened(roots) as secret:
                carried = _key_header(provider, secret.decode("ascii"))
                return {**carried, KEY_HEADER: found.as_used.told}
        except NotAuthentic:
            await self.key_uses.note_broken(found.broken(use))
            raise

    async def _keyless(self, grant: Grant, provider: str) -> Mapping[str, str]:
        if self.own_server is None or self.own_server.provider != provider:
            raise ProviderNotAllowed
        now = self.clock.now()
        self.meter.admit(grant.service, now)
        if not await self.key_uses.note_keyless(_use(grant, now), most=self.most_per_user_minute):
            raise GrantReplayed
        self.meter.served(grant.service, grant.user_id)
        return self.own_server.headers


def _use(grant: Grant, at: datetime, seat: ClaimedSeat | None = None) -> KeyUse:
    return KeyUse(
        Kind.USED,
        Owner.user(grant.user_id),
        grant.provider,
        grant.service,
        grant.request_id,
        at,
        grant_id=grant.grant_id,
        seat=seat,
    )


def _usable(found: FoundKey | None, provider: str) -> FoundKey:
    if found is None or not found.is_live:
        raise KeyNotFound(provider)
    if not found.is_usable:
        raise KeyNotUsable(provider, found.status)
    if not found.is_noted:
        raise GrantReplayed
    return found


def _key_header(provider: str, api_key: str) -> Mapping[str, str]:
    # Whoever calls sets the vendor's other headers; ours is the one with the key.
    headers = vendors[provider].key_headers(api_key)
    return {name: value for name, value in headers.items() if api_key in value}
