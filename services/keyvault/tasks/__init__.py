"""The door for queues."""

from __future__ import annotations

from shared.messaging.subscriptions import Listen
from shared.messaging.upkeep import install_upkeep

listen = Listen("keyvault")
install_upkeep(listen)

from services.keyvault.tasks import (  # noqa: E402
    jobs,  # noqa: F401 - they register themselves
    on_key,  # noqa: F401
    on_organisation,  # noqa: F401
    on_seat,  # noqa: F401
    on_user,  # noqa: F401
)
