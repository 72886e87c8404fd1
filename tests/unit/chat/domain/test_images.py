"""An image is what its bytes say, or a plain https URL; a wrong one is named by its number."""

from __future__ import annotations

import pytest

from services.chat.domain.content import ImagePart
from services.chat.domain.errors import BadAttachment
from services.chat.domain.images import check_images, check_sizes, media_type_of

BEGINNINGS = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/gif": b"GIF89a",
    "image/webp": b"RIFF\x24\x00\x00\x00WEBPVP8 ",
}
PNG = ImagePart("image/png", BEGINNINGS["image/png"])


def by_url(url: str) -> ImagePart:
    return ImagePart("image/png", url=url)


def number_of_the_wrong(*images: ImagePart) -> object:
    with pytest.raises(BadAttachment) as refused:
        check_images(images)
    return refused.value.facts["attachment"]


@pytest.mark.parametrize(("media_type", "begins"), BEGINNINGS.items())
def test_each_kind_is_known_by_its_bytes(media_type: str, begins: bytes) -> None:
    assert media_type_of(begins + b"more") == media_type
    check_images([ImagePart(media_type, begins + b"more")])
    for other in BEGINNINGS.keys() - {media_type}:
        assert number_of_the_wrong(PNG, ImagePart(other, begins)) == 2


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF88a", b"\x89PNG", b"\xff\xd8", b"RIFF\x24\x00\x00\x00WAVE", b"RIFX\0\0\0\0WEBP"],
)
def test_anything_else_is_no_image(data: bytes) -> None:
    assert media_type_of(data) is None
    assert number_of_the_wrong(ImagePart("image/png", data)) == 1


def test_a_kind_that_vendors_do_not_take_is_refused() -> None:
    with pytest.raises(BadAttachment, match="is one of image/png"):
        check_images([ImagePart("image/tiff", b"II*\0")])


LONGEST = "https://example.com/" + "x" * 1_980


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png?b=1", "https://example.com:8443/", LONGEST]
)
def test_a_plain_url_will_do(url: str) -> None:
    check_images([by_url(url)])


@pytest.mark.parametrize(
    "url",
    [
        LONGEST + "x",
        "http://example.com/",
        "ftp://example.com/",
        "https://",
        "https:///a.png",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://[::1/",
        "https://example.com/a b",
        "https://example.com/\n",
        "https://exämple.com/",
        "https://ada:secret@example.com/",
        "https://example.com/#here",
        "",
    ],
)
def test_any_other_is_refused(url: str) -> None:
    assert number_of_the_wrong(PNG, PNG, by_url(url)) == 3


def test_an_image_is_as_large_as_a_deployment_takes_and_no_larger() -> None:
    check_sizes([by_url(LONGEST), PNG], len(BEGINNINGS["image/png"]))
    with pytest.raises(BadAttachment) as refused:
        check_sizes([by_url(LONGEST), PNG], len(BEGINNINGS["image/png"]) - 1)
    assert refused.value.facts["attachment"] == 2
