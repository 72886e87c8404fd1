"""Devices: listing them, signing out, ending another one."""

from datetime import datetime, timedelta

import pytest

from services.auth.actions.end_sign_in import EndSignIn
from services.auth.actions.list_sign_ins import ListSignIns
from services.auth.actions.sign_out import SignOut
from services.auth.domain.errors import SignInNotFound
from services.auth.domain.sign_in import EndReason, SignInId
from shared.errors import SessionEnded
from shared.ids import uuid7
from tests.support.auth import NOON, Memory, StoppedClock, a_sign_in, a_user

ada, grace = a_user("ada"), a_user("grace")


async def test_signing_out_ends_this_device_only() -> None:
    here, there = a_sign_in(ada), a_sign_in(ada)
    memory = Memory().keep(here, there)
    await SignOut(memory.work, StoppedClock())(here.id, of=ada.id, everywhere=False)
    assert memory.reasons == {here.id: EndReason.SIGNED_OUT}


async def test_signing_out_twice_is_fine() -> None:
    here = a_sign_in(ada)
    memory = Memory().keep(here)
    for _ in range(2):
        await SignOut(memory.work, StoppedClock())(here.id, of=ada.id, everywhere=False)
    assert memory.devices[here.id].ended_at == NOON


async def test_signing_out_everywhere_spares_other_users() -> None:
    here, there, other = a_sign_in(ada), a_sign_in(ada), a_sign_in(grace)
    memory = Memory().keep(here, there, other)
    await SignOut(memory.work, StoppedClock())(here.id, of=ada.id, everywhere=True)
    assert set(memory.reasons) == {here.id, there.id}


@pytest.mark.parametrize("over", [{"ended_at": NOON}, {"expires_at": NOON}, None])
async def test_a_device_that_is_out_signs_no_other_out(over: dict[str, datetime] | None) -> None:
    here, there = a_sign_in(ada, **(over or {})), a_sign_in(ada)
    memory = Memory().keep(there) if over is None else Memory().keep(here, there)
    with pytest.raises(SessionEnded):
        await SignOut(memory.work, StoppedClock())(here.id, of=ada.id, everywhere=True)
    assert memory.reasons == {}
    assert memory.audited == []


async def test_the_list_shows_live_devices_of_the_user_newest_first_in_pages() -> None:
    mine = [a_sign_in(ada) for _ in range(5)]
    over = a_sign_in(ada, ended_at=NOON)
    expired = a_sign_in(ada, expires_at=NOON)
    memory = Memory().keep(*mine, over, expired, a_sign_in(grace))
    listing = ListSignIns(memory.work, StoppedClock())
    first = await listing(ada.id, before=None, most=3)
    rest = await listing(ada.id, before=first[-1].id, most=3)
    assert [*first, *rest] == list(reversed(mine))


async def test_ending_a_device_ends_it() -> None:
    there = a_sign_in(ada)
    memory = Memory().keep(there)
    await EndSignIn(memory.work, StoppedClock())(there.id, by=ada.id)
    assert memory.reasons == {there.id: EndReason.ENDED_BY_OWNER}


@pytest.mark.parametrize("which", ["another user's", "ended", "expired", "unknown"])
async def test_whatever_is_not_a_live_device_of_the_caller_looks_absent(which: str) -> None:
    sign_in = {
        "another user's": a_sign_in(grace),
        "ended": a_sign_in(ada, ended_at=NOON - timedelta(days=1)),
        "expired": a_sign_in(ada, expires_at=NOON),
        "unknown": a_sign_in(ada, id=SignInId(uuid7())),
    }[which]
    memory = Memory() if which == "unknown" else Memory().keep(sign_in)
    with pytest.raises(SignInNotFound) as refusal:
        await EndSignIn(memory.work, StoppedClock())(sign_in.id, by=ada.id)
    assert refusal.value.facts == {"sign_in_id": str(sign_in.id)}
    assert memory.reasons == {}
