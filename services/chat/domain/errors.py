"""Failures that chat expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from shared.errors import Conflict, Invalid, LimitReached, NotFound, NotInTier, Unavailable
from shared.vendors.failures import VendorFailed, VendorRefused


class SessionNotFound(NotFound):
    """Also raised for another user's session, so that ids can't be probed."""

    code = "session_not_found"

    def __init__(self, session_id: UUID) -> None:
        super().__init__("No such chat session.", session_id=str(session_id))


class NoTurn(NotFound):
    """The session has no answer to follow: nothing was asked in it yet, or not this."""

    code = "no_turn"

    def __init__(self, session_id: UUID) -> None:
        super().__init__("There is no answer to follow here.", session_id=str(session_id))


class NoRunningTurn(Conflict):
    """There is nothing to stop: no answer is being written in this session."""

    code = "no_running_turn"

    def __init__(self, session_id: UUID) -> None:
        super().__init__("No answer is being written here.", session_id=str(session_id))


class StopUnconfirmed(Unavailable):
    """The replica that writes the answer has been told to stop, and has not confirmed it yet."""

    code = "stop_unconfirmed"

    def __init__(self) -> None:
        super().__init__("The answer was told to stop, but has not ended yet.")


class TooManySockets(LimitReached):
    """A user has as many sockets open on this replica as anybody may."""

    code = "too_many_sockets"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"You have {limit} sockets and streams open.",
            retry_after=timedelta(minutes=1),
            limit=limit,
        )


class AnswerLost(Unavailable):
    """The answer ended before it was complete, and those who could tell why are gone. It is kept as
    that: the same request again hears the same, so nobody is told to wait."""

    code = "answer_lost"

    def __init__(self, outcome: str | None) -> None:
        super().__init__(
            "The answer ended before it was complete.", retry_after=None, outcome=outcome
        )


class UnknownProvider(Invalid):
    """A vendor that chat does not talk to."""

    code = "unknown_chat_provider"

    def __init__(self, provider: str) -> None:
        super().__init__("There is no such chat provider.", provider=provider)


class UnsupportedParameter(Invalid):
    """A field of a request in a vendor's wire that is not offered here."""

    code = "unsupported_parameter"

    def __init__(self, param: str) -> None:
        super().__init__(f"{param} is not supported here.", param=param)


class ItemNotKept(UnsupportedParameter):
    """An item of an earlier answer that is named and not sent: nothing is kept that it could name.
    The message says what helps, since several SDKs name items unless they are told otherwise."""

    code = "item_not_kept"

    def __init__(self, param: str) -> None:
        super().__init__(param)
        self.message = (
            f"{param} names an item of an earlier answer, and none are kept here. Send the item "
            "itself, as it was answered; SDKs do so with `store: false`."
        )


class ThreadNotOffered(UnsupportedParameter):
    """A conversation that Anthropic would keep. Anthropic's own word for one that it can't keep:
    its SDK then sends the whole conversation each time."""

    code = "thread_unsupported_request"

    def __init__(self) -> None:
        super().__init__("thread")


class ProviderNotSpoken(Invalid):
    """A vendor of the tier table whose wire this deployment does not speak."""

    code = "provider_not_spoken"

    def __init__(self, provider: str) -> None:
        super().__init__(f"Chat does not talk to {provider} yet.", provider=provider)


class ProviderNotInTier(NotInTier):
    """The specification's "tier not supported"."""

    code = "provider_not_in_tier"

    def __init__(self, provider: str, tier: str, upgrade_tier: str | None) -> None:
        super().__init__(
            f"The {tier} tier does not include {provider}.",
            provider=provider,
            tier=tier,
            upgrade_tier=upgrade_tier,
        )


class ModelNotInTier(NotInTier):
    """A model outside what the tier grants."""

    code = "model_not_in_tier"

    def __init__(self, model: str, tier: str, granted: Sequence[str]) -> None:
        super().__init__(
            f"The {tier} tier does not include this model.",
            model=model,
            tier=tier,
            models=list(granted),
        )


class FeatureNotInTier(NotInTier):
    """Something that the tier does not include at this provider, such as images or tools."""

    code = "feature_not_in_tier"

    def __init__(self, feature: str, provider: str, tier: str, upgrade_tier: str | None) -> None:
        super().__init__(
            f"The {tier} tier does not include {feature} at {provider}.",
            feature=feature,
            provider=provider,
            tier=tier,
            upgrade_tier=upgrade_tier,
        )


class ContentBlocked(Invalid):
    """The vendor's safety filters let nothing of the answer through; `ratings` and its own word
    `why` say the reason, as far as the vendor does."""

    code = "content_blocked"

    def __init__(
        self, provider: str, ratings: Mapping[str, str] | None, why: str | None = None
    ) -> None:
        super().__init__(
            "The answer was blocked by safety filters.",
            provider=provider,
            ratings=dict(ratings or {}),
            why=why,
        )


class VendorRejectedRequest(VendorRefused):
    """The vendor does not accept the request as we made it."""

    code = "vendor_rejected_request"


class PromptTooLong(VendorRejectedRequest):
    """The conversation does not fit into the model's context."""

    code = "prompt_too_long"


