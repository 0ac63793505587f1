"""A headless Chromium driven over its DevTools protocol: what a person does on a page, for tests.

Clicks and keys go through the browser's own input, so that focus, hidden and covered elements count.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_WAIT_S = 60.0
_KEYS = {"Enter": 13, "Escape": 27, "Tab": 9}


class Page:
    """One tab. `faults` are its exceptions, its console's errors and what its policy blocked."""

    def __init__(self, socket: ClientConnection, language: str) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._session: str | None = None
        self.faults: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        agent = self.evaluate("navigator.userAgent")
        self.send("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=language)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while (answer := json.loads(self._socket.recv(_WAIT_S))).get("id") != number:
            self._note(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.faults.append(str(parameters["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.faults.append(str(parameters["entry"]["text"]))

    def open(self, url: str, width: int = 1280, height: int = 800, *, dark: bool = False) -> None:
        """Go to a page in a window of that size."""
        self.size(width, height, dark=dark)
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Give the window another size and colour scheme."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        done = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, expression: str, timeout_s: float = _WAIT_S) -> Any:
        """Wait until an expression is true; returns its value. An element is none: write `!!` before it."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.evaluate(expression)):
            shown = "document.body.innerText.slice(-600)"
            assert time.monotonic() < deadline, f"{expression}: never; page: {self.evaluate(shown)!r}"
            time.sleep(0.03)
        return value

    def text(self, selector: str) -> str:
        """Return the text of the first element."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Click the middle of the first element, whatever lies there."""
        place = self.evaluate(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)}); node.scrollIntoView("
            "{block: 'nearest'}); const box = node.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.send("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key of `_KEYS`."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key], "modifiers": 8 if shift else 0}
        text = {"text": "\r"} if key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self, path: Path) -> None:
        """Save what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@contextlib.contextmanager
def browser_page(folder: Path, language: str = "en-US") -> Iterator[Page]:
    """Start a browser with a profile in `folder` and yield a tab; skips the test where there is no Chromium."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"no Chromium on this machine: none of {', '.join(_NAMES)} is on the PATH")
    # Its sandbox does not work for root, nor in most containers; the pages are this project's own.
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    offline = ["--disable-background-networking", "--no-proxy-server", "--disable-component-update"]
    command = [program, *options, *offline, "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    port_file = folder / "DevToolsActivePort"
    environment = {**os.environ, "HOME": str(folder)}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not (port_file.is_file() and len(lines := port_file.read_text().split()) == 2):
                assert process.poll() is None, f"{program} ended with {process.returncode}"
                assert time.monotonic() < deadline, f"{program} did not come up"
                time.sleep(0.05)
            port, path = lines
            with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as socket:
                yield Page(socket, language)
                # Its helpers end with it; a kill would leave them.
                socket.send(json.dumps({"id": 0, "method": "Browser.close"}))
                process.wait(20)
        finally:
            process.kill()
