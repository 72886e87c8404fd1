"""What is in an archive stays below its folder, whichever Python unpacks it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.companion.archives import unpack


@pytest.fixture(params=["filtered", "by hand"])
def _python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by hand":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python has no filters")


pytestmark = pytest.mark.usefixtures("_python")


def unpacked(folder: Path, members: Sequence[tarfile.TarInfo]) -> None:
    """Unpack an archive of these, whose files hold one byte."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for member in members:
            member.size = 1 if member.isreg() else 0
            archive.addfile(member, io.BytesIO(b"x") if member.isreg() else None)
    whole.seek(0)
    with tarfile.open(fileobj=whole, mode="r:") as archive:
        unpack(archive, folder)


def member(name: str, kind: bytes = tarfile.REGTYPE, **facts: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for fact, value in facts.items():
        setattr(made, fact, value)
    return made


def test_files_and_folders_come_back_as_ours(tmp_path: Path) -> None:
    folder = member("keys", tarfile.DIRTYPE, mode=0o755)
    unpacked(tmp_path, [folder, member("keys/chat.pem", mode=0o6755, uid=12345, gid=12345)])
    found = (tmp_path / "keys" / "chat.pem").stat()
    assert (tmp_path / "keys" / "chat.pem").read_bytes() == b"x"
    assert found.st_uid == tmp_path.stat().st_uid
    assert not found.st_mode & 0o6000


@pytest.mark.parametrize(
    "astray",
    [
        member("../outside"),
        member("keys/../../outside"),
        member("device", tarfile.CHRTYPE),
        member("link", tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("link", tarfile.LNKTYPE, linkname="../outside"),
    ],
    ids=["above", "above by way of a folder", "device", "symbolic link", "hard link"],
)
def test_what_would_lie_elsewhere_is_refused(tmp_path: Path, astray: tarfile.TarInfo) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(tarfile.TarError):
        unpacked(target, [astray])
    assert list(tmp_path.iterdir()) == [target]
