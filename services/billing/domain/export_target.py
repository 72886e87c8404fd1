"""Where exports are put, as the operator writes it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from shared.values import dataclass

_OPTIONS = frozenset({"endpoint_override", "region", "scheme"})


@dataclass(frozen=True, slots=True)
class TargetPlace:
    """A directory (`is_bucket` false), or a bucket with what its path begins with."""

    is_bucket: bool
    base: str
    options: Mapping[str, str]

    @property
    def name(self) -> str:
        """The same place has the same name, however it was written. It holds no secret."""
        if not self.is_bucket:
            return f"file://{self.base}"
        options = "&".join(f"{key}={value}" for key, value in sorted(self.options.items()))
        return f"s3://{self.base}" + (f"?{options}" if options else "")


def check_target(url: str) -> TargetPlace:
    """The place that `file:///…` or `s3://bucket/prefix?…` names. Raises ValueError."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("the target holds credentials: they belong into the variables of AWS")
    if parts.scheme == "file":
        base = unquote(parts.path).rstrip("/")
        if parts.netloc or parts.query or not base:
            raise ValueError("a directory is named as file:///path")
        return TargetPlace(False, base, {})
    if parts.scheme == "s3":
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if not parts.netloc or set(options) - _OPTIONS or "" in options.values():
            known = ", ".join(sorted(_OPTIONS))
            raise ValueError(f"a bucket is named as s3://bucket/prefix, with {known}")
        path = parts.path.strip("/")
        return TargetPlace(True, f"{parts.netloc}/{path}".rstrip("/"), options)
    raise ValueError("the target begins with file:// or s3://")