class ModelUnavailable(VendorRefused):
    """The vendor does not serve this model to this key."""

    code = "model_unavailable"


class MessageNotFound(NotFound):
    """Also raised for a message of another session or user."""

    code = "message_not_found"

    def __init__(self, message_id: UUID) -> None:
        super().__init__("No such message in this session.", message_id=str(message_id))


class TurnRunning(Conflict):
    """An answer follows its question: a session takes one turn at a time."""

    code = "turn_running"

    def __init__(self, session_id: UUID) -> None:
        super().__init__(
            "An answer is being written in this session. Wait for it, or stop it.",
            session_id=str(session_id),
        )


class BranchMoved(Conflict):
    """What a question was to follow is no longer the end of what is shown."""

    code = "branch_moved"

    def __init__(self, session_id: UUID) -> None:
        super().__init__(
            "This session was changed from elsewhere at this moment. Ask again.",
            session_id=str(session_id),
        )


class QuestionTooLong(Invalid):
    """The question, with what is always sent along, is more than the model or the tier takes."""

    code = "question_too_long"

    def __init__(self, tokens: int, most_tokens: int) -> None:
        super().__init__(
            "The question is too long for this model and tier.",
            tokens=tokens,
            most_tokens=most_tokens,
        )


class NotAQuestion(Invalid):
    """Only what the user asked can be asked in other words."""

    code = "not_a_question"

    def __init__(self, message_id: UUID) -> None:
        super().__init__("Only a question can be edited.", message_id=str(message_id))


class ToolResultsUnexpected(Invalid):
    """The results of tools answer all calls of the answer just before, each once."""

    code = "tool_results_unexpected"

    def __init__(self, wanted: Sequence[str]) -> None:
        super().__init__(
            "The results don't answer each tool call of the last answer once.",
            wanted_call_ids=list(wanted),
        )


class QuestionEmpty(Invalid):
    """Nothing is asked: there is neither a text nor what could stand without one."""

    code = "question_empty"

    def __init__(self) -> None:
        super().__init__(
            "A question has content that is not blank, attachments or tool results.",
            field="content",
        )


class BadAttachment(Invalid):
    """An attachment that can't be sent to a vendor."""

    code = "bad_attachment"

    def __init__(self, reason: str, number: int) -> None:
        super().__init__(reason, attachment=number)


class SpeakNotOffered(Invalid):
    """This deployment has no voices."""

    code = "speak_not_offered"

    def __init__(self) -> None:
        super().__init__("Answers can't be spoken here; ask without `speak`.")


class SpeakNeedsStream(Invalid):
    """An answer that comes in one piece is not spoken: its audio has no place there."""

    code = "speak_needs_stream"

    def __init__(self) -> None:
        super().__init__("An answer is spoken while it is written: ask with `stream`.")


class SpeakVoiceMissing(Invalid):
    """Nobody knows whom the user wants to hear."""

    code = "speak_voice_missing"

    def __init__(self) -> None:
        super().__init__(
            "Name a voice: `speak.voice_id`, or `speak_voice_id` in your preferences.",
            field="speak.voice_id",
        )


class BadTool(Invalid):
    """A tool whose description is not what vendors take."""

    code = "bad_tool"

    def __init__(self, reason: str, number: int | None = None) -> None:
        super().__init__(reason, tool=number)


class BadSchema(Invalid):
    """A JSON schema that vendors would not take; `of` says which: `tool 1`, or `answer_format`."""

    code = "bad_schema"

    def __init__(self, reason: str, of: str) -> None:
        super().__init__(reason, of=of)


class CapabilityMissing(Invalid):
    """The provider can't do this, in whatever tier."""

    code = "capability_missing"

    def __init__(self, capability: str, provider: str) -> None:
        super().__init__(
            f"{provider} does not take {capability} here.",
            capability=capability,
            provider=provider,
        )


class ToolNotOffered(Invalid):
    """A tool that the vendor runs itself, for a price of its own; or may run, unless `unless`."""

    code = "tool_not_offered"

    def __init__(self, param: str, *, unless: str | None = None) -> None:
        where = f"may run at the vendor unless {unless}" if unless else "runs at the vendor"
        super().__init__(
            f"{param} is a tool that {where}; only those that run at the client are offered here.",
            param=param,
        )


class AnswerNotKept(Conflict):
    """The answer that this idempotency key was used for is too large to be kept."""

    code = "answer_not_kept"

    def __init__(self) -> None:
        super().__init__(
            "The request with this Idempotency-Key was answered; the answer was too large to keep."
        )


class TurnTooLong(VendorFailed):
    """The answer was not complete in the time that any answer may take; what came is kept."""

    code = "turn_too_long"

    def __init__(self, provider: str, *, billed: bool = True) -> None:
        super().__init__(provider, billed=billed)
        self.message = f"{provider} took longer for its answer than an answer may take."


class AnswerEnded(Unavailable):
    """The answer was ended from here: its key was withdrawn, or this server goes down."""

    code = "answer_ended"

    def __init__(self) -> None:
        super().__init__("The answer was ended before it was complete.")
