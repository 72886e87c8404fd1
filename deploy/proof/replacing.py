"""Replace containers as docs/compose.md says that an update does it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.proof.deployment import Deployment

STOP_SECONDS = 40
"""As long as `stop_grace_period` gives a web process to let its streams end."""

PROXIES = ("gateway", "egress")
NEXT = "proof-next"
"""The tag of the new version: the same images by another name."""

_SECONDS = 300


def replace_all(deployment: Deployment, service: str) -> None:
    """For each container: a new one, healthy, beside it; then the old one leaves."""
    old = deployment.containers.of(service)
    for container in old:
        deployment.scale(service, len(old) + 1)
        container.stop(timeout=STOP_SECONDS)
        container.remove()


def change_a_setting(deployment: Deployment) -> None:
    """A setting of the gateway, which a bare `up` brings there."""
    folder = Path(deployment.compose.environment["COMPANION_SETTINGS"])
    (folder / "gateway.env").write_text("GATEWAY_STREAM_IDLE_SECONDS=890\n")
    deployment.up("gateway", seconds=_SECONDS)


def renew_proxies(deployment: Deployment) -> None:
    """A new version of both, after a `prepare` of a service: nobody else is touched by any."""
    with _tagged(deployment) as version:
        environment = {**deployment.compose.environment, "COMPANION_VERSION": version}
        newer = replace(deployment, compose=replace(deployment.compose, environment=environment))
        _once(newer, "chat-prepare")
        for proxy in PROXIES:
            _once(newer, f"{proxy}-config")
            newer.up("--no-deps", "--force-recreate", proxy, seconds=_SECONDS)


def _once(deployment: Deployment, job: str) -> None:
    deployment.compose.run("run", "--rm", "--no-deps", "--no-TTY", job, seconds=_SECONDS)


@contextmanager
def _tagged(deployment: Deployment) -> Iterator[str]:
    """The jobs' images under a second tag, for as long as it is needed."""
    images: Any = deployment.containers.client.images
    names = [
        str(deployment.containers.one(service).attrs["Config"]["Image"]).rpartition(":")
        for service in ("gateway-config", "chat-prepare")
    ]
    for repository, _, version in names:
        images.get(f"{repository}:{version}").tag(repository, NEXT)
    try:
        yield NEXT
    finally:
        for repository, _, _ in names:
            images.remove(f"{repository}:{NEXT}", noprune=True)
