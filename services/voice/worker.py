"""Voice's worker process."""

from __future__ import annotations

from functools import partial

from services.voice.settings import Settings
from services.voice.tasks import listen
from services.voice.wiring import wire
from shared.messaging.celery_app import create_celery
from shared.settings import stop_with_sentence

with stop_with_sentence():
    settings = Settings.from_environment()
    app = create_celery(listen, settings, partial(wire, settings))
