"""What the keyvault does about `key.*`."""

from __future__ import annotations

from collections.abc import Sequence

from services.keyvault.actions import Actions
from services.keyvault.actions.validate_keys import ValidationRequest
from services.keyvault.domain.owner import Owner
from services.keyvault.tasks import listen
from shared.events import Fact
from shared.events.key import KeyValidationRequested
from shared.ids import UserId


@listen.to(KeyValidationRequested, queue="validation")
async def validate_keys(facts: Sequence[Fact[KeyValidationRequested]], actions: Actions) -> None:
    """Each version of a key once, however often it was asked for in this batch."""
    requests = {_subject_of(fact): _request_of(fact) for fact in facts}
    await actions.validate_keys(list(requests.values()))


def _subject_of(fact: Fact[KeyValidationRequested]) -> tuple[object, ...]:
    return fact.event.user_id, fact.event.provider, fact.event.key_version


def _request_of(fact: Fact[KeyValidationRequested]) -> ValidationRequest:
    return ValidationRequest(
        event_id=fact.id,
        owner=_owner_of(fact.event),
        provider=fact.event.provider,
        key_version=fact.event.key_version,
        tier=fact.tier,
        request_id=fact.request_id,
    )


def _owner_of(event: KeyValidationRequested) -> Owner:
    if event.organisation_id is not None:
        return Owner.organisation(event.organisation_id)
    return Owner.user(UserId(event.user_id))
