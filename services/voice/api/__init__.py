"""Voice's public routes, in order."""

from __future__ import annotations

from services.voice.api import speech, voices

routers = (voices.router, speech.router)
