"""A client's own call to a vendor: for which models, and what has been heard of its answer."""

from __future__ import annotations

import orjson
import pytest

from services.chat.api.dropin_openai_calls import read_chat
from services.chat.domain.content import ToolCall
from services.chat.domain.errors import ModelNotInTier
from services.chat.domain.frames import Began, Ended, Text, Thinking, ToolCallPiece
from services.chat.domain.relaying import Heard, relayed_model
from services.chat.domain.turn import Outcome, Settlement
from services.chat.domain.usage import Usage
from shared.errors import DependencyUnavailable, ExpectedFailure
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS
from shared.vendors.dropins import ModelNotFound
from shared.vendors.failures import VendorFailed, VendorRefused
from tests.support.chat_calls import a_hold

CATALOGUE = ModelCatalogue()
BILLED = VendorFailed("openai")
FREE_OF_CHARGE = VendorFailed("openai", billed=False)
REFUSED = VendorRefused("No.", provider="openai")
ENDED = Ended("stop", Usage(10, output_tokens=5))


def test_a_model_that_no_tier_grants_is_not_found_and_one_of_a_larger_tier_is() -> None:
    def asked_for(model: str) -> str:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        return relayed_model(read_chat(orjson.dumps(body)), TIERS["free"], CATALOGUE).model

    assert asked_for("gpt-6-luna") == "gpt-6-luna"
    with pytest.raises(ModelNotInTier) as refused:
        asked_for("gpt-6.1-sol")
    facts = {"model": "gpt-6.1-sol", "tier": "free", "models": ["gpt-6-luna"]}
    assert refused.value.facts == facts
    with pytest.raises(ModelNotFound):
        asked_for("nobody's")


def settled(
    *frames: Began | Text | Thinking | ToolCallPiece | Ended,
    failure: ExpectedFailure | None = None,
    ended_as: Outcome | None = None,
) -> Settlement:
    heard = Heard()
    heard.is_asked = True
    heard.take(frames)
    return heard.settlement(
        a_hold(input_estimate=7), failure, max_output_tokens=100, ended_as=ended_as, elapsed_ms=1
    )


@pytest.mark.parametrize(
    ("frames", "failure", "outcome"),
    [
        # Whoever has begun to work may charge, whatever it says afterwards.
        ((), REFUSED, Outcome.REFUSED),
        ((), DependencyUnavailable("cache"), Outcome.REFUSED),
        ((Began("id", "m"),), FREE_OF_CHARGE, Outcome.REFUSED),
        ((), BILLED, Outcome.PROVIDER_FAILED),
        ((Text("a"),), FREE_OF_CHARGE, Outcome.PROVIDER_FAILED),
        ((Thinking("a"),), REFUSED, Outcome.PROVIDER_FAILED),
        ((ToolCallPiece(0, "1", "look"),), REFUSED, Outcome.PROVIDER_FAILED),
        # One that never ended, and one that did.
        ((Text("a"),), None, Outcome.PROVIDER_FAILED),
        ((Text("a"), ENDED), None, Outcome.DONE),
        ((ToolCallPiece(0, "1", "look"), ENDED), None, Outcome.DONE),
        ((ToolCallPiece(0, "1", "look"), Ended("other", None)), None, Outcome.DONE),
        ((Text("a"), Ended("other", None)), None, Outcome.DONE),
        ((Text("a"), Ended("content_filter", None)), None, Outcome.DONE),
        ((Ended("other", None),), None, Outcome.PROVIDER_FAILED),
        ((Ended("content_filter", None),), None, Outcome.CONTENT_BLOCKED),
    ],
)
def test_a_call_ends_as_what_the_vendor_may_charge_for(
    frames: tuple[Text, ...], failure: ExpectedFailure | None, outcome: Outcome
) -> None:
    assert settled(*frames, failure=failure).outcome is outcome


def test_a_call_that_its_client_broke_off_ends_as_that() -> None:
    stopped = settled(Text("a"), ended_as=Outcome.CLIENT_GONE)
    assert (stopped.outcome, stopped.finish_reason) == (Outcome.CLIENT_GONE, "client_gone")
    assert settled(Text("a")).finish_reason == "provider_failed"
    assert settled(Text("a"), ENDED, ended_as=Outcome.CLIENT_GONE).outcome is Outcome.DONE


def test_what_is_kept_of_an_answer_is_what_was_said_in_it() -> None:
    whole = settled(
        Began("id-1", "gpt-6-luna-0915"),
        Thinking("Hm."),
        Text("Hello "),
        Text("there."),
        ToolCallPiece(0, "1", "look", "{"),
        ToolCallPiece(0, arguments="}"),
        ToolCallPiece(1, "2", "go", "{}"),
        ENDED,
    )
    assert (whole.text, whole.usage) == ("Hello there.", ENDED.usage)
    assert (whole.model, whole.provider_request_id) == ("gpt-6-luna-0915", "id-1")
    # That tools were called, not what they were asked.
    assert whole.tool_calls == (ToolCall("", "", ""), ToolCall("", "", ""))


def test_an_answer_that_was_cut_is_estimated_by_all_that_came() -> None:
    cut = settled(Thinking("a" * 40), Text("b" * 200), failure=BILLED)
    assert cut.usage == Usage(7, output_tokens=60, source="estimated")
    # No more than the vendor was allowed, and nothing where it never heard of the call.
    assert settled(Text("b" * 4_000), failure=BILLED).usage == Usage(
        7, output_tokens=100, source="estimated"
    )
    unasked = Heard().settlement(
        a_hold(), REFUSED, max_output_tokens=100, ended_as=None, elapsed_ms=1
    )
    assert unasked.usage == Usage(source="counted")
