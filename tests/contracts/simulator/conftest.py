"""One simulator process for the whole folder, and the vendors' SDK clients aimed at it."""

from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any, Final

import anthropic as anthropic_sdk
import httpx
import openai as openai_sdk
import pytest
from anthropic import Anthropic, AsyncAnthropic
from elevenlabs.client import AsyncElevenLabs, ElevenLabs
from google import genai
from google.genai import types
from openai import AsyncOpenAI, OpenAI

from tests.support.simulator.process import RunningSimulator, running_simulator

#: Certificates take longer to load than a test to run, and nothing here speaks TLS.
PLAIN: Final[dict[str, Any]] = {"trust_env": False, "verify": False}
GEMINI_KEY: Final = "sim-key-of-all-gemini-tests"
_numbers: Final = count(1)


@pytest.fixture(scope="session")
def process() -> Iterator[RunningSimulator]:
    with running_simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(process: RunningSimulator) -> Iterator[RunningSimulator]:
    """Without a trace of the test before."""
    yield process
    process.clear_faults()
    process.set_defaults()


@pytest.fixture
def key() -> str:
    """A good key that no other test uses, so that the ledger can be asked about this test alone."""
    return f"sim-key-{next(_numbers)}"


@pytest.fixture
async def http(simulator: RunningSimulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=simulator.url, **PLAIN) as client:
        yield client


@pytest.fixture
def openai(simulator: RunningSimulator, key: str) -> Iterator[OpenAI]:
    with OpenAI(
        api_key=key,
        base_url=simulator.openai,
        max_retries=0,
        http_client=openai_sdk.DefaultHttpxClient(**PLAIN),
    ) as client:
        yield client


@pytest.fixture
async def async_openai(simulator: RunningSimulator, key: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        api_key=key,
        base_url=simulator.openai,
        max_retries=0,
        http_client=openai_sdk.DefaultAsyncHttpxClient(**PLAIN),
    ) as client:
        yield client


@pytest.fixture
def anthropic(simulator: RunningSimulator, key: str) -> Iterator[Anthropic]:
    with Anthropic(
        api_key=key,
        base_url=simulator.anthropic,
        max_retries=0,
        http_client=anthropic_sdk.DefaultHttpxClient(**PLAIN),
    ) as client:
        yield client


@pytest.fixture
async def async_anthropic(simulator: RunningSimulator, key: str) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(
        api_key=key,
        base_url=simulator.anthropic,
        max_retries=0,
        http_client=anthropic_sdk.DefaultAsyncHttpxClient(**PLAIN),
    ) as client:
        yield client


@pytest.fixture(scope="session")
def gemini(process: RunningSimulator) -> Iterator[genai.Client]:
    """Shared by all tests, since it takes a quarter of a second to make."""
    options = types.HttpOptions(base_url=process.gemini)
    with genai.Client(api_key=GEMINI_KEY, http_options=options) as client:
        yield client


@pytest.fixture
async def async_gemini(simulator: RunningSimulator, key: str) -> AsyncIterator[genai.Client]:
    options = types.HttpOptions(base_url=simulator.gemini)
    client = genai.Client(api_key=key, http_options=options)
    yield client
    await client.aio.aclose()
    client.close()


@pytest.fixture
def elevenlabs(simulator: RunningSimulator, key: str) -> Iterator[ElevenLabs]:
    with httpx.Client(**PLAIN) as http:
        yield ElevenLabs(api_key=key, base_url=simulator.elevenlabs, httpx_client=http)


@pytest.fixture
async def async_elevenlabs(simulator: RunningSimulator, key: str) -> AsyncIterator[AsyncElevenLabs]:
    async with httpx.AsyncClient(**PLAIN) as http:
        yield AsyncElevenLabs(api_key=key, base_url=simulator.elevenlabs, httpx_client=http)
