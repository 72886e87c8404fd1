"""Every setting is explained, and nothing else is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "settings.md").read_text()


@pytest.mark.parametrize("service", ["auth", "keyvault", "chat", "voice", "billing"])
def test_each_services_settings_stand_on_the_page(service: str) -> None:
    settings = importlib.import_module(f"services.{service}.settings").Settings
    names = {
        field.validation_alias
        for field in settings.model_fields.values()
        if isinstance(field.validation_alias, str)
    }
    assert len(names) > 10
    assert {name for name in names if f"`{name}`" not in TEXT} == set()


def test_the_proxies_settings_stand_on_the_page_and_no_others() -> None:
    code = "".join(path.read_text() for path in (ROOT / "deploy" / "envoy").glob("*.py"))
    pattern = re.compile(r'"((?:GATEWAY|EGRESS)_[A-Z_]+)"')
    used = set(pattern.findall(code)) - {"GATEWAY_CHAT", "GATEWAY_VOICE"}
    told = set(re.findall(r"`((?:GATEWAY|EGRESS)_[A-Z_]+)`", TEXT))
    assert used - told == set()
    assert told - used <= {"GATEWAY_CHAT", "GATEWAY_VOICE", "EGRESS_URL"}
