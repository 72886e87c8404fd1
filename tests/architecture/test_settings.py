"""Every setting is explained, and nothing else is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from deploy.companion.previous_run import MARK
from shared.settings.known import KNOWN, SECRETS
from shared.settings.secret_files import is_secret, name_of
from shared.tiers import TIERS
from shared.vendors import vendors

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


# Read by nobody but us: neither is an operator's choice.
_OUR_OWN = {MARK, "COMPANION_ADMIN_PASSWORD"}


def test_what_is_known_is_what_stands_on_the_page() -> None:
    first_cells = [line.split(" | ")[0] for line in TEXT.splitlines() if line.startswith("| `")]
    told = {name for cell in first_cells for name in re.findall(r"`([A-Z][A-Z0-9_<>]+)`", cell)}
    pools = {f"GATEWAY_{name}" for name in ("CHAT", "VOICE")}
    tiers = [tier.upper() for tier in TIERS]
    known = {name.replace("<TIER>", tier) for name in told | pools for tier in tiers} | _OUR_OWN
    # The list in shared/settings/known.py wants these, and does not want those.
    assert (sorted(known - KNOWN), sorted(KNOWN - known)) == ([], [])
    assert {f"PROVIDER_{name.upper()}_URL" for name in vendors} <= KNOWN


def test_every_secret_may_be_a_file_and_the_page_says_so() -> None:
    secrets = set()
    for service in ("auth", "keyvault", "chat", "voice", "billing"):
        settings = importlib.import_module(f"services.{service}.settings").Settings
        fields = settings.model_fields.items()
        secrets |= {name_of(info, field) for field, info in fields if is_secret(info)}
    assert secrets == SECRETS
    page = TEXT.partition("## Secrets as files")[2].partition("##")[0]
    assert {name for name in SECRETS if f"`{name}`" not in page} == set()
