"""Forget a user: shred what opens their keys, then everything about them."""

from __future__ import annotations

from typing import ClassVar

from services.keyvault.domain.owner import Owner
from services.keyvault.domain.ports import UnitOfWork
from services.keyvault.domain.vault import Vault
from shared.erasure import BATCH, Forget, Left
from shared.events.key import KeyRevoked
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True)
class ForgetUser(Forget[UnitOfWork]):
    """Shred the user's data key, delete their keys and their trail, and end what runs on the keys.
    Their organisation's trail keeps what was done, and no more who did it.

    Works while the vault is sealed: nothing needs to be opened to be destroyed. The trail goes too,
    since it is kept for its owner, who is gone.
    """

    vault: Vault

    service: ClassVar[str] = "keyvault"

    async def erase(self, work: UnitOfWork, user_id: UserId) -> Left:
        """The keys with the first step, the trail in pieces."""
        owner = Owner.user(user_id)
        await work.keys.lock(owner)
        for key in await work.keys.of(owner):
            told = KeyRevoked(
                user_id=user_id, key_id=key.id, provider=key.provider, key_version=key.version
            )
            work.publish(told, subject=user_id, tier=key.tier)
        await work.keys.delete_all(owner)
        await work.data_keys.shred(owner)
        self.vault.forget(user_id)
        await work.organisations.forget(user_id)
        erased = await work.audit.erase(owner, most=BATCH)
        unnamed = await work.audit.unname(user_id, most=BATCH)
        return Left.MORE if BATCH in (erased, unnamed) else Left.NOTHING
