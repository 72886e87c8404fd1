"""Rotation: each refresh token is good once."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from services.auth.actions.refresh import Refresh
from services.auth.domain.errors import (
    RefreshRefused,
    RefreshReused,
    SigningKeysUnavailable,
    SignInUndone,
)
from services.auth.domain.origin import Origin
from services.auth.domain.refresh_token import RefreshToken
from services.auth.domain.sign_in import EndReason, SignIn
from services.auth.domain.token_pair import TokenPair
from tests.support.auth import (
    LIFETIMES,
    HeldKeys,
    Memory,
    MemoryWork,
    StoppedClock,
    a_sign_in,
    a_user,
    an_issuer,
    some_signing_keys,
)

ELSEWHERE = Origin("a browser", "192.0.2.9")


class Device:
    """A signed-in device and the action it calls."""

    def __init__(self) -> None:
        self.user = a_user()
        self.sign_in = a_sign_in(self.user)
        self.memory = Memory().keep(self.user, self.sign_in)
        self.clock = StoppedClock()
        self.keys = HeldKeys(some_signing_keys())
        self.action = Refresh(self.memory.work, an_issuer(self.keys), LIFETIMES, self.clock)
        pepper = some_signing_keys().pepper(1)
        self.first_token = RefreshToken.current_of(self.sign_in, pepper).encoded

    async def refresh(self, token: str) -> TokenPair:
        return await self.action(token)

    @property
    def kept(self) -> SignIn:
        return self.memory.devices[self.sign_in.id]

    @property
    def end_reason(self) -> EndReason | None:
        return self.memory.reasons.get(self.sign_in.id)


async def test_each_token_leads_to_the_next() -> None:
    device = Device()
    tokens = [device.first_token]
    for _ in range(5):
        tokens.append((await device.refresh(tokens[-1])).refresh_token)
        device.clock.forward(timedelta(hours=1))
    assert len(set(tokens)) == 6
    assert device.kept.counter == 5


async def test_the_parent_gets_the_same_successor_within_the_grace() -> None:
    device = Device()
    first = await device.refresh(device.first_token)
    device.clock.forward(timedelta(seconds=10))
    again = await device.refresh(device.first_token)
    assert again.refresh_token == first.refresh_token
    assert again.access_token != first.access_token
    assert device.kept.counter == 1


async def test_the_grace_is_counted_from_the_rotation_and_not_from_the_last_try() -> None:
    device = Device()
    await device.refresh(device.first_token)
    device.clock.forward(timedelta(seconds=9))
    await device.refresh(device.first_token)
    device.clock.forward(timedelta(seconds=2))
    with pytest.raises(RefreshReused):
        await device.refresh(device.first_token)


async def test_the_parent_after_the_grace_ends_the_sign_in_for_everyone() -> None:
    device = Device()
    successor = (await device.refresh(device.first_token)).refresh_token
    device.clock.forward(timedelta(seconds=11))
    with pytest.raises(RefreshReused):
        await device.refresh(device.first_token)
    assert device.end_reason is EndReason.REFRESH_REUSED
    for token in (successor, device.first_token):
        with pytest.raises(RefreshRefused):
            await device.refresh(token)


async def test_the_grandparent_ends_the_sign_in_even_at_once() -> None:
    device = Device()
    parent = (await device.refresh(device.first_token)).refresh_token
    await device.refresh(parent)
    with pytest.raises(RefreshReused):
        await device.refresh(device.first_token)
    with pytest.raises(RefreshRefused):
        await device.refresh(parent)


async def test_a_token_that_a_restored_backup_has_undone_ends_the_sign_in_without_an_alarm() -> (
    None
):
    device = Device()
    successor = (await device.refresh(device.first_token)).refresh_token
    later = (await device.refresh(successor)).refresh_token
    proven = replace(device.user, email_verified=True)
    device.memory.keep(proven, device.sign_in)
    with pytest.raises(SignInUndone):
        await device.action(later, origin=ELSEWHERE)
    assert device.end_reason is EndReason.RESTORED
    assert [(entry.action, entry.facts["reason"]) for entry in device.memory.audited] == [
        ("sign_in.ended", "restored")
    ]
    (line,) = device.memory.audited
    assert (line.at, line.origin) == (device.clock.now(), ELSEWHERE)
    assert not device.memory.mails
    with pytest.raises(RefreshRefused):
        await device.refresh(later)


async def test_a_forged_token_ends_nothing() -> None:
    device = Device()
    token = RefreshToken.parse(device.first_token)
    for forged in (replace(token, mac=b"m" * 32), replace(token, counter=9)):
        with pytest.raises(RefreshRefused):
            await device.refresh(forged.encoded)
    assert device.end_reason is None
    assert (await device.refresh(device.first_token)).user == device.user


async def test_an_unknown_sign_in_is_refused() -> None:
    device = Device()
    stranger = RefreshToken.current_of(a_sign_in(device.user), some_signing_keys().pepper(1))
    with pytest.raises(RefreshRefused):
        await device.refresh(stranger.encoded)


async def test_an_unused_sign_in_expires() -> None:
    device = Device()
    device.clock.forward(timedelta(days=14))
    with pytest.raises(RefreshRefused):
        await device.refresh(device.first_token)
    assert device.end_reason is None


async def test_a_used_sign_in_expires_too_in_the_end() -> None:
    device = Device()
    token = device.first_token
    for _ in range(6):
        device.clock.forward(timedelta(days=13))
        token = (await device.refresh(token)).refresh_token
    device.clock.forward(timedelta(days=12))
    with pytest.raises(RefreshRefused):
        await device.refresh(token)


async def test_an_inactive_or_deleted_user_gets_nothing() -> None:
    device = Device()
    device.memory.keep(replace(device.user, is_active=False))
    with pytest.raises(RefreshRefused):
        await device.refresh(device.first_token)
    device.memory.accounts.clear()
    with pytest.raises(RefreshRefused):
        await device.refresh(device.first_token)


async def test_the_next_token_carries_the_new_tier() -> None:
    device = Device()
    device.memory.keep(replace(device.user, tier="pro"))
    assert (await device.refresh(device.first_token)).user.tier == "pro"


async def test_without_signing_keys_the_token_stays_good() -> None:
    device = Device()
    keys, device.keys.keys = device.keys.keys, None
    with pytest.raises(SigningKeysUnavailable):
        await device.refresh(device.first_token)
    device.keys.keys = keys
    assert (await device.refresh(device.first_token)).user == device.user


async def test_a_sign_in_of_a_removed_pepper_is_over() -> None:
    device = Device()
    device.memory.keep(replace(device.sign_in, pepper_version=7))
    with pytest.raises(RefreshRefused):
        await device.refresh(device.first_token)


def overtaken(device: Device, by: Callable[[], Awaitable[None]]) -> Refresh:
    """A use of the token before whose rotation another one is done, once."""
    done: list[bool] = []

    def work_with_a_rival() -> MemoryWork:
        work = device.memory.work()
        advance = work.sign_ins.advance

        async def rival_first(rotated: SignIn) -> bool:
            if not done:
                done.append(True)
                await by()
            return await advance(rotated)

        work.sign_ins.advance = rival_first  # type: ignore[method-assign]
        return work

    return Refresh(work_with_a_rival, an_issuer(), LIFETIMES, device.clock)


@pytest.mark.parametrize("waited", [timedelta(0), timedelta(seconds=15)])
async def test_whoever_loses_the_race_gets_what_the_winner_got(waited: timedelta) -> None:
    """Also where a database that stood still let both wait for longer than the grace."""
    device = Device()
    rival = Refresh(device.memory.work, an_issuer(), LIFETIMES, device.clock)
    won: list[TokenPair] = []

    async def win() -> None:
        won.append(await rival(device.first_token))
        device.clock.forward(waited)

    lost = await overtaken(device, win)(device.first_token)
    assert lost.refresh_token == won[0].refresh_token
    assert device.kept.counter == 1


async def test_whoever_was_overtaken_twice_holds_a_token_that_two_parties_have() -> None:
    device = Device()
    rival = Refresh(device.memory.work, an_issuer(), LIFETIMES, device.clock)

    async def win_twice() -> None:
        await rival((await rival(device.first_token)).refresh_token)

    with pytest.raises(RefreshReused):
        await overtaken(device, win_twice)(device.first_token)
    assert device.end_reason is EndReason.REFRESH_REUSED
