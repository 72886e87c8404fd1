"""`key.*`: what chat should know of users' keys."""

from __future__ import annotations

from collections.abc import Sequence

from services.chat.actions import Actions
from services.chat.domain.known_key import KnownKey, RevokedKey
from services.chat.tasks import listen
from shared.events import Fact
from shared.events.key import KeyRevoked, KeyValidated
from shared.ids import UserId


@listen.to(KeyValidated, queue="keys")
async def remember(facts: Sequence[Fact[KeyValidated]], actions: Actions) -> None:
    """Remember what the vendor said."""
    await actions.learn_keys([_known(fact.event) for fact in facts])


@listen.to(KeyRevoked, queue="keys")
async def forget(facts: Sequence[Fact[KeyRevoked]], actions: Actions) -> None:
    """Forget a revoked key, and end what still runs on it."""
    await actions.forget_keys([_revoked(fact) for fact in facts])


def _revoked(fact: Fact[KeyRevoked]) -> RevokedKey:
    event = fact.event
    return RevokedKey(UserId(event.user_id), event.provider, event.key_version, fact.time)


def _known(event: KeyValidated) -> KnownKey:
    return KnownKey(
        user_id=UserId(event.user_id),
        provider=event.provider,
        key_version=event.key_version,
        status=event.status,
        models=event.models,
    )
