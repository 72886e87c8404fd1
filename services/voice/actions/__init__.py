"""Verbs of voice: the table of contents of what it can do."""

from __future__ import annotations

from services.voice.actions.announce_revocations import AnnounceRevocations
from services.voice.actions.change_voice_settings import ChangeVoiceSettings
from services.voice.actions.clone_voice import CloneVoice
from services.voice.actions.drop_key import DropKey
from services.voice.actions.drop_old_speech import DropOldSpeech
from services.voice.actions.drop_sign_in import DropSignIn
from services.voice.actions.export_user import ExportUser
from services.voice.actions.forget_idempotency_keys import ForgetIdempotencyKeys
from services.voice.actions.forget_lost_clones import ForgetLostClones
from services.voice.actions.forget_user import ForgetUser
from services.voice.actions.keep_places import KeepPlaces
from services.voice.actions.list_engines import ListEngines
from services.voice.actions.list_voices import ListVoices
from services.voice.actions.organisation_voices import OrganisationVoices
from services.voice.actions.read_standing import ReadStanding
from services.voice.actions.read_tier import ReadTier
from services.voice.actions.read_voice import ReadVoice
from services.voice.actions.read_voice_settings import ReadVoiceSettings
from services.voice.actions.relay_speech import RelaySpeech
from services.voice.actions.remove_every_voice import RemoveEveryVoice
from services.voice.actions.remove_voice import RemoveVoice
from services.voice.actions.renew_leases import RenewLeases
from services.voice.actions.settle_orphans import SettleOrphans
from services.voice.actions.speak import Speak
from services.voice.actions.speak_live import SpeakLive
from services.voice.actions.tell_of_vendor import TellOfVendor
from services.voice.domain.open_sockets import OpenSockets
from shared.values import dataclass


@dataclass(frozen=True)
class VoiceActions:
    """Voices: the vendor's, and those made here."""

    list_voices: ListVoices
    read_voice: ReadVoice
    read_voice_settings: ReadVoiceSettings
    change_voice_settings: ChangeVoiceSettings
    clone_voice: CloneVoice
    remove_voice: RemoveVoice
    remove_every_voice: RemoveEveryVoice
    forget_lost_clones: ForgetLostClones
    organisation_voices: OrganisationVoices


@dataclass(frozen=True)
class SpeechActions:
    """Speech, from the wish to what is kept of it."""

    speak: Speak
    speak_live: SpeakLive
    open_sockets: OpenSockets
    relay_speech: RelaySpeech
    drop_old_speech: DropOldSpeech
    list_engines: ListEngines
    renew_leases: RenewLeases
    keep_places: KeepPlaces
    settle_orphans: SettleOrphans
    forget_idempotency_keys: ForgetIdempotencyKeys


@dataclass(frozen=True)
class UserActions:
    """Users: how they stand, what ends for them, and what is kept of them."""

    read_tier: ReadTier
    read_standing: ReadStanding
    announce_revocations: AnnounceRevocations
    drop_key: DropKey
    drop_sign_in: DropSignIn
    forget_user: ForgetUser
    export_user: ExportUser
    tell_of_vendor: TellOfVendor


@dataclass(frozen=True)
class Actions(VoiceActions, SpeechActions, UserActions):
    """Everything voice can do."""
