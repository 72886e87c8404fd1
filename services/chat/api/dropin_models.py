"""The models of one vendor that a user can use now, for lists in that vendor's shape. To look is
counted as a free call.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Response

from services.chat.actions import Actions
from services.chat.actions.list_models import OfferedModel
from shared.http.caller import Caller, refresh_hint
from shared.tiers import Tier


async def usable_models(
    actions: Actions, caller: Caller, provider: str, response: Response
) -> Sequence[OfferedModel]:
    """Those of the user's tier that a working key reaches."""
    identity = caller.identity
    tier = await _counted(actions, caller, response)
    offered = await actions.list_models(identity.user_id, tier, organisation_id=identity.served_by)
    return [model for model in offered if model.usable and model.provider == provider]


async def usable_model(
    actions: Actions, caller: Caller, provider: str, name: str, response: Response
) -> OfferedModel:
    """The one that a call of this name would be answered by. Raises ModelNotFound."""
    identity = caller.identity
    tier = await _counted(actions, caller, response)
    return await actions.find_model(
        identity.user_id, tier, name, provider=provider, organisation_id=identity.served_by
    )


async def _counted(actions: Actions, caller: Caller, response: Response) -> Tier:
    """The tier that the user has now, which an answer tells whose token claims another one."""
    tier = await actions.count_free_call(caller.identity.user_id, caller.tier)
    response.headers.update(refresh_hint(caller, tier.told_as))
    return tier
