"""What may go wrong with a key, in names."""

from __future__ import annotations

from datetime import timedelta

from shared.errors import Conflict, Forbidden, NotFound, Unauthenticated, Unavailable


class VaultSealed(Unavailable):
    """No keyring is proven good, so nothing can be sealed or opened; an operator must look."""

    code = "vault_sealed"

    def __init__(self) -> None:
        super().__init__(
            "The vault is sealed; no key can be stored or used at the moment.",
            retry_after=timedelta(seconds=5),
        )


class UnknownProvider(NotFound):
    """We speak to no such vendor. The message does not repeat the name: it may be anything."""

    code = "unknown_provider"

    def __init__(self) -> None:
        super().__init__("There is no such provider.")


class KeyNotFound(NotFound):
    """The user has stored no key for this provider, or has withdrawn it."""

    code = "key_not_found"

    def __init__(self, provider: str) -> None:
        super().__init__("You have no key for this provider.", provider=provider)


class KeyNotUsable(Conflict):
    """The provider refuses this key; its owner must replace it."""

    code = "key_not_usable"

    def __init__(self, provider: str, status: str) -> None:
        super().__init__(
            "The provider does not accept the stored key.", provider=provider, key_status=status
        )


class GrantInvalid(Unauthenticated):
    """The calling service has not proven that it may ask."""

    code = "grant_invalid"

    def __init__(self) -> None:
        super().__init__("The grant is missing or not valid.")


class GrantReplayed(Forbidden):
    """A grant is good for one use, and this one has been used."""

    code = "grant_replayed"

    def __init__(self) -> None:
        super().__init__("The grant has been used before.")


class NotYourKey(Forbidden):
    """The signed-in user is another than the one the grant was made for."""

    code = "not_your_key"

    def __init__(self) -> None:
        super().__init__("The grant belongs to another user.")


class ProviderNotAllowed(Forbidden):
    """This service has no business with this provider, or the call goes to another one."""

    code = "provider_not_allowed"

    def __init__(self) -> None:
        super().__init__("The calling service may not use a key of this provider here.")


class KeyInUrl(Forbidden):
    """A URL that carries a credential would put it into the vendor's logs."""

    code = "key_in_url"

    def __init__(self) -> None:
        super().__init__("The URL of the call carries a credential.")
