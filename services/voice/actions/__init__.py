"""Verbs of voice: the table of contents of what it can do."""

from __future__ import annotations

from dataclasses import dataclass

from services.voice.actions.announce_revocations import AnnounceRevocations
from services.voice.actions.change_voice_settings import ChangeVoiceSettings
from services.voice.actions.clone_voice import CloneVoice
from services.voice.actions.drop_key import DropKey
from services.voice.actions.drop_sign_in import DropSignIn
from services.voice.actions.export_user import ExportUser
from services.voice.actions.forget_lost_clones import ForgetLostClones
from services.voice.actions.forget_user import ForgetUser
from services.voice.actions.hearers import Hearers
from services.voice.actions.list_engines import ListEngines
from services.voice.actions.list_voices import ListVoices
from services.voice.actions.live_speech import SpeakLive
from services.voice.actions.read_standing import ReadStanding
from services.voice.actions.read_voice import ReadVoice
from services.voice.actions.read_voice_settings import ReadVoiceSettings
from services.voice.actions.recall_settings import RecallSettings
from services.voice.actions.relay_speech import RelaySpeech
from services.voice.actions.remove_every_voice import RemoveEveryVoice
from services.voice.actions.remove_voice import RemoveVoice
from services.voice.actions.renew_leases import RenewLeases
from services.voice.actions.settle_orphans import SettleOrphans
from services.voice.actions.speak import Speak
from services.voice.actions.spoken_before import SpokenBefore
from services.voice.actions.tell_of_vendor import TellOfVendor


@dataclass(frozen=True, slots=True)
class Actions:
    """Everything voice can do."""

    list_voices: ListVoices
    read_voice: ReadVoice
    read_voice_settings: ReadVoiceSettings
    change_voice_settings: ChangeVoiceSettings
    recall_settings: RecallSettings
    clone_voice: CloneVoice
    remove_voice: RemoveVoice
    remove_every_voice: RemoveEveryVoice
    forget_lost_clones: ForgetLostClones
    speak: Speak
    speak_live: SpeakLive
    hearers: Hearers
    relay_speech: RelaySpeech
    spoken_before: SpokenBefore
    list_engines: ListEngines
    renew_leases: RenewLeases
    settle_orphans: SettleOrphans
    announce_revocations: AnnounceRevocations
    drop_key: DropKey
    drop_sign_in: DropSignIn
    forget_user: ForgetUser
    export_user: ExportUser
    tell_of_vendor: TellOfVendor
    read_standing: ReadStanding
