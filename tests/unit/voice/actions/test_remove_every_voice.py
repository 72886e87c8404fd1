"""All voices of a user who leaves, within the time that they wait."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from services.voice.actions.remove_every_voice import LeftVoices, RemoveEveryVoice
from services.voice.domain.clone import Clone, CloneState
from services.voice.domain.voice import VoiceId
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.vendors.failures import VendorFailed
from tests.support.voice import NOON, on_behalf_of
from tests.support.voice_studio import VoiceRoom


def with_clones(room: VoiceRoom, user_id: UserId, *voice_ids: str | None) -> None:
    for voice_id in voice_ids:
        clone = Clone(user_id=user_id, tier="pro", name="Mine", sample_sha256s=(), created_at=NOON)
        if voice_id is not None:
            clone = replace(clone, voice_id=VoiceId(voice_id), state=CloneState.READY)
        room.clones.kept[clone.id] = clone


def removing(room: VoiceRoom, seconds: float = 5) -> RemoveEveryVoice:
    return RemoveEveryVoice(room.remove_voice, room.work, seconds)  # type: ignore[arg-type]


async def test_one_that_hangs_or_fails_keeps_none_of_the_others() -> None:
    room, by = VoiceRoom(), on_behalf_of()
    with_clones(room, by.user_id, "one", "hangs", "fails", "breaks", "elsewhere", "two", None)
    remove = room.studio.remove

    async def troubled(voice_id: VoiceId, *, by: OnBehalfOf) -> bool:
        if voice_id == "hangs":
            await asyncio.sleep(60)
        if voice_id == "fails":
            raise VendorFailed("elevenlabs")
        if voice_id == "breaks":
            raise KeyError(voice_id)
        return await remove(voice_id, by=by) and voice_id != "elsewhere"

    room.studio.remove = troubled  # type: ignore[method-assign]
    left = await removing(room, seconds=0.2)(by=by)
    # One that the vendor did not find may be in the account of a key that they had before.
    assert sorted(left.voices) == ["breaks", "elsewhere", "fails", "hangs"]
    assert not left.are_all
    # Others' tasks come and go in this loop; of its own none is left.
    assert not [task for task in asyncio.all_tasks() if "RemoveEveryVoice" in repr(task)]
    kept = {clone.voice_id: clone.state for clone in room.clones.kept.values()}
    # The one that nobody has seen made is not known at the vendor yet.
    assert kept == {
        None: CloneState.MAKING,
        "hangs": CloneState.REMOVING,
        "breaks": CloneState.REMOVING,
        "fails": CloneState.REMOVING,
    }


async def test_more_than_go_at_once_all_go() -> None:
    room, by = VoiceRoom(), on_behalf_of()
    with_clones(room, by.user_id, *map(str, range(15)))
    assert await removing(room)(by=by) == LeftVoices(set(), are_all=True)
    assert room.clones.kept == {}
