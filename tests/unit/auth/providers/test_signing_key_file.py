"""The file of signing keys: used when it is good, never replaced when it is not."""

import json
from pathlib import Path

import pytest

from services.auth.domain.errors import SigningKeysUnavailable
from services.auth.providers.signing_key_file import SigningKeyFile
from tests.support.auth import write_signing_keys


async def test_a_good_file_is_used(tmp_path: Path) -> None:
    path = write_signing_keys(tmp_path)
    keys = SigningKeyFile(path)
    await keys.check()
    assert keys.current().active.kid == json.loads(path.read_text())["keys"][0]["kid"]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b"[" * 100_000])
async def test_without_a_good_file_there_are_no_keys_and_none_are_made(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_bytes(content)
    keys = SigningKeyFile(path)
    with pytest.raises(SigningKeysUnavailable):
        keys.current()
    with pytest.raises(SigningKeysUnavailable):
        await keys.check()
    assert (path.read_bytes() if path.exists() else None) == content


def test_an_unset_path_and_a_folder_are_no_file(tmp_path: Path) -> None:
    for path in (None, tmp_path):
        with pytest.raises(SigningKeysUnavailable):
            SigningKeyFile(path).current()
