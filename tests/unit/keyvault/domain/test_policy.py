"""Which service may use keys of which provider."""

from __future__ import annotations

import pytest

from services.keyvault.domain.errors import UnknownProvider
from services.keyvault.domain.policy import may_use, require_provider
from shared.tiers import COMPATIBLE
from shared.vendors import vendors


def test_each_service_gets_the_providers_it_speaks_to_and_no_others() -> None:
    allowed = {
        (service, provider)
        for service in ("auth", "keyvault", "chat", "voice", "billing", "", "Chat")
        for provider in (*vendors, COMPATIBLE)
        if may_use(service, provider)
    }
    assert allowed == {
        ("chat", "openai"),
        ("chat", "gemini"),
        ("chat", "anthropic"),
        ("chat", COMPATIBLE),
        ("voice", "elevenlabs"),
    }


@pytest.mark.parametrize(
    "name", ["", "OpenAI", "openai ", "mistral", "../openai", "\x00", COMPATIBLE]
)
def test_a_vendor_we_do_not_speak_to_is_unknown(name: str) -> None:
    with pytest.raises(UnknownProvider) as unknown:
        require_provider(name)
    assert not unknown.value.facts
