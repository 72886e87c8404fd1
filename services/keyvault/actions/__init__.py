"""Verbs of the keyvault: everything it can do, by name."""

from __future__ import annotations

from services.keyvault.actions.end_organisation import EndOrganisation
from services.keyvault.actions.enter_organisation import EnterOrganisation
from services.keyvault.actions.examine_vault import ExamineVault
from services.keyvault.actions.export_user import ExportUser
from services.keyvault.actions.forget_user import ForgetUser
from services.keyvault.actions.limit_checks import LimitChecks
from services.keyvault.actions.note_seats import DropOldSeats, NoteSeats
from services.keyvault.actions.read_audit import ReadAudit
from services.keyvault.actions.request_validation import RequestDueValidations, RequestValidation
from services.keyvault.actions.revoke_key import RevokeKey
from services.keyvault.actions.rewrap_data_keys import RewrapDataKeys
from services.keyvault.actions.rotate_keyring import (
    ActivateKeyringVersion,
    AddKeyringVersion,
    RetireKeyringVersion,
)
from services.keyvault.actions.show_keys import ListKeys, ShowKey
from services.keyvault.actions.stop_service import ResumeService, ShowServices, StopService
from services.keyvault.actions.store_key import StoreKey
from services.keyvault.actions.use_key import UseKey
from services.keyvault.actions.validate_keys import ValidateKeys
from services.keyvault.actions.watch_rotation import ReportKeyring, ShowRotation
from services.keyvault.actions.watch_uses import WatchUses
from shared.values import dataclass

__all__ = [
    "Actions",
    "ActivateKeyringVersion",
    "AddKeyringVersion",
    "DropOldSeats",
    "EndOrganisation",
    "EnterOrganisation",
    "ExamineVault",
    "ExportUser",
    "ForgetUser",
    "KeyActions",
    "LimitChecks",
    "ListKeys",
    "NoteSeats",
    "OwnerActions",
    "ReadAudit",
    "ReportKeyring",
    "RequestDueValidations",
    "RequestValidation",
    "ResumeService",
    "RetireKeyringVersion",
    "RevokeKey",
    "RewrapDataKeys",
    "ServiceActions",
    "ShowKey",
    "ShowRotation",
    "ShowServices",
    "StopService",
    "StoreKey",
    "UseKey",
    "ValidateKeys",
    "VaultActions",
    "WatchUses",
]


@dataclass(frozen=True)
class KeyActions:
    """Users' keys: stored, checked, used, withdrawn; and who came to use them."""

    store_key: StoreKey
    list_keys: ListKeys
    show_key: ShowKey
    request_validation: RequestValidation
    request_due_validations: RequestDueValidations
    validate_keys: ValidateKeys
    revoke_key: RevokeKey
    use_key: UseKey
    read_audit: ReadAudit


@dataclass(frozen=True)
class ServiceActions:
    """The services that use keys: watched, stopped, let go on."""

    watch_uses: WatchUses
    stop_service: StopService
    resume_service: ResumeService
    show_services: ShowServices


@dataclass(frozen=True)
class VaultActions:
    """What keys are sealed with: examined, and renewed."""

    examine_vault: ExamineVault
    add_keyring_version: AddKeyringVersion
    activate_keyring_version: ActivateKeyringVersion
    rewrap_data_keys: RewrapDataKeys
    retire_keyring_version: RetireKeyringVersion
    report_keyring: ReportKeyring
    show_rotation: ShowRotation


@dataclass(frozen=True)
class OwnerActions:
    """Whose the keys are: users, and organisations with their seats."""

    forget_user: ForgetUser
    export_user: ExportUser
    enter_organisation: EnterOrganisation
    note_seats: NoteSeats
    drop_old_seats: DropOldSeats
    end_organisation: EndOrganisation


@dataclass(frozen=True)
class Actions(
    KeyActions,
    ServiceActions,
    VaultActions,
    OwnerActions,
):
    """Everything the keyvault can do."""
