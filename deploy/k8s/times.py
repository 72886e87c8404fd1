"""How long each kind of process has to come to its end."""

from __future__ import annotations

from deploy.k8s.processes import Kind

LEAVE_SECONDS = 10
"""How long whoever is to end still takes requests: until no Envoy knows it any more. An address
leaves the name servers within 5 seconds or so, and Envoy asks every second."""
WEB_DRAIN_SECONDS = 20
PROXY_DRAIN_SECONDS = 300
"""Streams are waited for, and in the end not."""

_GRACE_SECONDS = {
    # And what uvicorn does not count: the internal port, and closing what is open.
    Kind.WEB: LEAVE_SECONDS + WEB_DRAIN_SECONDS + 30,
    Kind.PROXY: PROXY_DRAIN_SECONDS + 30,
}
_BACKGROUND_GRACE_SECONDS = 30
"""A worker finishes what it has in hand for 8 seconds."""


def grace_of(kind: Kind) -> int:
    """Seconds until it is killed."""
    return _GRACE_SECONDS.get(kind, _BACKGROUND_GRACE_SECONDS)
