"""The commands that our pages tell people to copy."""

from __future__ import annotations

import re

from deploy.companion.settings import ROOT

_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def five_minutes(page: str) -> str:
    """All shell of a page's section "Five minutes", as one script."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.partition("## Five minutes\n")[2].partition("\n## ")[0]
    blocks = _BLOCK.findall(section)
    assert blocks, f"{page} has nothing to copy"
    return "\n".join(blocks)
