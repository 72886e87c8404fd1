"""How a vendor says no."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.simulator.options import Options


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status and a body in the vendor's form; `body` is JSON, or a page when it is text."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    def adjusted(self, options: Options) -> "Refusal":
        """With the waiting times that a fault or a directive asks for."""
        asked = {
            name.replace("_", "-"): options[name]
            for name in ("retry_after", "retry_after_ms")
            if name in options
        }
        if "should_retry" in options:
            asked["x-should-retry"] = options["should_retry"]
        return replace(self, headers={**self.headers, **asked}) if asked else self


class Refused(Exception):
    """Ends the handling of a request with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status)
        self.refusal = refusal


class Vanished(Exception):
    """The connection was dropped on purpose; there is nobody left to answer."""


def page(status: int) -> Refusal:
    """What a proxy in front of a vendor answers: no JSON at all."""
    text = f"<html><head><title>{status}</title></head><body>{status}</body></html>"
    return Refusal(status, text)


def numbered(kind: str) -> tuple[str, int] | None:
    """The form and the status of `status_418`, `echo_401` or `html_502`, or None for any other
    kind."""
    form, _, status = kind.partition("_")
    if form in ("status", "echo", "html") and status.isdigit() and 400 <= int(status) <= 599:
        return form, int(status)
    return None
