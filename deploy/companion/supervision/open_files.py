"""How many files and connections a process of the suite may have open on this machine."""

from __future__ import annotations

import resource

_WANTED = 65_536
_OWN = 1_024  # an Envoy's own: its threads, logs, listeners and spare connections


def possible() -> int:
    """How many the suite's processes get: what they want, or what this machine allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)


def allow() -> None:
    """Raise the usual limit of 1024 for this process and its children: each stream holds a few
    connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < possible():
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible(), hard))


def connections(most: int) -> int:
    """How many clients a proxy may take, `most` at most: for each it may need a second connection,
    to a service. Were they as many as its files, it could not even ask auth for its keys."""
    return max(1, min(most, (possible() - _OWN) // 2))
