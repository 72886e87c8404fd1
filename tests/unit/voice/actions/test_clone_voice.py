"""Voices that are made of samples: what is refused, what is written down, and when."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest

from services.voice.actions import clone_voice as module
from services.voice.actions.read_voice import ReadVoice
from services.voice.domain.clone import (
    CONSENT_VERSION,
    LARGEST_SAMPLE,
    LARGEST_TOGETHER,
    LONGEST_LABEL,
    LONGEST_NAME,
    MOST_LABELS,
    Clone,
    CloneOrder,
    CloneState,
    Upload,
)
from services.voice.domain.errors import (
    CloneNotDescribed,
    CloningNotInTier,
    ConsentMissing,
    SampleRefused,
    SamplesRefused,
    VoiceNotClonedHere,
    VoiceNotFound,
)
from services.voice.domain.voice_search import VoicePage, VoiceQuery
from shared.errors import DependencyUnavailable, LimitReached
from shared.events.voice import VoiceCloned, VoiceConsentGiven, VoiceRemoved
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.ids import UserId
from shared.tiers import TIERS
from shared.vendors.failures import VendorFailed
from tests.support.voice import NOON, VOICES, a_user, on_behalf_of
from tests.support.voice_studio import NEW_VOICE, VoiceRoom, a_clone_wish, an_upload


async def test_the_consent_is_written_before_the_vendor_hears_and_the_voice_after() -> None:
    room, by = VoiceRoom(), on_behalf_of()
    cloned = await room.clone_voice(a_clone_wish(an_upload(), an_upload(), by=by))
    assert (cloned.voice_id, cloned.again) == (NEW_VOICE, False)
    consent, made = room.published
    assert isinstance(consent, VoiceConsentGiven)
    assert isinstance(made, VoiceCloned)
    assert consent.user_id == made.user_id == by.user_id
    assert consent.consent_version == CONSENT_VERSION
    assert consent.sample_sha256s == made.sample_sha256s == (f"{1:064}", f"{2:064}")
    assert (made.voice_id, made.clone_id) == (NEW_VOICE, consent.clone_id)
    [kept] = room.clones.kept.values()
    assert (kept.state, kept.voice_id, kept.created_at) == (CloneState.READY, NEW_VOICE, NOON)
    assert [each.refunds for each in room.admission.given] == [0]
    assert room.admission.characters == [0]


async def test_a_tier_without_it_is_told_which_has_it() -> None:
    room = VoiceRoom()
    with pytest.raises(CloningNotInTier) as refused:
        await room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of(), tier="free"))
    assert refused.value.facts["upgrade_tier"] == "pro"
    assert not room.studio.made
    room.admission.told = "team"  # of a release that knows more tiers
    for claimed in ("free", "pro"):
        with pytest.raises(CloningNotInTier):
            await room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of(), tier=claimed))
    room.admission.told = "pro"  # an upgrade of a moment ago
    await room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of(), tier="free"))


@pytest.mark.parametrize(
    ("changes", "expected", "reason"),
    [
        ({"consent": False}, ConsentMissing, None),
        ({"name": ""}, CloneNotDescribed, None),
        ({"name": "a\x00b"}, CloneNotDescribed, None),
        ({"description": "x" * 501}, CloneNotDescribed, None),
        ({"labels": {str(n): "" for n in range(11)}}, CloneNotDescribed, None),
        ({"uploads": ()}, SamplesRefused, "none"),
        ({"uploads": [an_upload() for _ in range(26)]}, SamplesRefused, "too_many"),
        ({"uploads": [an_upload(b"")]}, SampleRefused, "empty"),
        ({"uploads": [replace(an_upload(), size=(10 << 20) + 1)]}, SampleRefused, "too_large"),
        (
            {"uploads": [replace(an_upload(), size=9 << 20) for _ in range(5)]},
            SamplesRefused,
            "too_large_together",
        ),
    ],
)
async def test_what_can_be_told_without_listening(
    changes: dict[str, Any], expected: type[Exception], reason: str | None
) -> None:
    room = VoiceRoom()
    with pytest.raises(expected) as refused:
        await room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of(), **changes))
    assert getattr(refused.value, "facts", {}).get("reason") == reason
    assert not room.studio.made
    assert not room.published
    assert not room.admission.given


@pytest.mark.parametrize(
    ("seconds", "count", "reason"),
    [
        (0.9, 20, "too_short"),
        (9.9, 1, "too_short_together"),
        (301, 2, "too_long_together"),
    ],
)
async def test_lengths_are_bounded(seconds: float, count: int, reason: str) -> None:
    room = VoiceRoom()
    room.examiner.seconds = seconds
    uploads = [an_upload() for _ in range(count)]
    with pytest.raises((SampleRefused, SamplesRefused)) as refused:
        await room.clone_voice(a_clone_wish(*uploads, by=on_behalf_of()))
    assert refused.value.facts["reason"] == reason
    assert not room.studio.made


async def test_the_sample_that_is_none_is_named() -> None:
    room = VoiceRoom()
    room.examiner.refuses = 2
    with pytest.raises(SampleRefused) as refused:
        await room.clone_voice(
            a_clone_wish(an_upload(), an_upload(name="cat.jpg"), by=on_behalf_of())
        )
    assert (refused.value.facts["sample"], refused.value.facts["name"]) == (2, "cat.jpg")


async def test_a_full_window_stops_it_before_anything_is_written() -> None:
    room = VoiceRoom()
    room.admission.refuses = True
    with pytest.raises(LimitReached):
        await room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of()))
    assert not room.published
    assert not room.studio.made


async def test_what_the_vendor_refuses_leaves_the_consent_and_nothing_else() -> None:
    room = VoiceRoom()
    room.studio.failure = VendorFailed("elevenlabs")
    with pytest.raises(VendorFailed):
        await room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of(), key="k"))
    assert room.clones.kept == {}
    assert room.told == ["voice.consent_given"]
    assert [each.refunds for each in room.admission.given] == [1]


async def test_one_key_makes_one_voice() -> None:
    room, by = VoiceRoom(), on_behalf_of()
    first = await room.clone_voice(a_clone_wish(an_upload(), by=by, key="k"))
    second = await room.clone_voice(a_clone_wish(an_upload(), by=by, key="k"))
    assert (second.voice_id, second.again) == (first.voice_id, True)
    assert len(room.studio.made) == 1
    with pytest.raises(IdempotencyKeyReused):
        await room.clone_voice(a_clone_wish(an_upload(), by=by, key="k", name="You"))
    await room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of(), key="k"))
    assert len(room.studio.made) == 2


async def test_a_second_request_while_the_first_runs_is_told_so() -> None:
    room, by = VoiceRoom(), on_behalf_of()
    await room.clone_voice(a_clone_wish(an_upload(), by=by, key="k"))
    [(id_, clone)] = room.clones.kept.items()
    room.clones.kept[id_] = replace(clone, state=CloneState.MAKING, voice_id=None)
    with pytest.raises(RequestInProgress):
        await room.clone_voice(a_clone_wish(an_upload(), by=by, key="k"))
    assert len(room.studio.made) == 1


async def test_a_database_that_is_away_for_a_moment_loses_no_voice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_NOTED_AFTER_SECONDS", (0.0, 0.0, 0.0))
    room = VoiceRoom()
    room.clones.outages = 2
    cloned = await room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of()))
    assert cloned.voice_id == NEW_VOICE
    room.clones.outages = 3
    with pytest.raises(DependencyUnavailable):
        await room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of()))
    assert room.studio.removed == [NEW_VOICE]  # nobody would know whose it is


async def test_a_voice_is_deleted_at_the_vendor_and_here() -> None:
    room, by = VoiceRoom(), on_behalf_of()
    await room.clone_voice(a_clone_wish(an_upload(), by=by))
    await room.own_settings.change(by.user_id, NEW_VOICE, {"style": 0.5}, NOON)
    await room.remove_voice(NEW_VOICE, by=by)
    assert room.studio.removed == [NEW_VOICE]
    assert (room.clones.kept, room.own_settings.kept) == ({}, {})
    assert isinstance(room.published[-1], VoiceRemoved)


async def test_with_the_voice_goes_all_audio_that_may_be_in_it() -> None:
    room, by, other = VoiceRoom(), on_behalf_of(), a_user()
    await room.clone_voice(a_clone_wish(an_upload(), by=by))
    room.kept_speeches.of = {by.user_id: 120, other: 1}
    room.studio.failure = VendorFailed("elevenlabs")
    with pytest.raises(VendorFailed):
        await room.remove_voice(NEW_VOICE, by=by)
    assert room.kept_speeches.of == {by.user_id: 0, other: 1}, "whatever the vendor says"


async def test_what_was_said_while_the_vendor_was_asked_goes_too() -> None:
    room, by = VoiceRoom(), on_behalf_of()
    await room.clone_voice(a_clone_wish(an_upload(), by=by))
    room.studio.meanwhile = lambda: room.kept_speeches.of.update({by.user_id: 60})
    await room.remove_voice(NEW_VOICE, by=by)
    assert room.kept_speeches.of == {by.user_id: 0}


async def test_a_list_lets_nothing_go_that_is_kept_while_a_voice_still_leaves() -> None:
    room, by = VoiceRoom(), on_behalf_of()
    await room.clone_voice(a_clone_wish(an_upload(), by=by))
    room.studio.failure = VendorFailed("elevenlabs")
    with pytest.raises(VendorFailed):
        await room.remove_voice(NEW_VOICE, by=by)
    room.kept_speeches.of = {by.user_id: 3}
    await room.list_voices(VoiceQuery(), TIERS["pro"], by=by)
    assert room.kept_speeches.of == {by.user_id: 3}


async def test_only_who_had_it_made_may_delete_it() -> None:
    room = VoiceRoom()
    await room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of()))
    for voice in VOICES:
        with pytest.raises(VoiceNotClonedHere):
            await room.remove_voice(voice.id, by=on_behalf_of())
    for unknown in (NEW_VOICE, "nobody", "../user"):
        with pytest.raises(VoiceNotFound):
            await room.remove_voice(unknown, by=on_behalf_of())
    assert room.studio.removed == []
    assert len(room.clones.kept) == 1


async def test_what_the_vendor_could_not_be_told_is_told_later() -> None:
    room, by = VoiceRoom(), on_behalf_of()
    await room.clone_voice(a_clone_wish(an_upload(), by=by))
    clone = replace(VOICES[2], id=NEW_VOICE)
    room.studio.page = VoicePage([*VOICES, clone])
    listed = await room.list_voices(VoiceQuery(), TIERS["pro"], by=by)
    assert [found.cloned_here for found in listed.found] == [False, False, False, True]

    room.studio.failure = VendorFailed("elevenlabs")
    with pytest.raises(VendorFailed):
        await room.remove_voice(NEW_VOICE, by=by)
    hidden = await room.list_voices(VoiceQuery(), TIERS["pro"], by=by)
    assert NEW_VOICE not in [found.voice.id for found in hidden.found]
    room.provider.known = [clone]
    with pytest.raises(VoiceNotFound):
        await ReadVoice(room.provider, room.work)(NEW_VOICE, TIERS["pro"], by=by)  # type: ignore[arg-type]
    assert "voice.removed" not in room.told

    room.studio.failure = None
    await room.list_voices(VoiceQuery(), TIERS["pro"], by=on_behalf_of())
    assert room.studio.removed == []  # another user's key opens another account
    await room.list_voices(VoiceQuery(), TIERS["pro"], by=by)
    assert (room.studio.removed, room.told[-1]) == ([NEW_VOICE], "voice.removed")
    assert room.clones.kept == {}


async def test_two_deletions_at_once_are_one() -> None:
    room, by = VoiceRoom(), on_behalf_of()
    await room.clone_voice(a_clone_wish(an_upload(), by=by))
    [clone] = room.clones.kept.values()
    await room.remove_voice.go_on(clone, by=by)
    await room.remove_voice.go_on(clone, by=by)
    assert room.told.count("voice.removed") == 1


async def test_who_leaves_while_the_vendor_listens_leaves_only_the_consent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room, listening = VoiceRoom(), asyncio.Event()

    async def for_ever(*_parts: object, **_more: object) -> None:
        listening.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(room.studio, "make", for_ever)
    task = asyncio.create_task(room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of())))
    await listening.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert room.clones.kept == {}
    assert [type(event) for event in room.published] == [VoiceConsentGiven]
    assert [given.refunds for given in room.admission.given] == [1]


async def test_who_leaves_once_it_is_made_leaves_no_voice_that_nobody_knows_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_NOTED_AFTER_SECONDS", (0.01,))
    room = VoiceRoom()
    task = asyncio.create_task(room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of())))
    while not room.studio.made:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.05)
    assert [clone.voice_id for clone in room.clones.kept.values()] == [NEW_VOICE]


async def test_of_two_requests_with_one_key_at_the_same_moment_one_is_refunded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room, by = VoiceRoom(), on_behalf_of()
    first = await room.clone_voice(a_clone_wish(an_upload(), by=by, key="k"))
    looks, earlier = 0, room.clones.earlier

    async def not_seen_at_first(user_id: UserId, key: str) -> Clone | None:
        nonlocal looks
        looks += 1
        return None if looks == 1 else await earlier(user_id, key)

    monkeypatch.setattr(room.clones, "earlier", not_seen_at_first)
    second = await room.clone_voice(a_clone_wish(an_upload(), by=by, key="k"))
    assert (second.voice_id, second.again) == (first.voice_id, True)
    assert [given.refunds for given in room.admission.given] == [0, 1]
    assert len(room.studio.made) == 1


@pytest.mark.parametrize(("seconds", "count"), [(1, 10), (10, 1), (300, 2), (24, 25)])
async def test_lengths_at_their_bounds_are_taken(seconds: float, count: int) -> None:
    room = VoiceRoom()
    room.examiner.seconds = seconds
    await room.clone_voice(a_clone_wish(*[an_upload()] * count, by=on_behalf_of()))
    assert len(room.studio.made) == 1


async def test_what_the_vendor_said_is_told_though_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*_parts: object) -> bool:
        raise DependencyUnavailable("database")

    room = VoiceRoom()
    room.studio.failure = VendorFailed("elevenlabs")
    monkeypatch.setattr(room.clones, "forget", away)
    with pytest.raises(VendorFailed):
        await room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of()))
    assert [given.refunds for given in room.admission.given] == [1]


async def test_a_voice_that_can_be_neither_noted_nor_removed_is_told_as_not_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def failing(*_parts: object, **_more: object) -> bool:
        raise VendorFailed("elevenlabs")

    monkeypatch.setattr(module, "_NOTED_AFTER_SECONDS", (0.0,))
    room = VoiceRoom()
    room.clones.outages = 1
    monkeypatch.setattr(room.studio, "remove", failing)
    with pytest.raises(DependencyUnavailable):
        await room.clone_voice(a_clone_wish(an_upload(), by=on_behalf_of()))


@pytest.mark.parametrize(
    "changes", [{"remove_background_noise": True}, {"description": "Warm"}, {"labels": {"a": "b"}}]
)
async def test_a_key_is_for_the_same_samples_and_the_same_wishes(changes: dict[str, Any]) -> None:
    room, by = VoiceRoom(), on_behalf_of()
    await room.clone_voice(a_clone_wish(an_upload(), by=by, key="k"))
    with pytest.raises(IdempotencyKeyReused):
        await room.clone_voice(a_clone_wish(an_upload(), by=by, key="k", **changes))
    with pytest.raises(IdempotencyKeyReused):
        await room.clone_voice(a_clone_wish(an_upload(), an_upload(), by=by, key="k"))
    assert len(room.studio.made) == 1


def test_sizes_and_words_at_their_bounds_are_taken() -> None:
    uploads = [Upload("take.wav", BytesIO(), LARGEST_TOGETHER // 4)] * 4
    assert uploads[0].size == LARGEST_SAMPLE
    labels = {f"{number:0{LONGEST_LABEL}}": "x" * LONGEST_LABEL for number in range(MOST_LABELS)}
    CloneOrder("x" * LONGEST_NAME, uploads, consent=True, labels=labels).check()
