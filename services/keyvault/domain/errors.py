"""What may go wrong with a key, in names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from shared.errors import Conflict, Forbidden, LimitReached, NotFound, Unauthenticated, Unavailable


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


class OrganisationKeysNotFound(NotFound):
    """Also raised for an organisation of others, so that ids can't be probed."""

    code = "organisation_keys_not_found"

    def __init__(self) -> None:
        super().__init__("You belong to no such organisation.")


class KeyAdminRequired(Forbidden):
    """The caller belongs to the organisation, but doesn't decide about its keys."""

    code = "organisation_key_admin_required"

    def __init__(self) -> None:
        super().__init__("Only owners and admins of the organisation may do this.")


class GrantInvalid(Unauthenticated):
    """The calling service has not proven that it may ask."""

    code = "grant_invalid"

    def __init__(self) -> None:
        super().__init__("The grant is missing or not valid.")


class GrantExpired(Unauthenticated):
    """The service's own grant, which came too late: this process, or what is before it, stood
    still meanwhile."""

    code = "grant_expired"

    def __init__(self) -> None:
        super().__init__("The grant has expired.")


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


class ServiceStopped(Forbidden):
    """This service gets no key until an operator says so: its use of keys was unusual."""

    code = "service_stopped"

    def __init__(self) -> None:
        super().__init__("The calling service has been stopped from using keys.")


class ServiceRateReached(LimitReached):
    """This service uses keys faster than is usual."""

    code = "service_rate_reached"

    def __init__(self) -> None:
        super().__init__(
            "The calling service uses keys too fast.", retry_after=timedelta(seconds=1)
        )


class UserRateReached(LimitReached):
    """Keys are used for this user more often than is usual."""

    code = "user_rate_reached"

    def __init__(self) -> None:
        super().__init__(
            "Keys were used too often for this user in the last minute.",
            retry_after=timedelta(seconds=10),
        )


class KeyChecksReached(LimitReached):
    """Keys of this owner were stored or checked more often than is usual."""

    code = "key_checks_reached"

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__(
            "Keys were stored or checked too often in the last minute.", retry_after=retry_after
        )


class NoSuchService(NotFound):
    """Only services that use keys can be stopped from using them."""

    code = "no_such_service"

    def __init__(self) -> None:
        super().__init__("No such service uses keys.")


class NotStopped(Conflict):
    """There is nothing to resume."""

    code = "service_not_stopped"

    def __init__(self, service: str) -> None:
        super().__init__(f"{service} is not stopped.", service=service)


class KeyInUrl(Forbidden):
    """A URL that carries a credential would put it into the vendor's logs."""

    code = "key_in_url"

    def __init__(self) -> None:
        super().__init__("The URL of the call carries a credential.")


class KeyringIsElsewhere(Conflict):
    """A key service makes and activates versions by itself; there is no file to change."""

    code = "keyring_is_elsewhere"

    def __init__(self) -> None:
        super().__init__(
            "The keyring is no file of ours; its versions are made there where it lies."
        )


class NoSuchVersion(NotFound):
    """The keyring has no such version."""

    code = "keyring_version_not_found"

    def __init__(self, version: int) -> None:
        super().__init__(f"The keyring has no version {version}.", version=version)


class NothingOnStandby(Conflict):
    """Only a version that waits can be activated."""

    code = "keyring_nothing_on_standby"

    def __init__(self) -> None:
        super().__init__("No version of the keyring is on standby.")


class VersionWasUsedUp(Conflict):
    """A version that another has replaced does not come back."""

    code = "keyring_version_used_up"

    def __init__(self, version: int) -> None:
        super().__init__(f"Version {version} was replaced and is not activated again.")


class VersionIsActive(Conflict):
    """What wraps new data keys can't be taken out of use."""

    code = "keyring_version_active"

    def __init__(self, version: int) -> None:
        super().__init__(f"Version {version} is the active one; activate another first.")


class VersionNotEverywhere(Conflict):
    """A running process has not taken the keyring's change yet: going on would break its work."""

    code = "keyring_version_not_everywhere"

    def __init__(self, version: int, waiting_for: Sequence[str]) -> None:
        super().__init__(
            f"Not every process has taken the keyring as it is; waiting for: "
            f"{', '.join(waiting_for)}.",
            version=version,
        )


class VersionInUse(Conflict):
    """Keys are wrapped under this version still; without it they would be lost."""

    code = "keyring_version_in_use"

    def __init__(self, version: int, data_keys: int) -> None:
        super().__init__(
            f"{data_keys} keys are still wrapped under version {version}.",
            version=version,
            data_keys=data_keys,
        )


class VersionClosed(Unavailable):
    """Whoever wraps under a closed version has an old keyring; a moment later it has the new one.

    The database refuses the data key then, so that none can be lost with a version.
    """

    code = "keyring_version_closed"

    def __init__(self, version: int) -> None:
        super().__init__(
            "The keyring is being changed.", retry_after=timedelta(seconds=5), version=version
        )
