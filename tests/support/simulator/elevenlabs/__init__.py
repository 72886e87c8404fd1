"""ElevenLabs' API, with `http://host/elevenlabs` as the SDK's base URL."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.support.simulator.call import Call
from tests.support.simulator.elevenlabs import account, dialogue, models, socket, speech, voices
from tests.support.simulator.elevenlabs.errors import REFUSALS, missing_permission, problem
from tests.support.simulator.elevenlabs.studio import Studios
from tests.support.simulator.refusals import Refusal
from tests.support.simulator.state import Simulator
from tests.support.simulator.vendor import Vendor


class ElevenLabs(Vendor):
    name = "elevenlabs"
    refusals = REFUSALS
    request_id_prefix = ""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._studios = Studios()

    def routes(self) -> list[web.RouteDef]:
        speech_path = "/v1/text-to-speech/{voice}"
        room = voices.Room(self._studios)
        speaker = speech.Speaker(self._studios)
        return [
            self.get("/v1/voices", room.list_all),
            self.get("/v2/voices", room.search),
            self.post("/v1/voices/add", room.add),
            self.get("/v1/voices/settings/default", room.default_settings),
            self.get("/v1/voices/{voice}", room.show),
            self.delete("/v1/voices/{voice}", room.remove),
            self.post("/v1/voices/{voice}/edit", room.edit),
            self.get("/v1/voices/{voice}/settings", room.settings),
            self.post("/v1/voices/{voice}/settings/edit", room.edit_settings),
            self.get("/v1/models", models.list_all),
            self.get("/v1/user", account.user),
            self.get("/v1/user/subscription", account.subscription),
            self.generate(speech_path, speaker.whole),
            self.generate(speech_path + "/stream", speaker.streamed),
            self.generate(speech_path + "/with-timestamps", speaker.timed),
            self.generate(speech_path + "/stream/with-timestamps", speaker.timed_stream),
            self.socket(speech_path + "/stream-input", socket.Listener(self._studios).listen),
            self.socket(
                "/v1/text-to-dialogue/stream-input", dialogue.Listener(self._studios).listen
            ),
            self.otherwise(),
        ]

    def key_of(self, request: web.Request) -> str | None:
        return request.headers.get("xi-api-key") or request.query.get("authorization")

    def key_may_come_later(self, call: Call) -> bool:
        return call.path.endswith("/stream-input")

    def model_of(self, call: Call) -> str:
        asked = call.body.get("model_id") or call.request.query.get("model_id")
        return str(asked or models.DEFAULT)

    def streams(self, call: Call) -> bool:
        return "/stream" in call.path

    def refusal(self, kind: str, call: Call) -> Refusal:
        if kind.startswith("missing_scope"):
            return missing_permission(call.path, 403 if kind.endswith("403") else 401)
        return super().refusal(kind, call)

    def plain(self, status: int, message: str) -> Refusal:
        """An unknown path is the one refusal whose detail is a string."""
        if status == 404:
            return Refusal(404, {"detail": "Not Found"})
        return problem(status, f"status_{status}", message)

    def render(self, refusal: Refusal, call: Call) -> tuple[Any, Mapping[str, str]]:
        """`form` chooses one of the three forms, `old` the object of two fields."""
        headers = {"request-id": call.request_id, **refusal.headers}
        if isinstance(refusal.body, str):
            return refusal.body, headers
        detail, form = refusal.body["detail"], call.options.get("form")
        if not isinstance(detail, dict):
            return refusal.body, headers
        if form == "string":
            return {"detail": detail["message"]}, headers
        if form == "list":
            item = {"loc": ["body"], "msg": detail["message"], "type": detail["status"]}
            return {"detail": [item]}, headers
        if form == "old":
            return {"detail": {name: detail[name] for name in ("status", "message")}}, headers
        return {"detail": {**detail, "request_id": call.request_id}}, headers
