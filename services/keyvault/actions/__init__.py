"""Verbs of the keyvault: everything it can do, by name."""

from __future__ import annotations

from dataclasses import dataclass

from services.keyvault.actions.examine_vault import ExamineVault
from services.keyvault.actions.export_user import ExportUser
from services.keyvault.actions.forget_user import ForgetUser
from services.keyvault.actions.read_audit import ReadAudit
from services.keyvault.actions.request_validation import RequestDueValidations, RequestValidation
from services.keyvault.actions.revoke_key import RevokeKey
from services.keyvault.actions.show_keys import ListKeys, ShowKey
from services.keyvault.actions.store_key import StoreKey
from services.keyvault.actions.use_key import UseKey
from services.keyvault.actions.validate_keys import ValidateKeys

__all__ = [
    "Actions",
    "ExamineVault",
    "ExportUser",
    "ForgetUser",
    "ListKeys",
    "ReadAudit",
    "RequestDueValidations",
    "RequestValidation",
    "RevokeKey",
    "ShowKey",
    "StoreKey",
    "UseKey",
    "ValidateKeys",
]


@dataclass(frozen=True, slots=True)
class Actions:
    """The table of contents."""

    store_key: StoreKey
    list_keys: ListKeys
    show_key: ShowKey
    request_validation: RequestValidation
    request_due_validations: RequestDueValidations
    validate_keys: ValidateKeys
    revoke_key: RevokeKey
    use_key: UseKey
    read_audit: ReadAudit
    examine_vault: ExamineVault
    forget_user: ForgetUser
    export_user: ExportUser
