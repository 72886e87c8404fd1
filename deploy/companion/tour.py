"""The tour: one user's way through all services, by the gateway alone.

`companion up` prints it for copy and paste; `companion demo` walks it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Any

import httpx

from deploy.companion.errors import CompanionError
from shared.values import dataclass

PATIENCE_SECONDS = 10.0
LEDGER_SECONDS = 2.0  # how soon usage must stand in the ledger
_POLL_SECONDS = 0.05


def printed_tour(gateway: str) -> str:
    """The tour as shell commands that work by copy and paste."""
    return f"""\
  export GATEWAY={gateway}
  curl -sw '\\n' $GATEWAY/auth/register -H 'content-type: application/json' \\
    -d '{{"email":"me@example.com","username":"me","password":"a long enough phrase"}}'
  export TOKEN=$(curl -s $GATEWAY/auth/login -H 'content-type: application/json' \\
    -d '{{"login":"me","password":"a long enough phrase"}}' \\
    | python3 -c 'import json,sys; print(json.load(sys.stdin)["access_token"])')
  curl -sw '\\n' -X PUT $GATEWAY/keys/openai -H "authorization: Bearer $TOKEN" \\
    -H 'content-type: application/json' -d '{{"api_key":"'${{OPENAI_API_KEY:-sandbox-key}}'"}}'
  curl -sw '\\n' $GATEWAY/keys/openai -H "authorization: Bearer $TOKEN"
  export SESSION=$(curl -s -X POST $GATEWAY/chat/sessions -H "authorization: Bearer $TOKEN" \\
    -H 'content-type: application/json' -d '{{"name":"First"}}' \\
    | python3 -c 'import json,sys; print(json.load(sys.stdin)["id"])')
  curl -sw '\\n' $GATEWAY/chat/sessions/$SESSION/messages -H "authorization: Bearer $TOKEN" \\
    -H 'content-type: application/json' -d '{{"content":"What is a tooltip?"}}'
  curl -sN $GATEWAY/chat/sessions/$SESSION/messages -H "authorization: Bearer $TOKEN" \\
    -H 'content-type: application/json' -d '{{"content":"And live?","stream":true}}'
  sleep 2; curl -sw '\\n' $GATEWAY/billing/usage -H "authorization: Bearer $TOKEN"
"""


@dataclass(slots=True)
class Tour:
    """Walks the tour and tells each step to `tell`.

    Raises CompanionError at the first step that is not as promised.
    """

    gateway: str
    tell: Callable[[str], None]
    api_key: str | None = None
    _client: httpx.Client = field(init=False)

    def walk(self) -> None:
        with httpx.Client(base_url=self.gateway, timeout=60, trust_env=False) as self._client:
            self._sign_in()
            self._store_key()
            session = self._post("/chat/sessions", {"name": "Tour"}, expect=201)["id"]
            asked = f"/chat/sessions/{session}/messages"
            answer = self._post(asked, {"content": "What is a tooltip?"})
            self.tell(f"      {answer['message']['content'][:70]!r}  {_cost(answer)}")
            self._stream(asked)
            self._ledger(requests=2)

    def _sign_in(self) -> None:
        name = f"tour-{secrets.token_hex(4)}"
        password = secrets.token_urlsafe(18)
        account = {"email": f"{name}@example.com", "username": name, "password": password}
        self._post("/auth/register", account, expect=201)
        tokens = self._post("/auth/login", {"login": name, "password": password})
        self._client.headers["authorization"] = f"Bearer {tokens['access_token']}"

    def _store_key(self) -> None:
        key = self.api_key
        if key is None:
            answer = self._client.get("/auth/me")
            if answer.headers.get("x-sandbox") != "true":
                raise CompanionError(
                    "The tour needs a key for the real vendor.",
                    "Set OPENAI_API_KEY, or run the suite with SANDBOX=1.",
                )
            key = f"sandbox-{secrets.token_hex(8)}"
        self._call("PUT", "/keys/openai", {"api_key": key}, expect=202)
        with self._patiently("the key's validation", PATIENCE_SECONDS) as again:
            while (state := self._quietly("/keys/openai"))["status"] == "pending":
                next(again)
        self.tell(f"      openai key is {state['status']}: {', '.join(state['capabilities'])}")
        if state["status"] not in {"valid", "limited"}:
            raise CompanionError(f"The vendor calls the key {state['status']}.")

    def _stream(self, path: str) -> None:
        began = time.monotonic()
        pieces, last = [], {}
        body = {"content": "And live, word by word?", "stream": True}
        with self._client.stream("POST", path, json=body) as answer:
            event = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    last = json.loads(line.removeprefix("data: "))
                    if event == "delta":
                        pieces.append(last["text"])
        if event != "done":
            raise CompanionError(f"The stream ended with {event or 'nothing'}: {last}")
        self._told("POST", f"{path} (live)", answer.status_code, began)
        self.tell(f"      {''.join(pieces)[:70]!r} in {len(pieces)} pieces")

    def _ledger(self, *, requests: int) -> None:
        began = time.monotonic()
        with self._patiently("the ledger", LEDGER_SECONDS) as again:
            while (usage := self._quietly("/billing/usage"))["totals"]["requests"] < requests:
                next(again)
        self._told("GET", "/billing/usage", 200, began)
        totals = usage["totals"]
        self.tell(
            f"      {totals['requests']} requests, {totals['input_tokens']} tokens in and "
            f"{totals['output_tokens']} out, {totals['cost_usd']} USD"
        )

    @contextmanager
    def _patiently(self, what: str, seconds: float) -> Iterator[Iterator[None]]:
        def again() -> Iterator[None]:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                yield
            raise CompanionError(f"Waited {seconds:.0f} s for {what} in vain.")

        yield again()

    def _quietly(self, path: str) -> Any:
        return self._answer(self._client.get(path), 200)

    def _post(self, path: str, body: Mapping[str, Any], *, expect: int = 200) -> Any:
        return self._call("POST", path, body, expect=expect)

    def _call(self, method: str, path: str, body: Mapping[str, Any], *, expect: int) -> Any:
        began = time.monotonic()
        answer = self._client.request(method, path, json=body)
        self._told(method, path, answer.status_code, began)
        return self._answer(answer, expect)

    def _told(self, method: str, path: str, status: int, began: float) -> None:
        self.tell(f"{status}  {method:5} {path}  {(time.monotonic() - began) * 1000:.0f} ms")

    @staticmethod
    def _answer(answer: httpx.Response, expect: int) -> Any:
        if answer.status_code != expect:
            raise CompanionError(
                f"{answer.request.method} {answer.request.url.path} answered "
                f"{answer.status_code}: {answer.text[:500]}"
            )
        return answer.json()


def _cost(answer: Mapping[str, Any]) -> str:
    cost = answer["cost_usd"]
    return f"{cost} USD" if cost is not None else "price unknown"
