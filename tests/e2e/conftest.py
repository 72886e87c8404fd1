"""One running suite for the tests through the gateway, and people who use it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator

import pytest

from deploy.companion.ports import CANDIDATES, is_free
from tests.support.suite import Person, Suite, a_person, running_suite


@pytest.fixture(scope="package")
def legacy_port() -> int:
    """Where the gateway looks for the older service, which only its own tests start. They start it
    late, so nobody else's server may be given that port meanwhile."""
    assert CANDIDATES.start >= 20_000
    return next(filter(is_free, random.sample(range(12_000, 20_000), 1_000)))


@pytest.fixture(scope="package")
def suite(tmp_path_factory: pytest.TempPathFactory, legacy_port: int) -> Iterator[Suite]:
    directory = tmp_path_factory.mktemp("suite")
    # The simulator takes the place of this server too, and its key is never used.
    own_server = {
        "PROVIDER_COMPATIBLE_URL": "http://127.0.0.1:9/v1",
        "COMPATIBLE_MODELS": '{"*": ["gpt-4o"]}',
        "COMPATIBLE_API_KEY": "marked-key-of-the-operator",
    }
    older_service = {
        "LEGACY_URL": f"http://127.0.0.1:{legacy_port}",
        "LEGACY_CHECKS_TOKENS": "1",
    }
    with running_suite(
        directory, CHAT_HOLD_LEASE_SECONDS="6", **own_server, **older_service
    ) as running:
        yield running


@pytest.fixture
async def ada(suite: Suite) -> AsyncIterator[Person]:
    """A user on the free tier with a valid key and a chat session."""
    person = a_person(suite)
    await person.register()
    await person.store_key()
    await person.start_session()
    yield person
    await person.client.aclose()


@pytest.fixture
async def grace(suite: Suite) -> AsyncIterator[Person]:
    """Another user, who has nothing yet."""
    person = a_person(suite)
    await person.register()
    yield person
    await person.client.aclose()
