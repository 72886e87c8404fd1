"""What was typed in the first of two steps, sealed, for the login page to bring back.

A page that asks for a second factor must know who it is about. Kept at the server that would be a
session; in the page it is a text that only we can read, that only this browser can use, and that is
soon over.
"""

from __future__ import annotations

import binascii
import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from services.auth.domain.errors import FirstStepOver
from services.auth.domain.password import Password
from services.auth.domain.sealing import Sealer, Unsealable
from shared.values import dataclass

_PURPOSE = "login-page"
_LASTS = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class FirstStep:
    """A login and a password that fit, as far as that goes."""

    login: str
    password: Password

    def sealed(self, sealer: Sealer, browser: str, at: datetime) -> str:
        """For the browser that holds this cookie."""
        until = (at + _LASTS).timestamp()
        secret = json.dumps([self.login, self.password.text, until]).encode()
        return urlsafe_b64encode(sealer.seal(_PURPOSE, _owner(browser), secret)).decode()

    @classmethod
    def opened(cls, text: str, sealer: Sealer, browser: str, at: datetime) -> Self:
        """Raises FirstStepOver."""
        try:
            sealed = urlsafe_b64decode(text.encode())
            login, password, until = json.loads(sealer.open(_PURPOSE, _owner(browser), sealed))
        except (binascii.Error, UnicodeError, Unsealable) as error:
            raise FirstStepOver from error
        if at.timestamp() >= until:
            raise FirstStepOver
        return cls(login, Password(password))


def _owner(browser: str) -> UUID:
    return UUID(bytes=hashlib.sha256(browser.encode()).digest()[:16])
