"""The form that samples come in."""

import errno
from tempfile import SpooledTemporaryFile

import pytest
from starlette.requests import Request
from starlette.types import Message

from services.voice.api.clones import form_of
from shared.errors import DependencyUnavailable

BODY = (
    b'--x\r\ncontent-disposition: form-data; name="samples"; filename="a.wav"\r\n\r\n'
    b"sound\r\n--x--\r\n"
)


async def _receive() -> Message:
    return {"type": "http.request", "body": BODY, "more_body": False}


async def test_a_full_disk_is_our_trouble_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SpooledTemporaryFile, "write", full)
    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, _receive)
    with pytest.raises(DependencyUnavailable):
        async with form_of(request):
            pytest.fail("there is no form")
