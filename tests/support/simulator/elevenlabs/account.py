"""The user and the subscription, which is also how a key is checked."""

from typing import Any, Final

from aiohttp import web

from tests.support.simulator.call import Call
from tests.support.simulator.delivery import whole
from tests.support.simulator.elevenlabs.headers import headers_for
from tests.support.simulator.elevenlabs.studio import VOICE_LIMIT
from tests.support.simulator.keys import on_free_plan
from tests.support.simulator.wire import dump

_RESET_UNIX: Final = 1_798_761_600


async def subscription(call: Call) -> web.StreamResponse:
    return await whole(call, dump(_subscription(call)), headers_for(call))


async def user(call: Call) -> web.StreamResponse:
    owner = {
        "user_id": f"user-{call.key_sha256}",
        "subscription": _subscription(call),
        "is_new_user": False,
        "is_onboarding_completed": True,
        "is_onboarding_checklist_completed": True,
        "can_use_delayed_payment_methods": False,
        "first_name": "Sim",
        "created_at": 1_790_000_000,
        "show_compliance_terms": False,
        "seat_type": "workspace_admin",
    }
    return await whole(call, dump(owner), headers_for(call))


def _subscription(call: Call) -> dict[str, Any]:
    paid = not on_free_plan(call.key or "")
    return {
        "tier": "pro" if paid else "free",
        "character_count": 1000,
        "character_limit": 600_000 if paid else 10_000,
        "max_character_limit_extension": None,
        "max_credit_limit_extension": 0,
        "can_extend_character_limit": paid,
        "allowed_to_extend_character_limit": False,
        "next_character_count_reset_unix": _RESET_UNIX,
        "voice_slots_used": 0,
        "professional_voice_slots_used": 0,
        "professional_voice_slots_used_in_workspace": 0,
        "voice_limit": VOICE_LIMIT,
        "voice_add_edit_counter": 0,
        "professional_voice_limit": int(paid),
        "can_extend_voice_limit": False,
        "can_use_instant_voice_cloning": paid,
        "can_use_professional_voice_cloning": paid,
        "currency": "usd" if paid else None,
        "current_overage": {"amount": "0", "currency": "usd"},
        "status": "active" if paid else "free",
        "open_invoices": [],
        "has_open_invoices": False,
    }
