"""The door for queues."""

from __future__ import annotations

from shared.messaging.subscriptions import Listen
from shared.messaging.upkeep import install_upkeep

listen = Listen("keyvault")
install_upkeep(listen)

from services.keyvault.tasks import jobs, on_key, on_user  # noqa: E402, F401 - they register themselves
