"""Access tokens for tests: a signing key made on the spot and served like auth's."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import uvicorn
from joserfc.jwk import ECKey, KeySet

from shared.identity import ServiceIdentity, key_id
from shared.scopes import of_sign_in
from shared.tokens import sign_access_token

ISSUER, AUDIENCE = "https://companion.invalid/auth", "companion"
SERVICES = ("auth", "keyvault", "chat", "voice", "billing")


class TokenMint:
    """Signs access tokens as auth does."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", auto_kid=True)

    def jwks(self) -> dict[str, Any]:
        """The public half, as auth publishes it."""
        return dict(KeySet([self.key]).as_dict(private=False))

    def token(
        self, user_id: UUID, *, tier: str = "free", lifetime_seconds: int = 900, **claims: Any
    ) -> str:
        """An access token; `claims` replace or add."""
        body = {
            "iss": ISSUER,
            "sub": str(user_id),
            "aud": AUDIENCE,
            "jti": str(uuid4()),
            "sid": str(uuid4()),
            "tier": tier,
            "role": "member",
            "org": None,
            "scope": " ".join(sorted(of_sign_in(str(claims.get("role", "member"))))),
            "org_role": None,
            "org_seated": False,
            "auth_time": int(time.time()),
            "amr": ["pwd"],
            **claims,
        }
        return sign_access_token(
            self.key, body, issued_at=int(time.time()), lifetime_seconds=lifetime_seconds
        )

    def headers(self, user_id: UUID, *, tier: str = "free", **claims: Any) -> dict[str, str]:
        """The Authorization header for a user."""
        return {"authorization": f"Bearer {self.token(user_id, tier=tier, **claims)}"}

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """The URL of a JWKS endpoint with this mint's key, on loopback."""
        body = json.dumps(self.jwks()).encode()

        async def app(scope: Any, _receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                return
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        async with serving(app) as url:
            yield f"{url}/.well-known/jwks.json"


@asynccontextmanager
async def serving(app: Any, *, send_buffer: int | None = None) -> AsyncIterator[str]:
    """The URL of an ASGI application served on a free loopback port. With a small `send_buffer` the
    kernel does not hide a client that reads nothing."""
    import asyncio
    import socket

    listener = socket.socket()
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    listener.bind(("127.0.0.1", 0))
    # As long as in production. The usual is as long as our clients keep a connection: on a busy
    # machine one would be closed under a request.
    config = uvicorn.Config(
        app, log_config=None, lifespan="off", access_log=False, timeout_keep_alive=75
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve([listener]))
    while not server.started:
        if task.done():
            task.result()
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


def write_identities(directory: Path) -> dict[str, Path]:
    """A key per service and the file of all public keys; answers the paths by service name."""
    directory.mkdir(parents=True, exist_ok=True)
    paths, public = {}, []
    for name in SERVICES:
        key = ECKey.generate_key("P-256")
        paths[name] = directory / f"{name}.pem"
        paths[name].write_bytes(key.as_pem(private=True))
        public.append(key.as_dict(private=False) | {"kid": key_id(name, key)})
    (directory / "trusted.json").write_text(json.dumps({"keys": public}))
    return paths


def identity_of(directory: Path, service: str) -> ServiceIdentity:
    """A service's identity out of `write_identities`."""
    return ServiceIdentity.from_file(service, directory / f"{service}.pem")
