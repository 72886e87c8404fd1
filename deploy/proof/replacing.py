"""Replace the containers of a pool one after the other, as an update does it."""

from __future__ import annotations

from deploy.proof.deployment import Deployment

STOP_SECONDS = 40
"""As long as `stop_grace_period` gives a web process to let its streams end."""


def replace_all(deployment: Deployment, service: str) -> None:
    """For each container: a new one, healthy, beside it; then the old one leaves."""
    old = deployment.containers.of(service)
    for container in old:
        deployment.scale(service, len(old) + 1)
        container.stop(timeout=STOP_SECONDS)
        container.remove()
