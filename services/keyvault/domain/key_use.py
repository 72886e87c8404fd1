"""One use of a key, noted in the trail before the key is opened."""

from __future__ import annotations

from dataclasses import field
from datetime import datetime
from uuid import UUID

from services.keyvault.domain.audit import AuditEntry, Kind
from services.keyvault.domain.organisation import ClaimedSeat
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import USABLE, Status
from services.keyvault.domain.roots import Roots
from services.keyvault.domain.secret import DataKey, OpenedSecret, SecretName
from shared.ids import uuid7
from shared.revocation import UsedKey
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What a key is wanted for. A grant is honoured once; our own checks carry none.

    `version` asks for that version of the key and no other; `seat` lets the key of the organisation
    in where there is none of the owner's own that fits.
    """

    kind: Kind
    owner: Owner
    provider: str
    service: str
    request_id: str | None
    at: datetime
    grant_id: UUID | None = None
    version: int | None = None
    seat: ClaimedSeat | None = None
    id: UUID = field(default_factory=uuid7)


@dataclass(frozen=True, slots=True)
class FoundKey:
    """The key as it was found, still sealed, and whether this use now stands in the trail."""

    name: SecretName
    status: Status
    data_key: DataKey | None
    envelope: bytes | None
    is_noted: bool

    @property
    def is_live(self) -> bool:
        return self.status is not Status.REVOKED

    @property
    def is_usable(self) -> bool:
        return self.status in USABLE

    @property
    def as_used(self) -> UsedKey:
        """Which key it is, as those who use it may know."""
        return UsedKey(self.name.owner.id, self.name.provider, self.name.version)

    def opened(self, roots: Roots) -> OpenedSecret:
        """The secret for the length of a block; never without a line in the trail.

        Raises NotAuthentic when it was not sealed by us for this place.
        """
        if not self.is_noted or self.data_key is None or self.envelope is None:
            raise ValueError("a key is opened only once its use is noted")
        return OpenedSecret(roots, self.data_key, self.name, self.envelope)

    def broken(self, use: KeyUse) -> AuditEntry:
        """The line that says that its seal was broken."""
        return AuditEntry(
            Kind.NOT_OPENED,
            self.name.owner,
            use.provider,
            self.name.id,
            self.name.version,
            use.at,
            service=use.service,
            request_id=use.request_id,
            user_id=use.owner.user_id,
        )
