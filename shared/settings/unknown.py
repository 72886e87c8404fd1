"""Settings that nobody reads, although they are named like ours: mostly one that is misspelt."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches

import structlog

from shared.settings.known import KNOWN, SECRETS

log = structlog.get_logger(__name__)

# Beginnings of names that are ours. Others, such as MODEL_ or DATABASE_, may be anybody's.
_OURS = (
    *("AUTH_", "KEYVAULT_", "CHAT_", "VOICE_", "BILLING_", "GATEWAY_", "EGRESS_", "COMPANION_"),
    *("TOKEN_", "IDENTITY_", "PROVIDER_", "COMPATIBLE_", "STRIPE_", "LEGACY_"),
)
# What Kubernetes tells each container about the Services beside it:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_OF_KUBERNETES = re.compile(
    r"[A-Z0-9_]+?_(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_READ = KNOWN | {f"{name}_FILE" for name in SECRETS}
_ALIKE = 0.8


def is_named_like_ours(name: str) -> bool:
    """Whether a variable begins like a setting of ours, be it known or not."""
    return name.startswith(_OURS)


def unknown_settings(environ: Mapping[str, str]) -> dict[str, str | None]:
    """The variables that are named like ours and read by none of our processes, each with the name
    that may have been meant."""
    strangers = (
        name
        for name in sorted(environ)
        if is_named_like_ours(name) and name not in _READ and not _OF_KUBERNETES.fullmatch(name)
    )
    return {name: _nearest(name) for name in strangers}


def report_unknown_settings() -> None:
    """Tell of them in one line, where there are any."""
    if unknown := unknown_settings(os.environ):
        log.warning("unknown_settings", settings=told(unknown))


def told(unknown: Mapping[str, str | None]) -> str:
    """In words: `CHAT_RETRYS (CHAT_RETRIES?)`."""
    return ", ".join(f"{name} ({near}?)" if near else name for name, near in unknown.items())


def _nearest(name: str) -> str | None:
    return next(iter(get_close_matches(name, _READ, n=1, cutoff=_ALIKE)), None)
