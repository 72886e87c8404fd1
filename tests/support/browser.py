"""A headless Chromium, driven over its DevTools protocol: what a person sees and types.

apt-get update && apt-get install -y --no-install-recommends chromium
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PATIENCE_SECONDS = 20
# A browser on a test machine has nobody to call: no updates, no reports, no lists to fetch.
_ARGUMENTS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--metrics-recording-only",
)


def chromium_or_skip() -> str:
    """The browser's program. Skips the test without one, except where CI has installed it."""
    found = next((path for name in _PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI installs Chromium, but it is not there")
        pytest.skip("this machine has no Chromium")
    return found


@dataclass
class Page:
    """One tab. `complaints`: what the console said, scripts threw, and the policy stopped."""

    socket: ClientConnection
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: count(1))
    _waiting: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    _loaded: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol."""
        id_ = next(self._ids)
        answer = self._waiting[id_] = asyncio.get_running_loop().create_future()
        message = {"id": id_, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        await self.socket.send(json.dumps(message))
        return await asyncio.wait_for(answer, _PATIENCE_SECONDS)

    async def open(self, url: str) -> None:
        """Go there as from the address bar, and wait until it is shown."""
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await self.shown()

    async def shown(self) -> None:
        """Wait until the page that is on its way is shown."""
        await asyncio.wait_for(self._loaded.wait(), _PATIENCE_SECONDS)

    async def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        await self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.call("Input.insertText", text=text)

    async def press_enter(self) -> None:
        """Send the form whose field has the focus, and wait for what comes of it."""
        self._loaded.clear()
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **key)
        await self.shown()

    async def click(self, selector: str) -> None:
        """Press a button or follow a link, and wait for what comes of it."""
        self._loaded.clear()
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        x, y = await self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")
        # With the mouse: what a script does counts less with the browser than what a person does.
        for what in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent", type=what, x=x, y=y, button="left", clickCount=1
            )
        await self.shown()

    async def run(self, expression: str) -> Any:
        """What an expression in the page's own world gives."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def address(self) -> str:
        """What the address bar shows."""
        return str(await self.run("location.href"))

    async def look_like(self, *, width: int, height: int, dark: bool = False) -> None:
        """Take the size of a window, and the light or dark mode of its owner."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, path: Path) -> None:
        """Keep what is to be seen, as PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(b64decode(answer["data"]))

    async def listen(self) -> None:
        """Take what the browser sends, until it is closed."""
        async for text in self.socket:
            message = json.loads(text)
            if "id" in message:
                self._answer(message)
            else:
                self._note(message.get("method", ""), message.get("params", {}))

    def _answer(self, message: Any) -> None:
        waiting = self._waiting.pop(message["id"], None)
        if waiting is None or waiting.done():
            return
        if "error" in message:
            waiting.set_exception(AssertionError(str(message["error"])))
        else:
            waiting.set_result(message["result"])

    def _note(self, method: str, facts: Any) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            entry = facts["entry"]
            self.complaints.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(f"threw: {facts['exceptionDetails']['text']}")
        elif method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning"):
            self.complaints.append(f"console: {facts['args']}")
        elif method == "Audits.issueAdded":
            issue = facts["issue"]
            self.complaints.append(f"issue: {issue['code']} {issue['details']}")


@asynccontextmanager
async def a_browser(directory: Path) -> AsyncIterator[Page]:
    """A browser with a new profile and one empty tab."""
    program = chromium_or_skip()
    # In a container there is no user namespace for Chromium's own sandbox, and root may not use it.
    words = [program, *_ARGUMENTS, "--no-sandbox", f"--user-data-dir={directory}", "about:blank"]
    with (directory / "chromium.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
    try:
        url = await _debugger(directory, process)
        async with connect(url, max_size=None) as socket:
            page = Page(socket)
            listening = asyncio.create_task(page.listen())
            try:
                await _attach(page)
                yield page
            finally:
                listening.cancel()
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _debugger(directory: Path, process: subprocess.Popen[bytes]) -> str:
    told = directory / "DevToolsActivePort"
    for _ in range(_PATIENCE_SECONDS * 20):
        assert process.poll() is None, (directory / "chromium.log").read_text(errors="replace")
        lines = told.read_text().split() if told.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await asyncio.sleep(0.05)
    raise AssertionError("Chromium did not start")


async def _attach(page: Page) -> None:
    targets = (await page.call("Target.getTargets"))["targetInfos"]
    tab = next(target for target in targets if target["type"] == "page")
    attached = await page.call("Target.attachToTarget", targetId=tab["targetId"], flatten=True)
    page.session = attached["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
        await page.call(f"{domain}.enable")
