"""Facts about the vendors: one module each, found by import.

A module here makes a vendor's keys storable and checkable; what a service says to the vendor stands
in that service's own `providers/`.
"""

from __future__ import annotations

from shared.registry import discover
from shared.vendors.base import Check, Detail, KeyStatus, Vendor, vendors

discover("shared.vendors")

__all__ = ["Check", "Detail", "KeyStatus", "Vendor", "vendors"]
