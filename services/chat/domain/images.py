"""Images that a user sends along: what they may be, by their bytes and not by their name."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from services.chat.domain.content import ImagePart
from services.chat.domain.errors import BadAttachment

IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
MOST_IMAGES = 10

_LONGEST_URL = 2_000


def media_type_of(data: bytes) -> str | None:
    """What the bytes begin as; None for anything but an image that vendors take."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def registered_type(media_type: str) -> str:
    """The media type as it is registered, however its sender writes it: it has no case, a data URL
    may have parameters behind it, and many say `image/jpg`."""
    name = media_type.partition(";")[0].strip().lower()
    return "image/jpeg" if name == "image/jpg" else name


def check_images(images: Sequence[ImagePart]) -> None:
    """That each is what it says. Raises BadAttachment, with the number of the wrong one."""
    for number, image in enumerate(images, 1):
        if image.url is not None:
            _check_url(image.url, number)
        else:
            _check_bytes(image, number)


def check_sizes(images: Sequence[ImagePart], most_bytes: int) -> None:
    """Raises BadAttachment for one that is larger than a deployment takes."""
    for number, image in enumerate(images, 1):
        if image.data is not None and len(image.data) > most_bytes:
            raise BadAttachment(f"An image has at most {most_bytes} bytes.", number)


def _check_bytes(image: ImagePart, number: int) -> None:
    data = image.data or b""
    if image.media_type not in IMAGE_TYPES:
        raise BadAttachment(f"An image is one of {', '.join(IMAGE_TYPES)}.", number)
    if media_type_of(data) != image.media_type:
        raise BadAttachment(f"These bytes are no {image.media_type}.", number)


def _check_url(url: str, number: int) -> None:
    """The vendor fetches it, we never do: still nobody's credentials go there."""
    if len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise BadAttachment(f"A URL has at most {_LONGEST_URL} plain characters.", number)
    try:
        parts = urlsplit(url)
        whole = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise BadAttachment("This is no URL.", number) from error
    if not whole:
        raise BadAttachment("A URL of an image begins with https:// and a host.", number)
    if "@" in parts.netloc or "#" in url:
        raise BadAttachment("A URL of an image has no credentials and no fragment.", number)
