"""Voice's routes, in order; the internal ones are not reached through the gateway."""

from __future__ import annotations

from services.voice.api import (
    account_export,
    clones,
    dropin_realtime,
    dropin_speech,
    dropin_voices,
    engines,
    internal_speech,
    leaving,
    openai_speech,
    organisation_voices,
    realtime,
    say,
    speech,
    voices,
)

routers = (
    voices.router,
    clones.router,
    organisation_voices.router,
    engines.router,
    speech.router,
    realtime.router,
    dropin_realtime.router,
    dropin_speech.router,
    dropin_voices.router,
    dropin_voices.strays,
    openai_speech.router,
    openai_speech.strays,
)
hot_routes = (say.say,)
internal_routers = (account_export.router, internal_speech.router, leaving.router)
