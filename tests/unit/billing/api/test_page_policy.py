"""What a document's page may do, as a browser sees it."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from services.billing.api.page_policy import policy_of
from services.billing.providers.invoice_html import html_of
from services.billing.providers.invoice_sheet import sheet_of
from tests.support.billing_documents import SELLER, an_invoice, some_details

PAGE = html_of(sheet_of(an_invoice(billed_to=some_details(name="<style>*{}</style>")), (SELLER,)))


def test_only_the_pages_own_style_applies() -> None:
    [style] = re.findall(r"<style>(.*?)</style>", PAGE, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in policy_of(PAGE)
    assert "default-src 'none'" in policy_of(PAGE)
    assert "unsafe" not in policy_of(PAGE)
