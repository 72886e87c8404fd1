"""Verbs of voice: the table of contents of what it can do."""

from __future__ import annotations

from dataclasses import dataclass

from services.voice.actions.announce_revocations import AnnounceRevocations
from services.voice.actions.drop_key import DropKey
from services.voice.actions.drop_sign_in import DropSignIn
from services.voice.actions.export_user import ExportUser
from services.voice.actions.forget_user import ForgetUser
from services.voice.actions.list_voices import ListVoices
from services.voice.actions.live_speech import SpeakLive
from services.voice.actions.read_voice import ReadVoice
from services.voice.actions.read_voice_settings import ReadVoiceSettings
from services.voice.actions.relay_speech import RelaySpeech
from services.voice.actions.renew_leases import RenewLeases
from services.voice.actions.settle_orphans import SettleOrphans
from services.voice.actions.speak import Speak


@dataclass(frozen=True, slots=True)
class Actions:
    """Everything voice can do."""

    list_voices: ListVoices
    read_voice: ReadVoice
    read_voice_settings: ReadVoiceSettings
    speak: Speak
    speak_live: SpeakLive
    relay_speech: RelaySpeech
    renew_leases: RenewLeases
    settle_orphans: SettleOrphans
    announce_revocations: AnnounceRevocations
    drop_key: DropKey
    drop_sign_in: DropSignIn
    forget_user: ForgetUser
    export_user: ExportUser
