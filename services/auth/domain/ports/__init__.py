"""What the verbs of auth need from the outside, in the words of the domain."""

from __future__ import annotations

from services.auth.domain.ports.accounts import (
    PasswordRules,
    Passwords,
    SecondFactors,
    Users,
)
from services.auth.domain.ports.audit import (
    Audit,
    AuditChain,
)
from services.auth.domain.ports.erasure import (
    AccountCollector,
    ClonedVoices,
    CollectedAccount,
    Erasures,
    Probe,
    ServiceState,
)
from services.auth.domain.ports.mails import (
    MailedProofs,
    Mailer,
    Mails,
)
from services.auth.domain.ports.organisations import (
    Invitations,
    Members,
    Organisations,
)
from services.auth.domain.ports.sign_ins import (
    EndedCredentials,
    LoginFailures,
    SessionNews,
    SigningKeySource,
    SigningKeyStore,
    SignIns,
)
from services.auth.domain.ports.tokens import (
    AuthorizationCodes,
    OAuthClients,
    PersonalTokens,
    PresentedTokens,
)
from services.auth.domain.ports.unit_of_work import (
    NewUnitOfWork,
    UnitOfWork,
)

__all__ = [
    "AccountCollector",
    "Audit",
    "AuditChain",
    "AuthorizationCodes",
    "ClonedVoices",
    "CollectedAccount",
    "EndedCredentials",
    "Erasures",
    "Invitations",
    "LoginFailures",
    "MailedProofs",
    "Mailer",
    "Mails",
    "Members",
    "NewUnitOfWork",
    "OAuthClients",
    "Organisations",
    "PasswordRules",
    "Passwords",
    "PersonalTokens",
    "PresentedTokens",
    "Probe",
    "SecondFactors",
    "ServiceState",
    "SessionNews",
    "SignIns",
    "SigningKeySource",
    "SigningKeyStore",
    "UnitOfWork",
    "Users",
]
