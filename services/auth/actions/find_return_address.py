"""Find out which client sends somebody to the login page, and where they are to be sent back."""

from __future__ import annotations

from services.auth.actions._find_client import find_client
from services.auth.domain.authorization import Asked, ReturnAddress, state_of
from services.auth.domain.errors import RedirectNotRegistered
from services.auth.domain.ports import NewUnitOfWork
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class FindReturnAddress:
    """Until this is known no browser is sent anywhere: an error goes to the person."""

    unit_of_work: NewUnitOfWork
    issuer: str

    async def __call__(self, asked: Asked) -> ReturnAddress:
        """Raises InvalidOAuthRequest, UnknownClient or RedirectNotRegistered."""
        client_id, redirect_uri = asked.required("client_id"), asked.required("redirect_uri")
        async with self.unit_of_work() as work:
            client = await find_client(work, client_id)
        if not client.may_return_to(redirect_uri):
            raise RedirectNotRegistered
        return ReturnAddress(client, redirect_uri, state_of(asked), self.issuer)
