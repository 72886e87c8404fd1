"""What our mails say. Plain words, no pictures, nothing that tells us whether they were read."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from services.auth.domain.letter import Letter
from services.auth.domain.mail import MailKind
from services.auth.domain.user import EmailAddress
from shared.values import dataclass

_PRODUCT = "ToolTip Companion"
_LONGEST_FACT = 200


@dataclass(frozen=True, slots=True)
class Text:
    """A subject, which is always ours alone, and paragraphs."""

    subject: str
    paragraphs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What fills in a text. Whoever wrote them, they can't add lines or pretend to be ours."""

    values: Mapping[str, str]
    public_url: str

    def __getitem__(self, name: str) -> str:
        value = self.values.get(name, "")
        return "".join(c if c.isprintable() else " " for c in value)[:_LONGEST_FACT]

    def own_page(self, name: str) -> str:
        """A page of ours. It has no script that could read what is after a #; our logs hold no
        queries, and the page tells nobody where it was (Referrer-Policy)."""
        return f"{self.public_url.rstrip('/')}/oauth/{name}?token={self['token']}"

    @property
    def token(self) -> str:
        return f"If a form asks for the code instead, it is: {self['token']}"

    @property
    def origin(self) -> str:
        """From where it was done, where that is known."""
        known = [word for word in (self["device"], self["address"]) if word not in ("", "unknown")]
        return f"It was done from: {', '.join(known)}." if known else ""


def letter(
    id_: UUID, kind: MailKind, recipient: EmailAddress, facts: Mapping[str, str], public_url: str
) -> Letter:
    """The mail, written out."""
    text = _TEXTS[kind](Facts(facts, public_url))
    paragraphs = [*(p for p in text.paragraphs if p), _closing()]
    return Letter(
        id=id_,
        kind=kind.value,
        recipient=recipient,
        subject=text.subject,
        text="\n\n".join(paragraphs) + "\n",
        html="".join(f"<p>{_as_html(paragraph)}</p>" for paragraph in paragraphs),
    )


def _as_html(paragraph: str) -> str:
    escaped = html.escape(paragraph).replace("\n", "<br>")
    if paragraph.startswith(("https://", "http://")) and " " not in paragraph:
        return f'<a href="{escaped}">{escaped}</a>'
    return escaped


def _closing() -> str:
    return (
        f"{_PRODUCT} sends mails like this by itself; nobody reads answers to them. For help, ask"
        " whoever gave you access to it. We never ask for your password by mail."
    )


def _verify_email(facts: Facts) -> Text:
    return Text(
        "Confirm your e-mail address",
        (
            f"Somebody, probably you, opened the account “{facts['username']}” with this"
            " address. To confirm that the address is yours, open this within three days:",
            facts.own_page("verify-email"),
            facts.token,
            "If this was not you, do nothing: the account does not get your address.",
        ),
    )


def _account_exists(_facts: Facts) -> Text:
    return Text(
        "You have an account already",
        (
            "Somebody, probably you, wanted to use this address for an account. You have one"
            " with it already, and nothing about it has changed.",
            "Sign in with this address. If you have forgotten your password, ask for a new one on"
            " the page where you sign in.",
            "If this was not you, do nothing: whoever it was did not learn that you have an"
            " account.",
        ),
    )


def _change_email(facts: Facts) -> Text:
    return Text(
        "Confirm your new e-mail address",
        (
            f"The account “{facts['username']}” is to have this address. To confirm that the"
            " address is yours, open this within a day:",
            facts.own_page("verify-email"),
            facts.token,
            "If this was not you, do nothing: the account does not get your address.",
        ),
    )


def _email_change_asked(facts: Facts) -> Text:
    return Text(
        "Somebody wants to change your e-mail address",
        (
            f"Somebody, probably you, wants the account “{facts['username']}” to have another"
            " e-mail address. It has this one until the new one is confirmed.",
            facts.origin,
            "If this was not you, somebody knows your password: change it at once, and what was"
            " asked for is void.",
        ),
    )


def _email_changed(facts: Facts) -> Text:
    return Text(
        "Your e-mail address was changed",
        (
            f"The account “{facts['username']}” now has another e-mail address. This one does not"
            " belong to it any more.",
            facts.origin,
            "If this was not you, somebody knows your password: ask for help at once.",
        ),
    )


