"""`/keys/organisations/{id}`: an organisation's keys, for those who decide about them.

Whoever has a seat uses these keys; nobody reads them.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from services.keyvault.api.dependencies import KEPT_NOWHERE, ServiceActions
from services.keyvault.api.keys import TOO_OFTEN, AuditLine, KeyView, NewKey
from services.keyvault.domain.owner import Owner
from shared.http.caller import StillSignedIn
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems


async def organisation_entered(
    organisation_id: UUID, actions: ServiceActions, caller: StillSignedIn
) -> Owner:
    """The organisation, once auth has said that the caller decides about its keys."""
    return await actions.enter_organisation(organisation_id, by=caller.identity.user_id)


Organisation = Annotated[Owner, Depends(organisation_entered)]

router = APIRouter(
    prefix="/keys/organisations/{organisation_id}",
    tags=["organisation keys"],
    dependencies=[KEPT_NOWHERE],
    responses=problems(
        401,
        _403="organisation_key_admin_required",
        _404="organisation_keys_not_found",
        _503="vault_sealed, dependency_unavailable",
    ),
)
_ABSENT = problems(_404="organisation_keys_not_found, unknown_provider, key_not_found")
_UNKNOWN = problems(_404="organisation_keys_not_found, unknown_provider")


@router.get("", summary="List an organisation's keys")
async def list_keys(
    organisation: Organisation, actions: ServiceActions, caller: StillSignedIn
) -> Page[KeyView]:
    """What is known of each key; never the key. One page holds them all."""
    keys = await actions.list_keys(by=caller.identity.user_id, of=organisation)
    return Page(data=[KeyView.of(key) for key in keys])


# Declared before the routes with a provider in their path: it must not be taken for one.
@router.get("/audit", summary="Who used an organisation's keys")
async def read_audit(
    organisation: Organisation,
    actions: ServiceActions,
    caller: StillSignedIn,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
) -> Page[AuditLine]:
    """Each time one of its keys was stored, opened or withdrawn, by whom, newest first."""
    before = read_cursor(cursor, UUID)[0] if cursor else None
    entries = await actions.read_audit(
        by=caller.identity.user_id, of=organisation, before=before, most=limit + 1
    )
    lines = [AuditLine.of(entry) for entry in entries]
    return Page[AuditLine].of(lines, limit, lambda line: cursor_of(line.id))


@router.get("/{provider}", summary="Show an organisation's key's state", responses=_ABSENT)
async def show_key(
    provider: str, organisation: Organisation, actions: ServiceActions, caller: StillSignedIn
) -> KeyView:
    """What is known of its key for this provider; never the key."""
    key = await actions.show_key(provider, by=caller.identity.user_id, of=organisation)
    return KeyView.of(key)


@router.put(
    "/{provider}",
    status_code=202,
    summary="Store an organisation's key",
    responses={**_UNKNOWN, **TOO_OFTEN},
)
async def store_key(
    provider: str,
    body: NewKey,
    organisation: Organisation,
    actions: ServiceActions,
    caller: StillSignedIn,
) -> KeyView:
    """Seal the key, in place of the one before. Members with a seat and without a working key of
    their own use it from now on."""
    key = await actions.store_key(
        provider,
        body.api_key.get_secret_value(),
        by=caller.identity.user_id,
        of=organisation,
        tier=caller.tier.name,
    )
    return KeyView.of(key)


@router.post(
    "/{provider}/validate",
    status_code=202,
    summary="Check an organisation's key again",
    responses={**_ABSENT, **TOO_OFTEN},
)
async def request_validation(
    provider: str, organisation: Organisation, actions: ServiceActions, caller: StillSignedIn
) -> KeyView:
    """Ask the provider once more. Until it has answered, what is known of the key stands, and it is
    not asked again."""
    key = await actions.request_validation(
        provider, by=caller.identity.user_id, of=organisation, tier=caller.tier.name
    )
    return KeyView.of(key)


@router.delete(
    "/{provider}", status_code=204, summary="Withdraw an organisation's key", responses=_ABSENT
)
async def revoke_key(
    provider: str, organisation: Organisation, actions: ServiceActions, caller: StillSignedIn
) -> None:
    """Destroy the key. The next call with it fails; streams that run on it end."""
    await actions.revoke_key(
        provider, by=caller.identity.user_id, of=organisation, tier=caller.tier.name
    )
