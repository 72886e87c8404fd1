"""Rules and alerts for Prometheus; see docs/observability.md."""
