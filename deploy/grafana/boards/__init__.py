"""What each dashboard shows."""

from __future__ import annotations

from deploy.grafana.boards.money import MONEY
from deploy.grafana.boards.overview import OVERVIEW
from deploy.grafana.boards.tiers import TIERS
from deploy.grafana.boards.vault import VAULT

__all__ = ["BOARDS"]

BOARDS = (OVERVIEW, TIERS, MONEY, VAULT)
