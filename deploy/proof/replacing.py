"""Replace containers as docs/compose.md says that an update does it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.companion.errors import CompanionError
from deploy.proof.containers import inside
from deploy.proof.deployment import Deployment

STOP_SECONDS = 40
"""As long as `stop_grace_period` gives a web process to let its streams end."""

PROXIES = ("gateway", "egress")
NEXT = "proof-next"
"""The tag of the new version: the same images by another name."""

_SECONDS = 300
_POLL_SECONDS = 0.5


def replace_all(deployment: Deployment, service: str) -> None:
    """For each container: a new one, healthy, beside it; then the old one leaves."""
    old = deployment.containers.of(service)
    for container in old:
        deployment.scale(service, len(old) + 1)
        container.stop(timeout=STOP_SECONDS)
        container.remove()


def change_a_setting(deployment: Deployment) -> None:
    """A setting of the gateway."""
    folder = Path(deployment.compose.environment["COMPANION_SETTINGS"])
    with _exchanged(deployment, "gateway"):
        (folder / "gateway.env").write_text("GATEWAY_STREAM_IDLE_SECONDS=890\n")
        deployment.up("--no-deps", "gateway-config", seconds=_SECONDS)


def renew_proxies(deployment: Deployment) -> None:
    """A new version of both, after a `prepare` of a service: nobody else is touched by any."""
    with _tagged(deployment) as version:
        environment = {**deployment.compose.environment, "COMPANION_VERSION": version}
        newer = replace(deployment, compose=replace(deployment.compose, environment=environment))
        _once(newer, "chat-prepare")
        for proxy in PROXIES:
            _once(newer, f"{proxy}-config")
        # The configuration is what it was: the same images have another name. A new program is not.
        with _exchanged(newer, *PROXIES):
            _once(newer, "envoy", _ANOTHER_PROGRAM)


_ANOTHER_PROGRAM = (
    "cp /rendered/envoy /rendered/envoy.new && mv /rendered/envoy.new /rendered/envoy"
)


def envoys(deployment: Deployment) -> dict[str, str]:
    """The process within each proxy that takes requests now."""
    return {
        proxy: inside(deployment.containers.one(proxy), ("cat", "/tmp/current"))  # noqa: S108
        for proxy in PROXIES
    }


@contextmanager
def _exchanged(deployment: Deployment, *proxies: str) -> Iterator[None]:
    """Wait until another Envoy takes requests in each of them. Raises CompanionError."""
    before = envoys(deployment)
    yield
    deadline = time.monotonic() + _SECONDS
    while any(envoys(deployment)[proxy] == before[proxy] for proxy in proxies):
        if time.monotonic() > deadline:
            raise CompanionError(f"No new Envoy in {' or '.join(proxies)} after {_SECONDS} s.")
        time.sleep(_POLL_SECONDS)


def _once(deployment: Deployment, job: str, *words: str) -> None:
    deployment.compose.run("run", "--rm", "--no-deps", "--no-TTY", job, *words, seconds=_SECONDS)


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
