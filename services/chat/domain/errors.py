"""Failures that chat expects."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from shared.errors import Invalid, NotFound, NotInTier
from shared.vendors.failures import VendorRefused


class SessionNotFound(NotFound):
    """Also raised for another user's session, so that ids can't be probed."""

    code = "session_not_found"

    def __init__(self, session_id: UUID) -> None:
        super().__init__("No such chat session.", session_id=str(session_id))


class UnknownProvider(Invalid):
    """A vendor that chat does not talk to."""

    code = "unknown_chat_provider"

    def __init__(self, provider: str) -> None:
        super().__init__("There is no such chat provider.", provider=provider)


class ModelNotFound(NotFound):
    """A model that this user can't use now: none of their tier's, or none that a key reaches."""

    code = "model_not_found"

    def __init__(self) -> None:
        super().__init__("You can use no such model now.", param="model")


class ProviderNotSpoken(Invalid):
    """A vendor of the tier table whose wire this deployment does not speak."""

    code = "provider_not_spoken"

    def __init__(self, provider: str) -> None:
        super().__init__(f"Chat does not talk to {provider} yet.", provider=provider)


class ProviderNotInTier(NotInTier):
    """The specification's "tier not supported"."""

    code = "provider_not_in_tier"

    def __init__(self, provider: str, tier: str, upgrade_tier: str | None) -> None:
        super().__init__(
            f"The {tier} tier does not include {provider}.",
            provider=provider,
            tier=tier,
            upgrade_tier=upgrade_tier,
        )


class ModelNotInTier(NotInTier):
    """A model outside what the tier grants."""

    code = "model_not_in_tier"

    def __init__(self, model: str, tier: str, granted: Sequence[str]) -> None:
        super().__init__(
            f"The {tier} tier does not include this model.",
            model=model,
            tier=tier,
            models=list(granted),
        )


class VendorRejectedRequest(VendorRefused):
    """The vendor does not accept the request as we made it."""

    code = "vendor_rejected_request"


class ModelUnavailable(VendorRefused):
    """The vendor does not serve this model to this key."""

    code = "model_unavailable"
