"""A speech takes its place in the limits while what is known of its user is looked for, where the
look can't change the place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import pytest

from services.voice.actions._spoken_before import SpokenBefore
from services.voice.actions.speak import Wish
from services.voice.domain.errors import VoiceNotFound
from services.voice.domain.kept_speech import Address, Recollection
from services.voice.domain.script import SettingsWish
from services.voice.domain.voice import VoiceId
from shared.errors import DependencyUnavailable, LimitReached
from shared.ids import UserId
from shared.tiers import Tier, TierChanged
from tests.support.kept_speech import MemoryRecollections, spoken_before
from tests.support.voice import (
    FakeAdmission,
    FakeAudio,
    FakeReservation,
    StoppedClock,
    Studio,
    a_wish,
    an_order,
    on_behalf_of,
)

SOON = 5.0
LONG = "so it is told. " * 100  # longer than what is kept to be said again
PATIENT = 0.05


@dataclass
class Door(FakeAdmission):
    """Tells when somebody asks, and waits until they are let in."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: int = 0

    async def admit(
        self, user_id: UserId, tier: Tier, characters: int, *, now: datetime, reservation: UUID
    ) -> FakeReservation:
        self.asked.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().admit(user_id, tier, characters, now=now, reservation=reservation)


@dataclass(kw_only=True)
class Looking:
    """Looks as ever, once `meanwhile` has come to an end."""

    found: MemoryRecollections
    meanwhile: Callable[[], Awaitable[object]]

    async def of(
        self,
        user_id: UserId,
        voice_id: VoiceId,
        address: Address | None = None,
        *,
        since: datetime | None = None,
    ) -> Recollection:
        await self.meanwhile()
        return await self.found.of(user_id, voice_id, address, since=since)


def a_studio(meanwhile: Callable[[Door], Awaitable[object]]) -> tuple[Studio, Door]:
    """What happens while the look lasts; the door is open unless that closes it."""
    door = Door()
    door.open.set()
    before = spoken_before(StoppedClock())
    found = before.recollections
    assert isinstance(found, MemoryRecollections)
    looking = Looking(found=found, meanwhile=lambda: meanwhile(door))
    studio = Studio(admission=door, before=replace(before, recollections=looking))
    return studio, door


def known(studio: Studio) -> MemoryRecollections:
    assert isinstance(studio.before, SpokenBefore)
    assert isinstance(studio.before.recollections, Looking)
    return studio.before.recollections.found


async def asked_meanwhile(door: Door) -> None:
    """The look lasts until admission has been asked."""
    await asyncio.wait_for(door.asked.wait(), SOON)


async def not_asked_meanwhile(door: Door) -> None:
    await asyncio.sleep(PATIENT)
    assert not door.asked.is_set()


async def nothing(_door: Door) -> None:
    pass


def uncached(wish: Wish) -> Wish:
    return replace(wish, may_be_cached=False)


@pytest.mark.parametrize(
    "wish",
    [
        a_wish(tier="enterprise"),
        uncached(a_wish(tier="pro")),
        a_wish(an_order(LONG), tier="pro"),
        a_wish(an_order(with_timestamps=True), tier="pro"),
    ],
    ids=["nobody counts", "not said again", "too long to be kept", "never kept"],
)
async def test_the_place_is_taken_while_it_looks(wish: Wish) -> None:
    studio, door = a_studio(asked_meanwhile)
    studio.provider.audio = FakeAudio(b"heard")
    speech = await studio.speak(wish)
    assert (speech.hold.id in door.places, speech.hold.characters) == (True, door.characters[0])
    assert len(door.given) == 1


@pytest.mark.parametrize(
    "wish",
    [a_wish(tier="pro"), a_wish(tier="free"), a_wish(tier="enterprise", key="one-key-12345")],
    ids=["counted", "counted, too", "perhaps a repetition"],
)
async def test_where_the_place_depends_on_what_is_found_the_look_comes_first(wish: Wish) -> None:
    studio, door = a_studio(not_asked_meanwhile)
    speech = await studio.speak(wish)
    assert speech.hold.id in door.places


