"""Invoices as pages for a browser and its printer: no scripts, and nothing from elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from services.billing.providers.invoice_sheet import Sheet


def html_of(sheet: Sheet) -> str:
    """Every text is escaped by the template; the style alone is ours."""
    return _template().render(sheet=sheet) + "\n"


@cache
def _template() -> Template:
    here = FileSystemLoader(Path(__file__).parent)
    words = Environment(autoescape=True, undefined=StrictUndefined, loader=here)
    return words.get_template("invoice.html.j2")
