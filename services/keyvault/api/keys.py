"""`/keys`: a user's own keys. What goes in never comes out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_core import PydanticCustomError

from services.keyvault.api.dependencies import KEPT_NOWHERE, ServiceActions
from services.keyvault.domain.audit import AuditEntry, Kind
from services.keyvault.domain.provider_key import ProviderKey, Status
from shared.http.caller import SignedIn, StillSignedIn
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems

_SHORTEST_KEY, _LONGEST_KEY = 8, 512


def _trimmed(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _like_a_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        told = f"A key has {_SHORTEST_KEY} to {_LONGEST_KEY} characters"
        raise PydanticCustomError("api_key_length", told)
    if not all("!" <= character <= "~" for character in key):
        raise PydanticCustomError("api_key_characters", "Holds a character that no key has")
    return value


# The lengths are for the documentation: pydantic's own message would speak of "items".
ApiKey = Annotated[
    SecretStr,
    BeforeValidator(_trimmed),
    AfterValidator(_like_a_key),
    Field(json_schema_extra={"minLength": _SHORTEST_KEY, "maxLength": _LONGEST_KEY}),
]


class NewKey(BaseModel):
    """A key to store."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    api_key: ApiKey


class KeyView(BaseModel):
    """What there is to know about a stored key."""

    provider: str
    status: Status
    hint: str = Field(description="The key's last four characters.")
    version: int
    capabilities: tuple[str, ...]
    models: tuple[str, ...]
    details: dict[str, bool | int | str] = Field(
        description="What else the provider tells, such as the plan's limits and how much is used."
    )
    last_validated_at: datetime | None
    last_error: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, key: ProviderKey) -> KeyView:
        return cls(
            provider=key.provider,
            status=key.status,
            hint=key.hint,
            version=key.version,
            capabilities=key.capabilities,
            models=key.models,
            details=dict(key.details),
            last_validated_at=key.last_validated_at,
            last_error=key.last_error,
            created_at=key.created_at,
            updated_at=key.updated_at,
        )


class AuditLine(BaseModel):
    """One line of the trail. `organisation_id`: whose key it was, unless it was yours;
    `user_id`: who asked for it, or for whom it was."""

    id: UUID
    kind: Kind
    provider: str
    key_version: int
    service: str
    organisation_id: UUID | None
    user_id: UUID | None
    request_id: str | None
    at: datetime

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditLine:
        return cls(
            id=entry.id,
            kind=entry.kind,
            provider=entry.provider,
            key_version=entry.key_version,
            service=entry.service,
            organisation_id=entry.owner.organisation_id,
            user_id=entry.user_id,
            request_id=entry.request_id,
            at=entry.at,
        )


router = APIRouter(
    prefix="/keys",
    tags=["keys"],
    dependencies=[KEPT_NOWHERE],
    responses=problems(401, _503="vault_sealed, dependency_unavailable"),
)
_ABSENT = problems(_404="unknown_provider, key_not_found")
_UNKNOWN = problems(_404="unknown_provider")
TOO_OFTEN = problems(_429="key_checks_reached")


@router.get("", summary="List your keys")
async def list_keys(actions: ServiceActions, caller: SignedIn) -> Page[KeyView]:
    """What is known of each key; never the key. One page holds them all."""
    keys = await actions.list_keys(by=caller.identity.user_id)
    return Page(data=[KeyView.of(key) for key in keys])


# Declared before the routes with a provider in their path: it must not be taken for one.
@router.get("/audit", summary="Who used your keys")
async def read_audit(
    actions: ServiceActions,
    caller: SignedIn,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
) -> Page[AuditLine]:
    """Each time one of your keys was stored, opened or withdrawn, newest first, with what was done
    with your organisation's keys for you."""
    before = read_cursor(cursor, UUID)[0] if cursor else None
    entries = await actions.read_audit(by=caller.identity.user_id, before=before, most=limit + 1)
    lines = [AuditLine.of(entry) for entry in entries]
    return Page[AuditLine].of(lines, limit, lambda line: cursor_of(line.id))


@router.get("/{provider}", summary="Show a key's state", responses=_ABSENT)
async def show_key(provider: str, actions: ServiceActions, caller: SignedIn) -> KeyView:
    """What is known of your key for this provider; never the key."""
    return KeyView.of(await actions.show_key(provider, by=caller.identity.user_id))


@router.put(
    "/{provider}", status_code=202, summary="Store a key", responses={**_UNKNOWN, **TOO_OFTEN}
)
async def store_key(
    provider: str, body: NewKey, actions: ServiceActions, caller: StillSignedIn
) -> KeyView:
    """Seal the key, in place of the one before. Its check with the provider follows at once."""
    key = await actions.store_key(
        provider,
        body.api_key.get_secret_value(),
        by=caller.identity.user_id,
        tier=caller.tier.name,
    )
    return KeyView.of(key)


@router.post(
    "/{provider}/validate",
    status_code=202,
    summary="Check a key again",
    responses={**_ABSENT, **TOO_OFTEN},
)
async def request_validation(
    provider: str, actions: ServiceActions, caller: StillSignedIn
) -> KeyView:
    """Ask the provider once more. Until it has answered, what is known of the key stands, and it is
    not asked again."""
    key = await actions.request_validation(
        provider, by=caller.identity.user_id, tier=caller.tier.name
    )
    return KeyView.of(key)


@router.delete(
    "/{provider}",
    status_code=204,
    summary="Withdraw a key",
    responses=_ABSENT,
)
async def revoke_key(provider: str, actions: ServiceActions, caller: StillSignedIn) -> None:
    """Destroy the key. The next call with it fails; streams that run on it end."""
    await actions.revoke_key(provider, by=caller.identity.user_id, tier=caller.tier.name)
