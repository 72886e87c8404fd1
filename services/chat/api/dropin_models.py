"""The models of one vendor that a user can use now, for lists in that vendor's shape. To look is
counted as a free call.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.chat.actions import Actions
from services.chat.actions.list_models import OfferedModel
from shared.http.caller import Caller


async def usable_models(actions: Actions, caller: Caller, provider: str) -> Sequence[OfferedModel]:
    """Those of the user's tier that a working key reaches."""
    identity = caller.identity
    tier = await actions.count_free_call(identity.user_id, caller.tier)
    offered = await actions.list_models(identity.user_id, tier, organisation_id=identity.served_by)
    return [model for model in offered if model.usable and model.provider == provider]


async def usable_model(actions: Actions, caller: Caller, provider: str, name: str) -> OfferedModel:
    """The one that a call of this name would be answered by. Raises ModelNotFound."""
    identity = caller.identity
    tier = await actions.count_free_call(identity.user_id, caller.tier)
    return await actions.find_model(
        identity.user_id, tier, name, provider=provider, organisation_id=identity.served_by
    )
