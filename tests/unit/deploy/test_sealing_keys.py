"""A new version is known before it is used, and an old one goes when nothing needs it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from deploy.companion.data_dir import DataDir
from deploy.companion.errors import CompanionError
from deploy.companion.prepare import create_secrets
from deploy.companion.sealing_keys import KINDS, add, drop, keys_of, kind, versions
from services.auth.domain.signing_keys import parse_signing_keys
from services.billing.providers.webhook_secrets import parse_keys as webhook_keys
from services.voice.providers.kept_speech_keys import parse_keys as utterance_keys
from shared.ids import uuid7
from shared.sealing import KeysByVersion, Sealer, newest


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    create_secrets(tmp_path / "data")
    return DataDir(tmp_path / "data")


@pytest.mark.parametrize("name", KINDS)
def test_a_new_version_is_shown_before_anything_is_made_with_it(
    data: DataDir, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = kind(name)
    path = chosen.file(data)
    before = json.loads(path.read_text())

    assert add(path, chosen, shown_seconds=60) == 2

    text = path.read_text()
    readers: dict[str, Callable[[str], Mapping[int, bytes]]] = {
        "webhooks": webhook_keys,
        "utterances": utterance_keys,
        "second-factors": lambda text: parse_signing_keys(text).sealing_keys,
        "refresh-peppers": lambda text: parse_signing_keys(text).peppers,
        "audit": lambda text: parse_signing_keys(text).audit_keys,
    }
    keys = readers[name](text)
    assert set(keys) == {1, 2}
    assert newest(keys) == 1
    assert path.stat().st_mode & 0o077 == 0
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert newest(keys) == 2
    # All else in the file is as it was.
    after = json.loads(text)
    after[chosen.entries] = after[chosen.entries][:1]
    assert after == before


def test_what_the_new_one_seals_opens_where_it_is_not_used_yet() -> None:
    ours = KeysByVersion({1: bytes(32), 2: b"2" * 32}, {2: time.time() - 1})
    theirs = KeysByVersion(dict(ours), {2: time.time() + 60})
    owner = uuid7()
    sealed = Sealer(ours).seal("purpose", owner, b"secret")
    assert sealed[:4] == (2).to_bytes(4, "big")
    assert Sealer(theirs).open("purpose", owner, sealed) == b"secret"
    assert Sealer(theirs).seal("purpose", owner, b"secret")[:4] == (1).to_bytes(4, "big")


def test_the_version_in_use_can_not_be_taken_out(data: DataDir) -> None:
    chosen = kind("webhooks")
    path = chosen.file(data)
    with pytest.raises(CompanionError, match="in use"):
        drop(path, chosen, 1)
    add(path, chosen, shown_seconds=0)
    with pytest.raises(CompanionError, match="no version 3"):
        drop(path, chosen, 3)
    add(path, chosen, shown_seconds=60)
    with pytest.raises(CompanionError, match="about to be used"):
        drop(path, chosen, 3)
    drop(path, chosen, 1)
    assert set(keys_of(versions(path, chosen), chosen)) == {2, 3}
    with pytest.raises(CompanionError, match="There are no doors"):
        kind("doors")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sealing_keys": []}', '{"sealing_keys": [1]}'])
def test_a_damaged_file_is_told_in_one_sentence_and_stays_as_it_is(
    data: DataDir, text: str
) -> None:
    chosen = kind("webhooks")
    path = chosen.file(data)
    path.write_text(text)
    with pytest.raises(CompanionError, match="can't be read from"):
        versions(path, chosen)
    with pytest.raises(CompanionError, match="can't be read from"):
        add(path, chosen)
    assert path.read_text() == text
