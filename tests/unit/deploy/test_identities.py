"""`companion identities`: keys exchanged under load, whatever moment a command is killed at."""

from __future__ import annotations

import json
import stat
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from deploy.companion.data_dir import DataDir
from deploy.companion.errors import CompanionError
from deploy.companion.identities import Identities, create_identities
from deploy.companion.programs import SERVICES
from shared import watched_file
from shared.errors import Unauthenticated
from shared.identity import RETIRED_SECONDS, Peers, ServiceIdentity


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    data = DataDir(tmp_path)
    create_identities(data, SERVICES)
    return data


@pytest.fixture
def identities(data: DataDir) -> Identities:
    return Identities(data.identities)


def at_once(_seconds: float) -> None:
    pass


def states(identities: Identities, service: str) -> list[str]:
    return [known.state for known in identities.known() if known.service == service]


def test_one_service_gets_another_key_and_the_others_keep_theirs(identities: Identities) -> None:
    before = {known.service: known.kid for known in identities.known()}
    new = identities.rotate(["chat"], sleep=at_once)
    assert list(new) == ["chat"]
    assert states(identities, "chat") == ["retired", "in use"]
    assert [k.kid for k in identities.known() if k.service == "chat"] == [
        before["chat"],
        new["chat"],
    ]
    assert {k.service: k.kid for k in identities.known() if k.service != "chat"} == {
        service: kid for service, kid in before.items() if service != "chat"
    }


def test_the_new_key_is_known_before_it_is_used(identities: Identities) -> None:
    seen = []

    def look(_seconds: float) -> None:
        seen.append((states(identities, "chat"), identities.key_file("chat").read_bytes()))

    before = identities.key_file("chat").read_bytes()
    identities.rotate(["chat"], sleep=look)
    assert seen == [(["in use", "not in use"], before)]


def test_a_retired_key_is_dropped_once_its_last_token_is_over(
    identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities.rotate(SERVICES, sleep=at_once)
    identities.tidy()
    assert len(identities.known()) == 2 * len(SERVICES)
    later = time.time() + RETIRED_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    identities.tidy()
    assert [known.state for known in identities.known()] == ["in use"] * len(SERVICES)


def test_a_rotation_that_was_killed_half_way_leaves_files_that_work(
    identities: Identities,
) -> None:
    class Killed(BaseException):
        pass

    def die(_seconds: float) -> None:
        raise Killed

    with pytest.raises(Killed):
        identities.rotate(["chat"], sleep=die)
    chat = ServiceIdentity.from_file("chat", identities.key_file("chat"))
    keyvault = Peers.from_file("keyvault", identities.trusted_file)
    assert keyvault.service_of(chat.token_for("keyvault")) == "chat"
    identities.rotate(["chat"], sleep=at_once)
    assert states(identities, "chat") == ["retired", "retired", "in use"]


def test_a_key_that_was_put_back_is_in_use_again(identities: Identities) -> None:
    old = identities.key_file("chat").read_text()
    identities.rotate(["chat"], sleep=at_once)
    identities.key_file("chat").write_text(old)
    identities.tidy()
    assert states(identities, "chat") == ["in use", "retired"]
    assert [
        known.retired_at is None for known in identities.known() if known.service == "chat"
    ] == [
        True,
        False,
    ]


def test_two_commands_do_not_meet(identities: Identities) -> None:
    def second(_seconds: float) -> None:
        with pytest.raises(CompanionError, match="Another command"):
            identities.rotate(["voice"], sleep=at_once)

    identities.rotate(["chat"], sleep=second)
    assert states(identities, "voice") == ["in use"]


def test_files_stay_private_and_hold_no_private_key_in_the_list(identities: Identities) -> None:
    identities.rotate(SERVICES, sleep=at_once)
    files = list(identities.folder.iterdir())
    assert len(files) == len(SERVICES) + len(("trusted.json", ".lock"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert not any("d" in key for key in json.loads(identities.trusted_file.read_text())["keys"])


@pytest.mark.parametrize("lost", ["trusted.json", "chat.pem"])
def test_lost_files_are_told_and_not_made_anew(identities: Identities, lost: str) -> None:
    (identities.folder / lost).unlink()
    with pytest.raises(CompanionError):
        identities.rotate(["chat"], sleep=at_once)
    assert not (identities.folder / lost).exists()


def test_no_call_is_refused_while_keys_are_exchanged(
    identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signers and verifiers look at their files each for themselves, at moments of their own."""
    monkeypatch.setattr(watched_file, "_LOOK_AGAIN_SECONDS", 0.05)
    users = ("chat", "voice", "billing")
    over, calls, refusals = threading.Event(), Counter[str](), []

    def call(service: str) -> None:
        me = ServiceIdentity.from_file(service, identities.key_file(service))
        peers = Peers.from_file("keyvault", identities.trusted_file)
        kept: list[str] = []
        while not over.is_set():
            kept = [*kept[-20:], me.token_for("keyvault")]
            # Also tokens that have been under way for a while.
            for token in (kept[0], kept[-1]):
                try:
                    assert peers.service_of(token) == service
                except Unauthenticated as refusal:
                    refusals.append(refusal)
            calls[service] += 1

    def all_call_again() -> None:
        before, late = calls.copy(), time.monotonic() + 10
        while any(calls[service] < before[service] + 5 for service in users):
            assert time.monotonic() < late
            time.sleep(0.01)

    def pause(seconds: float) -> None:
        time.sleep(seconds)
        all_call_again()

    threads = [threading.Thread(target=call, args=(service,)) for service in users]
    for thread in threads:
        thread.start()
    try:
        kids = [
            identities.rotate(SERVICES, pause_seconds=0.15, sleep=pause)["chat"] for _ in range(3)
        ]
        pause(0.1)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert len(set(kids)) == 3
    assert not refusals
