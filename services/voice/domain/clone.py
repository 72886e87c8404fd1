"""A voice made from samples of somebody who agreed to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import BinaryIO, NewType
from uuid import UUID

import orjson

from services.voice.domain.errors import (
    CloneNotDescribed,
    CloningNotInTier,
    ConsentMissing,
    SampleRefused,
    SamplesRefused,
)
from services.voice.domain.script import VENDOR, smallest_tier_above
from services.voice.domain.voice import VoiceId
from shared.ids import UserId, uuid7
from shared.tiers import Tier
from shared.values import dataclass

CloneId = NewType("CloneId", UUID)

CLONING = "voice_cloning"

CONSENT_VERSION = "2026-11"
CONSENT = (
    "I have the right to use these recordings, and whoever speaks in them has agreed that a "
    "synthetic voice is made from them for my use."
)
"""What `consent: true` says. A change of the text is a new version."""

MOST_SAMPLES = 25
LARGEST_SAMPLE = 10 << 20
LARGEST_TOGETHER = 40 << 20
SHORTEST_SAMPLE = timedelta(seconds=1)
# The vendor advises one to three minutes; more of it makes no better voice.
SHORTEST_TOGETHER, LONGEST_TOGETHER = timedelta(seconds=10), timedelta(minutes=10)
LONGEST_NAME, LONGEST_DESCRIPTION = 100, 500
MOST_LABELS, LONGEST_LABEL = 10, 100

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as it was sent; `name` is only good for telling its sender which one is meant."""

    name: str
    content: BinaryIO
    size: int


@dataclass(frozen=True, slots=True)
class Recording:
    """What a file proved to be."""

    content_type: str
    suffix: str
    length: timedelta
    sha256: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A file that holds a recording."""

    upload: Upload
    recording: Recording


@dataclass(frozen=True, slots=True)
class CloneOrder:
    """A voice that a user wants to have made."""

    name: str
    uploads: Sequence[Upload]
    consent: bool
    description: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    remove_background_noise: bool = False

    def check(self) -> None:
        """Raises ConsentMissing, CloneNotDescribed, SampleRefused or SamplesRefused for what can be
        told without listening."""
        if not self.consent:
            raise ConsentMissing(CONSENT, CONSENT_VERSION)
        _check_words(self)
        _check_sizes(self.uploads)

    def request_hash(self, samples: Sequence[Sample]) -> bytes:
        """What makes two requests the same request."""
        said = {
            "name": self.name,
            "description": self.description,
            "labels": dict(self.labels),
            "remove_background_noise": self.remove_background_noise,
            "samples": [sample.recording.sha256 for sample in samples],
        }
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).digest()


class CloneState(StrEnum):
    """`making`: the vendor is being asked. `removing`: it has yet to say that the voice is gone."""

    MAKING = "making"
    READY = "ready"
    REMOVING = "removing"


@dataclass(frozen=True, slots=True)
class Clone:
    """A voice that was made for a user; it has no id while it is being made.

    One that an organisation's key made lies in the organisation's account at the vendor: it stays
    known here when its user is deleted, without them.
    """

    user_id: UserId | None
    tier: str  # which queue carries what is told of it
    name: str
    sample_sha256s: Sequence[str]
    created_at: datetime
    consent_version: str = CONSENT_VERSION
    state: CloneState = CloneState.MAKING
    voice_id: VoiceId | None = None
    provider: str = VENDOR
    requires_verification: bool = False
    idempotency_key: str | None = None
    request_hash: bytes | None = None
    organisation_id: UUID | None = None  # whose key made it, where that was not the user's own
    id: CloneId = field(default_factory=lambda: CloneId(uuid7()))

    @property
    def maker(self) -> UserId:
        """Whose it is, where that is not in question."""
        assert self.user_id is not None
        return self.user_id

    @property
    def is_leaving(self) -> bool:
        """Somebody has had it deleted who may."""
        return self.state is CloneState.REMOVING


@dataclass(frozen=True, slots=True)
class MadeVoice:
    """What the vendor made of the samples. It may want to hear the speaker before it is used."""

    id: VoiceId
    requires_verification: bool = False


@dataclass(frozen=True, slots=True)
class ClonedVoice:
    """A clone as its owner is told of it; `again` when an earlier request had made it."""

    clone: Clone
    voice_id: VoiceId
    again: bool = False


def refuse_cloning_outside(tier: Tier) -> None:
    """Raises CloningNotInTier unless the tier includes it."""
    if not tier.allows(VENDOR, CLONING):
        raise CloningNotInTier(
            tier.name, smallest_tier_above(tier, lambda a: CLONING in a.features)
        )


def check_lengths(samples: Sequence[Sample]) -> None:
    """Raises SampleRefused or SamplesRefused for what is too short or too long."""
    for position, sample in enumerate(samples, start=1):
        if sample.recording.length < SHORTEST_SAMPLE:
            raise SampleRefused(position, sample.upload.name, "too_short")
    together = sum((sample.recording.length for sample in samples), timedelta())
    if not SHORTEST_TOGETHER <= together <= LONGEST_TOGETHER:
        raise SamplesRefused(
            f"The samples last {together.total_seconds():.1f} seconds together; send between "
            f"{SHORTEST_TOGETHER.seconds} and {LONGEST_TOGETHER.seconds}.",
            "too_short_together" if together < SHORTEST_TOGETHER else "too_long_together",
        )


def _check_sizes(uploads: Sequence[Upload]) -> None:
    if not 1 <= len(uploads) <= MOST_SAMPLES:
        reason = "too_many" if uploads else "none"
        raise SamplesRefused(f"Send 1 to {MOST_SAMPLES} samples.", reason)
    for position, upload in enumerate(uploads, start=1):
        if not 0 < upload.size <= LARGEST_SAMPLE:
            raise SampleRefused(position, upload.name, "too_large" if upload.size else "empty")
    if sum(upload.size for upload in uploads) > LARGEST_TOGETHER:
        raise SamplesRefused(
            f"The samples have more than {LARGEST_TOGETHER >> 20} MiB together.",
            "too_large_together",
        )


def _check_words(order: CloneOrder) -> None:
    _check_text("name", order.name, 1, LONGEST_NAME)
    _check_text("description", order.description or "", 0, LONGEST_DESCRIPTION)
    if len(order.labels) > MOST_LABELS:
        raise CloneNotDescribed("labels", f"Send at most {MOST_LABELS} labels.")
    for name, value in order.labels.items():
        _check_text("labels", name, 1, LONGEST_LABEL)
        _check_text("labels", value, 0, LONGEST_LABEL)


def _check_text(field_name: str, text: str, least: int, most: int) -> None:
    if not least <= len(text) <= most or _CONTROL.search(text):
        raise CloneNotDescribed(
            field_name,
            f"`{field_name}` takes {least} to {most} characters, none of them a control character.",
        )
