"""Webhooks as their owners keep them: made, looked at, changed, dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

from services.billing.actions.show_organisation_subscription import ensure_may_buy
from services.billing.domain.errors import (
    OrganisationBillingRequired,
    TooManyWebhooks,
    UnknownWebhookType,
    WebhookNotFound,
)
from services.billing.domain.ports import NewUnitOfWork, Organisations, UnitOfWork
from services.billing.domain.webhook import (
    MOST_ENDPOINTS,
    Endpoint,
    EndpointId,
    EndpointOwner,
    SigningSecret,
    new_endpoint_id,
    new_secret,
)
from services.billing.domain.webhook_ports import SecretSeal, WebhookAddresses
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks about webhooks; the billing team asks about the operator's."""

    id: UserId
    is_staff: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What of a webhook is to be another; None stays."""

    url: str | None = None
    types: Sequence[str] | None = None
    is_enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class WebhookAccess:
    """Whose webhooks somebody may keep. An organisation's are kept by those who may buy for it."""

    unit_of_work: NewUnitOfWork
    organisations: Organisations

    async def owner(self, asker: Asker, organisation_id: UUID | None) -> EndpointOwner:
        """Raises SubscriptionNotFound, OrganisationBillingRequired or DependencyUnavailable."""
        if asker.is_staff:
            return EndpointOwner.operator()
        if organisation_id is None:
            return EndpointOwner("user", asker.id)
        await ensure_may_buy(self.organisations, organisation_id, asker.id)
        return EndpointOwner("organisation", UserId(organisation_id))

    async def find(self, endpoint_id: EndpointId, asker: Asker) -> Endpoint:
        """Raises WebhookNotFound, OrganisationBillingRequired or DependencyUnavailable."""
        async with self.unit_of_work() as work:
            found = await work.webhooks.get(endpoint_id)
        if found is None or not await self._may(found.owner, asker):
            raise WebhookNotFound(endpoint_id)
        return found

    async def _may(self, owner: EndpointOwner, asker: Asker) -> bool:
        if asker.is_staff or owner.id is None:
            return asker.is_staff and owner.kind == "operator"
        if owner.kind == "user":
            return owner.id == asker.id
        may_buy = await self.organisations.may_buy(owner.id, asker.id)
        if may_buy is False:
            raise OrganisationBillingRequired
        return may_buy is True

    @asynccontextmanager
    async def hold(
        self, endpoint_id: EndpointId, asker: Asker
    ) -> AsyncIterator[tuple[UnitOfWork, Endpoint]]:
        """The endpoint, which nobody else changes until the work ends. Raises as `find` does."""
        await self.find(endpoint_id, asker)
        async with self.unit_of_work() as work:
            endpoint = await work.webhooks.hold(endpoint_id)
            if endpoint is None:
                raise WebhookNotFound(endpoint_id)
            yield work, endpoint


@dataclass(frozen=True, slots=True)
class KeepWebhooks:
    """What owners do with their webhooks. A secret is told once, when it is made."""

    access: WebhookAccess
    unit_of_work: NewUnitOfWork
    clock: Clock
    seal: SecretSeal
    addresses: WebhookAddresses

    async def create(
        self,
        asker: Asker,
        url: str,
        types: Sequence[str],
        *,
        organisation_id: UUID | None = None,
        usage_from_beginning: bool = False,
    ) -> tuple[Endpoint, str]:
        """Answers the secret too. Raises WebhookUrlNotAllowed, UnknownWebhookType, TooManyWebhooks,
        WebhookSecretsUnavailable, or what `access.owner` raises."""
        owner = await self.access.owner(asker, organisation_id)
        self.addresses.check(url)
        secret, id_ = new_secret(), new_endpoint_id()
        endpoint = Endpoint(
            id=id_,
            owner=owner,
            url=url,
            types=_known(types, owner),
            secret=self.seal.seal(id_, secret),
            created_by=asker.id,
            created_at=self.clock.now(),
        )
        async with self.unit_of_work() as work:
            await work.webhooks.take_turn(owner)
            if len(await work.webhooks.of(owner)) >= MOST_ENDPOINTS:
                raise TooManyWebhooks(MOST_ENDPOINTS)
            await work.webhooks.add(endpoint, usage_from_beginning=usage_from_beginning)
        return endpoint, secret

    async def list(self, asker: Asker, organisation_id: UUID | None = None) -> Sequence[Endpoint]:
        """Raises what `access.owner` raises."""
        owner = await self.access.owner(asker, organisation_id)
        async with self.unit_of_work() as work:
            return await work.webhooks.of(owner)

    async def show(self, endpoint_id: EndpointId, asker: Asker) -> Endpoint:
        """Raises what `access.find` raises."""
        return await self.access.find(endpoint_id, asker)

    async def change(self, endpoint_id: EndpointId, asker: Asker, change: Change) -> Endpoint:
        """Raises WebhookUrlNotAllowed, UnknownWebhookType, or what `access.find` raises."""
        if change.url is not None:
            self.addresses.check(change.url)
        async with self.access.hold(endpoint_id, asker) as (work, endpoint):
            now = self.clock.now()
            changed = replace(
                endpoint,
                url=endpoint.url if change.url is None else change.url,
                types=(
                    endpoint.types if change.types is None else _known(change.types, endpoint.owner)
                ),
            )
            if changed.wants_usage and not endpoint.wants_usage:
                # From now on as for a new one, or from where it was: not all there ever was.
                await work.webhooks.begin_usage(endpoint_id)
            if change.is_enabled is False:
                changed = changed.disabled("by_owner", now)
                await work.webhooks.save(changed)
                await work.webhook_outbox.give_up(endpoint_id, now)
                return changed
            if change.is_enabled:
                changed = changed.enabled()
                await work.webhook_outbox.go_on(endpoint_id, now)
            await work.webhooks.save(changed)
            return changed

    async def rotate_secret(
        self, endpoint_id: EndpointId, asker: Asker, *, drop: SigningSecret | None = None
    ) -> tuple[Endpoint, str]:
        """A new secret; the one before signs beside it for a day, or, where two sign already, the
        one that is not to be dropped. Raises WebhookSecretStillChanging, WebhookSecretsUnavailable,
        or what `access.find` raises."""
        secret = new_secret()
        sealed = self.seal.seal(endpoint_id, secret)
        async with self.access.hold(endpoint_id, asker) as (work, endpoint):
            changed = endpoint.with_new_secret(sealed, self.clock.now(), drop)
            await work.webhooks.save(changed)
        return changed, secret

    async def delete(self, endpoint_id: EndpointId, asker: Asker) -> None:
        """With all that waits for it. Raises what `access.find` raises."""
        async with self.access.hold(endpoint_id, asker) as (work, _endpoint):
            await work.webhooks.delete(endpoint_id)


def _known(types: Sequence[str], owner: EndpointOwner) -> tuple[str, ...]:
    if not set(types) <= set(owner.types) or len(set(types)) != len(types):
        raise UnknownWebhookType(owner.types)
    return tuple(sorted(types))
