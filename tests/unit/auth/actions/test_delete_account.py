"""An account is gone at once, and auth knows who has forgotten its user."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.auth.actions.delete_account import DeleteAccount
from services.auth.actions.forget_expired import ForgetExpired
from services.auth.actions.note_forgotten import Forgotten, NoteForgotten
from services.auth.actions.remind_services import RemindServices
from services.auth.actions.show_erasure import ShowErasure
from services.auth.domain.erasure import SERVICES, Erasure, Receipt
from services.auth.domain.errors import AccountGone, ErasureNotFound, LastOwner
from services.auth.domain.membership import Membership, OrganisationRole
from services.auth.domain.organisation import Organisation
from services.auth.domain.ports import NewUnitOfWork
from shared.erasure import ErasureId
from shared.events.user import UserDeleted
from shared.ids import UserId
from tests.support.auth import NOON, Memory, StoppedClock, a_sign_in, a_user
from tests.support.auth_erasure import VendorsVoices
from tests.support.auth_organisations import an_organisation

ROLES = (("ada", OrganisationRole.OWNER), ("grace", OrganisationRole.MEMBER))


TOKEN = "a token"


def deleting(work: NewUnitOfWork, voices: VendorsVoices | None = None) -> DeleteAccount:
    return DeleteAccount(work, StoppedClock(), voices or VendorsVoices())


def a_place(organisation: Organisation, role: OrganisationRole) -> Membership:
    return Membership(organisation.id, role, organisation.tier, NOON, NOON)


async def test_the_account_and_its_sign_ins_are_gone_and_every_service_hears_of_it() -> None:
    user, other = a_user("ada"), a_user("grace")
    mine, ended, theirs = a_sign_in(user), a_sign_in(user), a_sign_in(other)
    memory = Memory().keep(user, other, mine, replace(ended, ended_at=NOON), theirs)

    deleted = await deleting(memory.work)(user.id, access_token=TOKEN)

    assert set(memory.accounts) == {other.id}
    assert set(memory.devices) == {theirs.id}
    assert set(memory.ended) == {mine.id}
    (fact,) = memory.published
    assert fact.event == UserDeleted(user_id=user.id, erasure_id=deleted.erasure.id)
    assert [entry.action for entry in memory.audited] == ["account.deleted"]


async def test_of_the_receipt_only_the_hash_is_kept() -> None:
    memory, user = Memory(), a_user()
    deleted = await deleting(memory.keep(user).work)(user.id, access_token=TOKEN)
    assert len(deleted.receipt.text) >= 43
    assert deleted.receipt.text not in repr((memory, deleted))
    assert await ShowErasure(memory.work)(Receipt(deleted.receipt.text)) == deleted.erasure
    for wrong in ("", "x", "\ud800", deleted.receipt.text[:-1]):
        with pytest.raises(ErasureNotFound):
            await ShowErasure(memory.work)(Receipt(wrong))


async def test_who_came_back_with_a_backup_is_deleted_again_and_keeps_the_receipt() -> None:
    memory, user = Memory(), a_user()
    deleted = await deleting(memory.keep(user).work)(user.id, access_token=TOKEN)
    restored = Memory().keep(user)

    await deleting(restored.work).again(deleted.erasure)

    assert restored.accounts == {}
    (fact,) = restored.published
    assert fact.event == UserDeleted(user_id=user.id, erasure_id=deleted.erasure.id)
    shown = await ShowErasure(restored.work)(Receipt(deleted.receipt.text))
    assert (shown.id, shown.missing) == (deleted.erasure.id, list(SERVICES))
    with pytest.raises(AccountGone):
        await deleting(restored.work).again(deleted.erasure)


async def test_who_is_gone_can_not_be_deleted_again() -> None:
    memory, user = Memory(), a_user()
    await deleting(memory.keep(user).work)(user.id, access_token=TOKEN)
    with pytest.raises(AccountGone):
        await deleting(memory.work)(user.id, access_token=TOKEN)
    assert len(memory.erasures) == 1


async def test_the_last_owner_of_others_stays_until_there_is_another() -> None:
    memory, organisation = Memory(), an_organisation(NOON)
    memory.organisations[organisation.id] = organisation
    owner, other = (a_user(name, membership=a_place(organisation, role)) for name, role in ROLES)
    memory.keep(owner, other)
    with pytest.raises(LastOwner):
        await deleting(memory.work)(owner.id, access_token=TOKEN)
    assert owner.id in memory.accounts
    assert memory.erasures == {}


async def test_voices_go_before_the_account_by_the_users_own_token() -> None:
    memory, user = Memory(), a_user()

    class Watching(VendorsVoices):
        async def remove_all(self, user_id: UserId, *, access_token: str) -> int | None:
            assert user_id in memory.accounts
            return await super().remove_all(user_id, access_token=access_token)

    voices = Watching()
    deleted = await deleting(memory.keep(user).work, voices)(user.id, access_token=TOKEN)
    assert (voices.asked, deleted.voices_left) == ([(user.id, TOKEN)], 0)
    assert [entry.facts for entry in memory.audited] == [{}]


@pytest.mark.parametrize(("left", "noted"), [(2, 2), (None, "unknown")])
async def test_what_is_left_at_the_vendor_is_told_and_noted(left: int | None, noted: Any) -> None:
    memory, user = Memory(), a_user()
    voices = VendorsVoices(left=left)
    deleted = await deleting(memory.keep(user).work, voices)(user.id, access_token=TOKEN)
    assert memory.accounts == {}
    assert deleted.voices_left == left
    assert [entry.facts for entry in memory.audited] == [{"voices_left": noted}]


async def test_no_voice_goes_for_an_account_that_stays() -> None:
    memory, organisation, voices = Memory(), an_organisation(NOON), VendorsVoices()
    memory.organisations[organisation.id] = organisation
    owner, other = (a_user(name, membership=a_place(organisation, role)) for name, role in ROLES)
    with pytest.raises(LastOwner):
        await deleting(memory.keep(owner, other).work, voices)(owner.id, access_token=TOKEN)
    with pytest.raises(AccountGone):
        await deleting(memory.work, voices)(UserId(uuid4()), access_token=TOKEN)
    assert voices.asked == []


async def test_an_organisation_without_other_members_goes_along() -> None:
    memory, organisation = Memory(), an_organisation(NOON)
    memory.organisations[organisation.id] = organisation
    owner = a_user(membership=a_place(organisation, OrganisationRole.OWNER))
    await deleting(memory.keep(owner).work)(owner.id, access_token=TOKEN)
    assert memory.organisations == {}
    told = [fact.event.type for fact in memory.published]
    assert {"organisation.deleted", "user.deleted"} <= set(told)


def an_erasure(**parts: object) -> Erasure:
    erasure = Erasure(ErasureId(uuid4()), UserId(uuid4()), b"hash", NOON)
    return replace(erasure, **parts)  # type: ignore[arg-type]


async def test_the_last_service_completes_the_erasure_in_whatever_order() -> None:
    memory, erasure = Memory(), an_erasure()
    memory.erasures[erasure.id] = erasure
    note = NoteForgotten(memory.work)
    for minutes, service in enumerate(reversed(SERVICES)):
        assert memory.erasures[erasure.id].completed_at is None
        said = Forgotten(erasure.id, service, NOON + timedelta(minutes=minutes))
        await note([said, replace(said, at=NOON + timedelta(hours=5))])
    known = memory.erasures[erasure.id]
    assert known.completed_at == NOON + timedelta(minutes=len(SERVICES) - 1)
    assert known.forgotten["billing"] == NOON


async def test_strangers_and_unknown_erasures_are_not_noted() -> None:
    memory, erasure = Memory(), an_erasure()
    memory.erasures[erasure.id] = erasure
    await NoteForgotten(memory.work)(
        [
            Forgotten(erasure.id, "weather", NOON),
            Forgotten(ErasureId(uuid4()), "chat", NOON),
        ]
    )
    assert memory.erasures == {erasure.id: erasure}


async def test_who_is_silent_is_asked_again_soon_and_then_now_and_then() -> None:
    memory = Memory()
    remind = RemindServices(memory.work, StoppedClock())
    fresh, late, very_late = (
        an_erasure(requested_at=NOON - timedelta(seconds=age)) for age in (10, 60, 900)
    )
    for erasure in (fresh, late, very_late):
        memory.erasures[erasure.id] = erasure
    await remind.late()
    await remind.very_late()
    assert [fact.event for fact in memory.published] == [
        UserDeleted(user_id=erasure.user_id, erasure_id=erasure.id) for erasure in (late, very_late)
    ]


async def test_a_complete_erasure_can_be_asked_about_for_a_year() -> None:
    memory, clock = Memory(), StoppedClock()
    done, open_ = an_erasure(completed_at=NOON), an_erasure()
    memory.erasures |= {done.id: done, open_.id: open_}
    forget = ForgetExpired(memory.work, clock)
    clock.forward(timedelta(days=364))
    await forget()
    assert set(memory.erasures) == {done.id, open_.id}
    clock.forward(timedelta(days=2))
    await forget()
    assert set(memory.erasures) == {open_.id}