async def test_what_was_said_before_takes_the_same_place_and_costs_nothing() -> None:
    studio, door = a_studio(nothing)
    wish = a_wish(tier="enterprise")
    await studio.hear(await studio.speak(wish))
    again = await studio.speak(wish)
    assert (again.hold.cached, again.hold.asked_characters) == (True, 0)
    await studio.hear(again)
    assert [each.settled for each in door.given] == [[again.hold.characters], [0]]


async def test_own_settings_are_heard_in_the_speech_that_is_let_in_meanwhile() -> None:
    studio, _ = a_studio(asked_meanwhile)
    wish = a_wish(tier="enterprise")
    known(studio).own[wish.by.user_id, VoiceId(wish.order.voice_id)] = SettingsWish(stability=0.2)
    speech = await studio.speak(wish)
    assert speech.script.settings.stability == 0.2


async def test_a_voice_that_is_hidden_gives_the_place_back() -> None:
    studio, door = a_studio(asked_meanwhile)
    wish = a_wish(tier="enterprise")
    known(studio).hidden.add((wish.by.user_id, VoiceId(wish.order.voice_id)))
    with pytest.raises(VoiceNotFound):
        await studio.speak(wish)
    assert [(each.refunds, each.settled) for each in door.given] == [(1, [])]
    assert studio.speeches.kept == {}


async def test_a_look_that_fails_gives_back_a_place_that_is_had_later() -> None:
    async def fail(door: Door) -> None:
        door.open.clear()
        await asyncio.wait_for(door.asked.wait(), SOON)
        asyncio.get_running_loop().call_later(PATIENT, door.open.set)
        raise DependencyUnavailable("database")

    studio, door = a_studio(fail)
    with pytest.raises(DependencyUnavailable):
        await studio.speak(a_wish(tier="enterprise"))
    assert [each.refunds for each in door.given] == [1]


@pytest.mark.parametrize("is_hidden", [False, True])
async def test_who_is_refused_has_no_place_and_hears_first_of_the_voice(is_hidden: bool) -> None:
    studio, door = a_studio(asked_meanwhile)
    door.refuses = True
    wish = a_wish(tier="enterprise")
    if is_hidden:
        known(studio).hidden.add((wish.by.user_id, VoiceId(wish.order.voice_id)))
    with pytest.raises(VoiceNotFound if is_hidden else LimitReached):
        await studio.speak(wish)
    assert (door.given, studio.speeches.kept) == ([], {})


async def test_another_tier_is_told_as_ever() -> None:
    studio, door = a_studio(nothing)
    door.told = "pro"
    wish = a_wish(tier="enterprise")
    speech = await studio.speak(wish)
    assert speech.hold.tier == "pro"
    assert len(door.given) == 1
    with pytest.raises(TierChanged):
        await door.admit(
            wish.by.user_id, wish.tier, 1, now=StoppedClock().now(), reservation=UUID(int=1)
        )


async def test_who_goes_while_it_looks_leaves_no_place() -> None:
    looking = asyncio.Event()

    async def hang(door: Door) -> None:
        await asyncio.wait_for(door.asked.wait(), SOON)
        looking.set()
        await asyncio.Event().wait()

    studio, door = a_studio(hang)
    asking = asyncio.create_task(studio.speak(a_wish(tier="enterprise", by=on_behalf_of())))
    await asyncio.wait_for(looking.wait(), SOON)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [each.refunds for each in door.given] == [1]
    assert studio.speeches.kept == {}


async def test_who_goes_while_the_place_is_being_taken_leaves_it_to_who_takes_it() -> None:
    studio, door = a_studio(nothing)
    door.open.clear()
    asking = asyncio.create_task(studio.speak(a_wish(tier="enterprise")))
    await asyncio.wait_for(door.asked.wait(), SOON)
    await asyncio.sleep(PATIENT)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (door.cancelled, door.given) == (1, [])


async def test_who_goes_in_the_moment_in_which_the_place_is_had_gives_it_back() -> None:
    studio, door = a_studio(nothing)
    door.open.clear()
    asking = asyncio.create_task(studio.speak(a_wish(tier="enterprise")))
    await asyncio.wait_for(door.asked.wait(), SOON)
    await asyncio.sleep(PATIENT)
    door.open.set()
    for _ in range(10):
        await asyncio.sleep(0)
        if door.given:
            break
    # It is had, and who asked for it has not been told yet.
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [each.refunds for each in door.given] == [1]
    assert studio.speeches.kept == {}
