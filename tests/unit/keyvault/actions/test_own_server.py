"""Letting a call go out to an operator's own server, for which nobody stores a key."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from services.keyvault.domain.audit import Kind
from services.keyvault.domain.errors import (
    GrantReplayed,
    NotYourKey,
    ProviderNotAllowed,
    ServiceRateReached,
    ServiceStopped,
    UnknownProvider,
    UserRateReached,
)
from services.keyvault.domain.own_server import OwnServer
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.service_use import UseLimits
from tests.support.keyvault import Desk, a_grant, ada, an_open_desk, grace

PROVIDER = "compatible"
OWN = OwnServer(PROVIDER, "key-of-the-operator")


async def use(desk: Desk, grant: object = None) -> dict[str, str]:
    grant = grant or a_grant(provider=PROVIDER)
    return dict(await desk.use_key(grant, caller=ada, provider=PROVIDER))  # type: ignore[arg-type]


async def test_everybody_goes_out_with_the_operators_key() -> None:
    desk = await an_open_desk(own_server=OWN)
    assert await use(desk) == {"authorization": "Bearer key-of-the-operator"}


async def test_a_server_without_a_key_gets_none() -> None:
    assert await use(await an_open_desk(own_server=OwnServer(PROVIDER))) == {}


async def test_it_stands_in_the_trail_and_among_the_uses() -> None:
    desk = await an_open_desk(own_server=OWN)
    await use(desk, a_grant(provider=PROVIDER, request_id="request-7"))
    (noted,) = desk.key_uses.noted
    assert (noted.kind, noted.owner, noted.provider) == (Kind.USED, Owner.user(ada), PROVIDER)
    assert (noted.service, noted.request_id) == ("chat", "request-7")
    tally = desk.meter.take(desk.clock.now())
    assert tally.uses["chat"] == 1
    assert tally.users["chat"] == {ada}


async def test_a_grant_is_good_for_one_use() -> None:
    desk, grant = await an_open_desk(own_server=OWN), a_grant(provider=PROVIDER)
    await use(desk, grant)
    with pytest.raises(GrantReplayed):
        await use(desk, grant)


async def test_it_needs_its_user_and_its_service() -> None:
    desk = await an_open_desk(own_server=OWN)
    with pytest.raises(NotYourKey):
        await desk.use_key(a_grant(provider=PROVIDER), caller=grace, provider=PROVIDER)
    with pytest.raises(ProviderNotAllowed):
        await use(desk, a_grant(provider=PROVIDER, service="voice"))
    with pytest.raises(ProviderNotAllowed):
        await use(desk, a_grant(provider="openai"))
    assert desk.key_uses.noted == []


async def test_where_there_is_no_such_server_nothing_goes_out() -> None:
    with pytest.raises(ProviderNotAllowed):
        await use(await an_open_desk())


async def test_the_vault_may_be_sealed() -> None:
    assert await use(Desk(own_server=OWN))


async def test_limits_and_stops_hold_here_too() -> None:
    desk = await an_open_desk(own_server=OWN, limits=UseLimits(uses_per_user_minute=1))
    await use(desk)
    with pytest.raises(UserRateReached):
        await use(desk)
    desk.clock.forward(timedelta(minutes=2))
    await use(desk)

    desk = await an_open_desk(own_server=OWN, limits=UseLimits(uses_per_second=1))
    await use(desk)
    with pytest.raises(ServiceRateReached):
        await use(desk)

    desk = await an_open_desk(own_server=OWN)
    await desk.stop_service("chat", by="operator", reason="a test")
    with pytest.raises(ServiceStopped):
        await use(desk)


async def test_nobody_can_store_a_key_for_it() -> None:
    desk = await an_open_desk(own_server=OWN)
    with pytest.raises(UnknownProvider):
        await desk.store_key(PROVIDER, "sk-0123456789", by=ada, tier="free")


def test_the_operators_key_is_never_shown() -> None:
    assert "key-of-the-operator" not in f"{OWN!r} {replace(OWN)}"