def _reset_password(facts: Facts) -> Text:
    return Text(
        "Choose a new password",
        (
            f"Somebody, probably you, has forgotten the password of the account"
            f" “{facts['username']}”. To choose a new one, open this within twenty minutes:",
            facts.own_page("reset-password"),
            facts.token,
            "All devices are then signed out. If this was not you, do nothing: your password"
            " stays as it is.",
        ),
    )


def _password_changed(facts: Facts) -> Text:
    return Text(
        "Your password was changed",
        (
            f"The password of the account “{facts['username']}” was changed, and other devices"
            " were signed out.",
            facts.origin,
            "If this was not you, ask for a new password on the page where you sign in, at once.",
        ),
    )


def _refresh_reused(facts: Facts) -> Text:
    return Text(
        "A device was signed out for your safety",
        (
            "The sign-in of one of your devices was used from two places, so that we ended it. One"
            " of the two may have been somebody else.",
            facts.origin,
            "Sign in again. If you don't know the device, change your password too.",
        ),
    )


def _invitation(facts: Facts) -> Text:
    return Text(
        "You are invited to an organisation",
        (
            f"{facts['inviter']} invites you to join the organisation “{facts['organisation']}”"
            f" as {facts['role']}. Open this within three days and sign in there with the account"
            " that has this address:",
            facts.own_page("accept-invitation"),
            facts.token,
            "If you don't know who invites you, do nothing.",
        ),
    )


def _new_factor(facts: Facts) -> Text:
    return Text(
        "Your account has a second factor now",
        (
            "From now on, signing in to your account needs a code of your authenticator app too.",
            facts.origin,
            "If this was not you, change your password at once and ask for help.",
        ),
    )


def _factor_removed(facts: Facts) -> Text:
    return Text(
        "Your second factor was removed",
        (
            "From now on, your password alone is enough to sign in to your account.",
            facts.origin,
            "If this was not you, change your password at once and ask for help.",
        ),
    )


def _account_disabled(facts: Facts) -> Text:
    return Text(
        "Your account was locked",
        (
            f"Whoever runs this installation has locked the account “{facts['username']}”: every"
            " device is signed out, and nobody can sign in. Nothing was deleted.",
            "Ask them if you don't know why.",
        ),
    )


def _account_enabled(facts: Facts) -> Text:
    return Text(
        "Your account is open again",
        (
            f"Whoever runs this installation has unlocked the account “{facts['username']}”.",
            "Sign in as before.",
        ),
    )


def _role_changed(facts: Facts) -> Text:
    return Text(
        "Your role was changed",
        (
            f"Whoever runs this installation has changed what the account “{facts['username']}” may"
            " do there, so that every device is signed out. Sign in again.",
        ),
    )


_SEAT_LOST_BY = {
    "fewer_seats": "The organisation has fewer seats now. If it gets more within 30 days and nobody"
    " else was given yours, you have it back by itself.",
    "taken": "Somebody who runs the organisation has taken your seat away.",
    "removed": "Somebody who runs the organisation has taken you out of it.",
    "dissolved": "The organisation was dissolved.",
}


def _seat_lost(facts: Facts) -> Text:
    return Text(
        "You have no seat in your organisation any more",
        (
            f"You had a seat in the organisation “{facts['organisation']}”, and with it what its"
            " plan offers. From now on you have your own plan alone.",
            _SEAT_LOST_BY.get(facts["reason"], ""),
            "Your account and all that is in it stay as they are.",
        ),
    )


def _plan(facts: Facts) -> str:
    tier, name = facts["tier"], facts["organisation"]
    return f"the plan “{tier}” of the organisation “{name}”" if name else f"your plan “{tier}”"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _payment_due(facts: Facts) -> Text:
    until = facts["holds_until"]
    return Text(
        "A payment is due",
        (
            f"{facts['amount']} US dollars, before tax, are due for {_plan(facts)}, whose new"
            " period has begun.",
            f"Without the payment the plan holds until {until}, and then ends." if until else "",
            "Pay as you did before; GET /billing/balance shows what is open.",
        ),
    )


