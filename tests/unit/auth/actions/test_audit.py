"""What is noted when, and how it is linked, verified and shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import structlog.testing

from services.auth.actions import link_audit_events
from services.auth.actions.create_operator import CreateOperator
from services.auth.actions.end_sign_in import EndSignIn
from services.auth.actions.limit_asking import LimitAsking
from services.auth.actions.link_audit_events import LinkAuditEvents
from services.auth.actions.note_console_act import NoteConsoleAct
from services.auth.actions.read_audit import ReadAudit
from services.auth.actions.refresh import Refresh
from services.auth.actions.register import Register
from services.auth.actions.sign_out import SignOut
from services.auth.actions.verify_audit import VerifyAudit
from services.auth.domain.attempts import AskingLimit
from services.auth.domain.audit import AuditEntry
from services.auth.domain.audit_chain import Head
from services.auth.domain.errors import RefreshReused, SigningKeysUnavailable, SignInNotFound
from services.auth.domain.mail import MailKind
from services.auth.domain.origin import NOWHERE, Origin
from services.auth.domain.password import Password
from services.auth.domain.user import EmailAddress, Role, Username
from tests.support.auth import (
    LIFETIMES,
    NOON,
    PASSWORD,
    HeldKeys,
    Memory,
    PlainPasswords,
    StoppedClock,
    a_sign_in,
    a_user,
    an_issuer,
    some_signing_keys,
)

HERE = Origin("a browser", "192.0.2.7")
KEYS = HeldKeys(some_signing_keys())
ADA = a_user("ada")


class AnyPassword:
    """Rules that refuse nothing."""

    async def check(
        self, password: Password, *, email: EmailAddress, username: Username, origin: Origin
    ) -> None: ...


def noted(memory: Memory) -> list[tuple[str, dict[str, Any]]]:
    return [(entry.action, dict(entry.facts)) for entry in memory.audited]


def an_entry(action: str = "thing.done", **parts: Any) -> AuditEntry:
    return replace(AuditEntry.of_user(action, ADA.id, NOON, HERE), **parts)


async def test_signing_out_leaves_one_entry_however_often_it_is_asked_for() -> None:
    sign_in = a_sign_in(ADA)
    memory = Memory().keep(ADA, sign_in)
    for _ in range(2):
        await SignOut(memory.work, StoppedClock())(
            sign_in.id, of=ADA.id, everywhere=False, origin=HERE
        )
    facts = {"sign_in_id": str(sign_in.id), "reason": "signed_out", "everywhere": False}
    assert noted(memory) == [("sign_in.ended", facts)]
    [entry] = memory.audited
    assert (entry.user_id, entry.actor_id, entry.origin) == (ADA.id, ADA.id, HERE)


async def test_signing_out_everywhere_is_one_act() -> None:
    sign_ins = [a_sign_in(ADA) for _ in range(3)]
    memory = Memory().keep(ADA, *sign_ins)
    await SignOut(memory.work, StoppedClock())(sign_ins[0].id, of=ADA.id, everywhere=True)
    [(action, facts)] = noted(memory)
    assert (action, facts["everywhere"]) == ("sign_in.ended", True)


async def test_ending_a_sign_in_is_noted_and_a_refusal_is_not() -> None:
    sign_in, others = a_sign_in(ADA), a_sign_in(a_user("grace"))
    memory = Memory().keep(ADA, sign_in, others)
    end = EndSignIn(memory.work, StoppedClock())
    await end(sign_in.id, by=ADA.id, origin=HERE)
    with pytest.raises(SignInNotFound):
        await end(others.id, by=ADA.id)
    facts = {"sign_in_id": str(sign_in.id), "reason": "ended_by_owner"}
    assert noted(memory) == [("sign_in.ended", facts)]


@pytest.mark.parametrize("is_proven", [True, False])
async def test_a_reused_refresh_token_is_noted_once_and_told_to_a_proven_address(
    is_proven: bool,
) -> None:
    ada, sign_in = replace(ADA, email_verified=is_proven), a_sign_in(ADA, device="her phone")
    memory, clock, issuer = Memory().keep(ada, sign_in), StoppedClock(), an_issuer()
    refresh = Refresh(memory.work, issuer, LIFETIMES, clock)
    stolen = issuer.pair(ada, sign_in, NOON).refresh_token
    await refresh(stolen, HERE)
    clock.forward(timedelta(minutes=1))

    thief = Origin("curl", "203.0.113.9")
    with pytest.raises(RefreshReused):
        await refresh(stolen, thief)

    [entry] = memory.audited
    assert (entry.action, entry.user_id, entry.actor_id) == ("sign_in.reused", ada.id, None)
    assert entry.origin == thief
    told = [(mail.kind, mail.recipient, dict(mail.facts)) for mail in memory.mails]
    expected = (MailKind.REFRESH_REUSED, ada.email, {"device": "her phone"})
    assert told == ([expected] if is_proven else [])


async def test_an_operators_account_is_noted_with_its_role() -> None:
    memory = Memory()
    clock = StoppedClock()
    limit = LimitAsking("register", AskingLimit(1, timedelta(hours=1)), clock)
    register = Register(memory.work, PlainPasswords(), AnyPassword(), limit, limit, clock)
    user = await CreateOperator(register)(
        email="op@example.com", username="op", password=Password(PASSWORD), role=Role.BILLING
    )
    [entry] = [one for one in memory.audited if one.action == "operator.created"]
    assert (entry.user_id, entry.actor_id) == (user.id, None)
    assert dict(entry.facts) == {"role": "billing"}


async def test_what_the_console_does_concerns_nobody_in_particular() -> None:
    memory = Memory()
    await NoteConsoleAct(memory.work, StoppedClock())("signing_key.removed", kid="k1")
    [entry] = memory.audited
    assert (entry.user_id, entry.actor_id, entry.origin) == (None, None, NOWHERE)
    assert dict(entry.facts) == {"kid": "k1"}


async def test_each_new_head_is_logged_and_an_old_one_is_not_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A logger of its own: one that was used before keeps the processors of that time.
    monkeypatch.setattr(link_audit_events, "log", structlog.get_logger())
    memory = Memory()
    link = LinkAuditEvents(memory.work, KEYS)
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            memory.audited += [an_entry(), an_entry()]
            await link()
        await link()
    heads = [log["head"] for log in logs if log["event"] == "audit_head"]
    assert [Head.parse(head).sequence for head in heads] == [2, 4]
    verdict = await VerifyAudit(memory.work, KEYS)(Head.parse(heads[0]))
    assert (verdict.broken, str(verdict.head), verdict.events) == (None, heads[-1], 4)


async def test_more_than_a_batch_is_linked_and_more_than_a_page_verified() -> None:
    memory = Memory()
    memory.audited += [an_entry() for _ in range(1_203)]
    await LinkAuditEvents(memory.work, KEYS)()
    assert [link.sequence for link in memory.links] == list(range(1, 1_204))
    verdict = await VerifyAudit(memory.work, KEYS)()
    assert (verdict.broken, verdict.head.sequence) == (None, 1_203)


async def test_without_keys_events_wait() -> None:
    memory = Memory()
    memory.audited.append(an_entry())
    with pytest.raises(SigningKeysUnavailable):
        await LinkAuditEvents(memory.work, HeldKeys(None))()
    assert memory.links == []


async def test_a_user_reads_what_concerns_them_newest_first() -> None:
    memory = Memory()
    mine = [an_entry() for _ in range(3)]
    memory.audited += [*mine, an_entry(user_id=a_user("grace").id)]
    read = ReadAudit(memory.work)
    assert await read(ADA.id, before=None, most=2) == mine[:0:-1]
    assert await read(ADA.id, before=mine[1].id, most=2) == mine[:1]


def test_where_another_user_acted_from_is_not_told() -> None:
    grace = a_user("grace").id
    assert an_entry().origin_for(ADA.id) == HERE
    assert an_entry(actor_id=None).origin_for(ADA.id) == HERE
    assert an_entry(actor_id=grace).origin_for(ADA.id) is None
    assert an_entry(origin=NOWHERE).origin_for(ADA.id) is None
