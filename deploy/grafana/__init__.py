"""Dashboards as code; see docs/observability.md."""
