"""Secrets that auth must be able to read again, kept sealed: second factors, mails to be sent."""

from __future__ import annotations

from shared.sealing import Sealer, Unsealable

__all__ = ["Sealer", "Unsealable"]
