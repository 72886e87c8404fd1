"""Voice's routes, in order; the internal ones are not reached through the gateway."""

from __future__ import annotations

from services.voice.api import account_export, speech, voices

routers = (voices.router, speech.router)
internal_routers = (account_export.router,)
