"""Who may see the dashboard in a browser: by a link that works once, then by the visit it opens."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from shared.ids import UserId
from shared.values import dataclass

LINK_LASTS = timedelta(minutes=1)
# Both together are shorter than it is remembered that a sign-in has ended, so that whoever is
# signed out is out of the dashboard, too.
VISIT_LASTS = timedelta(minutes=14)


class PassKind(Enum):
    """What a secret opens."""

    LINK = "link"
    VISIT = "visit"


@dataclass(frozen=True, slots=True)
class DashboardPass:
    """A secret's digest: the secret itself is kept by the browser alone."""

    digest: bytes
    kind: PassKind
    user_id: UserId
    sign_in_id: UUID
    expires_at: datetime


def new_secret() -> str:
    """For a link or a visit."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> bytes:
    """256 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
