"""Settings that do nothing with the embedded default: it says them itself, or runs nobody who
reads them. A test holds the list against what its processes are told.
"""

from __future__ import annotations

from collections.abc import Mapping

_SAID = frozenset(
    [
        *("AUTH_INTERNAL_URL", "AUTH_PEERS_HEALTH", "AUTH_SIGNING_KEYS_FILE"),
        *("BILLING_INTERNAL_URL", "BILLING_WEBHOOK_KEYS_FILE", "CHAT_INTERNAL_URL"),
        *("EGRESS_ADMIN", "EGRESS_KEYVAULT", "EGRESS_LISTEN", "EGRESS_URL", "GATEWAY_ADMIN"),
        *("GATEWAY_AUTH", "GATEWAY_AUTH_INTERNAL", "GATEWAY_BILLING", "GATEWAY_CHAT"),
        *("GATEWAY_KEYVAULT", "GATEWAY_LISTEN", "GATEWAY_VOICE", "IDENTITY_KEY_FILE"),
        *("IDENTITY_TRUST_FILE", "JWKS_URL", "KEYVAULT_INTERNAL_URL", "KEYVAULT_KEYRING_FILE"),
        *("READY_FILE", "VOICE_CACHE_KEYS_FILE", "VOICE_INTERNAL_URL"),
    ]
)
_OF_CONTAINERS = frozenset(
    [
        *("COMPANION_POOL", "COMPANION_SERVICE", "METRICS_HOST", "METRICS_PORT"),
        *("PREPARE_PATIENCE_SECONDS", "PROMETHEUS_MULTIPROC_DIR", "WORKER_TIER"),
    ]
)


def idle_here(environ: Mapping[str, str]) -> str:
    """One sentence that names those that are set; empty when none is."""
    names = sorted(name for name in _SAID | _OF_CONTAINERS if environ.get(name))
    return f"Set, and without effect here: {', '.join(names)}." if names else ""


WHERE_IT_IS_SAID = "docs/settings.md (The embedded default) says why; PORT is the gateway's."
