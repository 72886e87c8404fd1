"""Our few pages: plain HTML without a script, so that there is nothing for one to be injected into.

Text becomes HTML in `Html.of` alone, which escapes it; everything else here is our own.
"""

from __future__ import annotations

import hashlib
import html
from base64 import b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Self

from starlette.responses import HTMLResponse

from shared.values import dataclass

_HERE = Path(__file__).parent
_STYLE = (_HERE / "page.css").read_text("utf-8")
_PAGE = Template((_HERE / "page.html").read_text("utf-8"))
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


@dataclass(frozen=True, slots=True)
class Html:
    """A piece of a page that is safe to show."""

    code: str

    @classmethod
    def of(cls, template: str, **texts: str) -> Self:
        """Our own template, with texts of whatever origin in the places of their names."""
        escaped = {name: html.escape(text, quote=True) for name, text in texts.items()}
        return cls(Template(template).substitute(escaped))

    def __add__(self, other: Html) -> Html:
        return Html(f"{self.code}\n{other.code}" if self.code else other.code)


NOTHING = Html("")


def paragraph(text: str) -> Html:
    return Html.of("<p>$text</p>", text=text)


def complaint(text: str) -> Html:
    """What went wrong; told at once by what reads the page aloud."""
    return Html.of('<p class="bad" role="alert">$text</p>', text=text)


def success(text: str) -> Html:
    return Html.of('<p class="good" role="status">$text</p>', text=text)


def link(text: str, address: str) -> Html:
    return Html.of('<p class="more"><a href="$address">$text</a></p>', text=text, address=address)


@dataclass(frozen=True, slots=True)
class Field:
    """One line to be typed. `purpose`: what browsers and password managers fill in there."""

    name: str
    label: str
    purpose: str
    kind: str = "text"
    value: str = ""
    is_first: bool = False
    longest: int = 256
    hint: str = ""

    @property
    def html(self) -> Html:
        focus = " autofocus" if self.is_first else ""
        told = ' aria-describedby="$name-hint"' if self.hint else ""
        label = Html.of('<label for="$name">$label</label>', name=self.name, label=self.label)
        entry = Html.of(
            '<input id="$name" name="$name" type="$kind" value="$value" maxlength="$longest"'
            ' autocomplete="$purpose" autocapitalize="none" spellcheck="false" required'
            f"{told}{focus}>",
            name=self.name,
            kind=self.kind,
            value=self.value,
            purpose=self.purpose,
            longest=str(self.longest),
        )
        return label + self._hint + entry

    @property
    def _hint(self) -> Html:
        if not self.hint:
            return NOTHING
        shown = '<p class="hint" id="$name-hint">$hint</p>'
        return Html.of(shown, name=self.name, hint=self.hint)


def form(action: str, button: str, hidden: Mapping[str, str], fields: Iterable[Field] = ()) -> Html:
    """A form that is sent back to us."""
    inside = NOTHING
    for name, value in hidden.items():
        inside += Html.of(
            '<input type="hidden" name="$name" value="$value">', name=name, value=value
        )
    for field in fields:
        inside += field.html
    inside += Html.of('<button type="submit">$button</button>', button=button)
    begin = Html.of('<form method="post" action="$action">', action=action)
    return begin + inside + Html("</form>")


def page(
    title: str,
    content: Html,
    *,
    status: int = 200,
    sends_to: str = "",
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """The whole answer. `sends_to`: where a form's answer may lead the browser besides here."""
    filled = {"title": html.escape(title), "style": _STYLE, "content": content.code}
    answer = HTMLResponse(_PAGE.substitute(filled), status)
    answer.headers.update({**_headers(sends_to), **(headers or {})})
    return answer


def _headers(sends_to: str) -> dict[str, str]:
    targets = f"'self' {sends_to}".strip()
    return {
        "content-security-policy": (
            f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; "
            f"form-action {targets}; base-uri 'none'; frame-ancestors 'none'"
        ),
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }
