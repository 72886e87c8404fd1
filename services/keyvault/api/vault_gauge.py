"""What Prometheus is told about the vault."""

from __future__ import annotations

from prometheus_client import Gauge

from services.keyvault.domain.vault import Vault

SEALED = Gauge(
    "companion_keyvault_sealed",
    "1 while this process has no proven keys, so that no user's key can be used.",
    multiprocess_mode="max",
)


def watch_vault(vault: Vault) -> None:
    """Show its state whenever somebody looks; it costs nothing in between."""
    SEALED.set_function(lambda: float(vault.is_sealed))
