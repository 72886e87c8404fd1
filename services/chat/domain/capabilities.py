"""What a vendor's wire and its models can do, as data."""

from __future__ import annotations

from enum import StrEnum

from shared.values import dataclass


class OnLeaving(StrEnum):
    """What to do upstream when nobody wants the rest of an answer: `cancel` where that stops the
    vendor's billing, `drain` where the vendor goes on and charges anyhow, so that reading on at
    least tells the true usage."""

    CANCEL = "cancel"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider takes; the tier decides what of it a user gets."""

    images: bool = True
    image_urls: bool = True  # else images by their bytes alone
    tools: bool = True
    answer_format: bool = True
    on_leaving: OnLeaving = OnLeaving.CANCEL