def _payment_overdue(facts: Facts) -> Text:
    until = facts["holds_until"]
    return Text(
        "A payment is overdue",
        (
            f"{facts['amount']} US dollars, before tax, have not come for {_plan(facts)}.",
            f"Without them the plan ends at {until}." if until else "Without them the plan ends.",
            "Pay as you did before. Where a card is charged, another one can be given at the"
            " page that POST /billing/subscription/portal names.",
        ),
    )


_TIER_ENDED_BY = {
    "unpaid": "The payment for it did not come.",
    "trial_over": "It was for trial, and the trial is over.",
    "cancelled": "It had been cancelled.",
}


def _tier_ended(facts: Facts) -> Text:
    name = facts["organisation"]
    seats = "Its members have lost their seats, but for one." if name else ""
    return Text(
        "A plan has ended",
        (
            f"{_sentence(_plan(facts))} has ended."
            f" {_TIER_ENDED_BY.get(facts['reason'], '')}".strip(),
            seats,
            "Nothing was deleted. PUT /billing/subscription buys a plan again; who lost a seat has"
            " it back if enough seats are bought within 30 days."
            if name
            else "Nothing was deleted. PUT /billing/subscription buys a plan again.",
        ),
    )


def _limit_reached(facts: Facts) -> Text:
    is_full = facts["percent"] == "100"
    return Text(
        "A limit of your plan is reached" if is_full else "A limit of your plan is near",
        (
            f"You have used {facts['used']} of {facts['limit']} ({facts['window']}), "
            + (
                "and what is left had no room for a request, which was refused."
                if facts["refused"] == "yes"
                else f"which is {facts['percent']} percent or more."
            ),
            f"It begins anew at {facts['resets_at']}."
            + (" Until then requests that need more than is left are refused." if is_full else ""),
            "A larger plan has larger limits; GET /billing/limits shows all of yours.",
        ),
    )


def _spend_reached(facts: Facts) -> Text:
    return Text(
        "Your spending has reached a mark of yours",
        (
            f"What you have used in {facts['month']} costs {facts['spent']} US dollars by the"
            f" vendors' prices; you wanted to be told at {facts['threshold']}.",
            f"A new month begins at {facts['resets_at']}. Nothing is refused because of this mark.",
            "PUT /billing/alerts sets other marks, or none.",
        ),
    )


def _webhook_disabled(facts: Facts) -> Text:
    why = (
        "It has answered that it is gone (410)."
        if facts["reason"] == "gone"
        else "Nothing that we sent there arrived for five days."
    )
    return Text(
        "A webhook was switched off",
        (
            f"The webhook at {facts['host']} ({facts['webhook_id']}) is told nothing any more.",
            why,
            "What it did not get is listed at GET /billing/webhooks/dead. Once it works again,"
            " enable it and have that delivered.",
        ),
    )


_TEXTS: Mapping[MailKind, Callable[[Facts], Text]] = {
    MailKind.VERIFY_EMAIL: _verify_email,
    MailKind.ACCOUNT_EXISTS: _account_exists,
    MailKind.CHANGE_EMAIL: _change_email,
    MailKind.EMAIL_CHANGE_ASKED: _email_change_asked,
    MailKind.EMAIL_CHANGED: _email_changed,
    MailKind.RESET_PASSWORD: _reset_password,
    MailKind.PASSWORD_CHANGED: _password_changed,
    MailKind.REFRESH_REUSED: _refresh_reused,
    MailKind.INVITATION: _invitation,
    MailKind.NEW_FACTOR: _new_factor,
    MailKind.FACTOR_REMOVED: _factor_removed,
    MailKind.ACCOUNT_DISABLED: _account_disabled,
    MailKind.ACCOUNT_ENABLED: _account_enabled,
    MailKind.ROLE_CHANGED: _role_changed,
    MailKind.SEAT_LOST: _seat_lost,
    MailKind.PAYMENT_DUE: _payment_due,
    MailKind.PAYMENT_OVERDUE: _payment_overdue,
    MailKind.TIER_ENDED: _tier_ended,
    MailKind.LIMIT_REACHED: _limit_reached,
    MailKind.SPEND_REACHED: _spend_reached,
    MailKind.WEBHOOK_DISABLED: _webhook_disabled,
}
