"""Headless Chromium, driven over its DevTools pipe: JSON messages on descriptors 3 and 4, each ended by a zero byte."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic",
    "--no-first-run", "--disable-extensions", "--disable-component-update", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip

PATIENCE_S = 60.0
"""How long an answer or a condition may take before a test fails."""


class Chromium:
    """One browser process; each page is a tab with a size and preferences of its own.

    Args:
        profile: empty folder for what it writes.
    """

    def __init__(self, profile: Path):
        assert EXECUTABLE is not None
        (from_test, self._to_browser), (self._from_browser, to_test) = os.pipe(), os.pipe()
        # Above 9, so that neither stands where the other goes.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (from_test, to_test)]

        def put_in_place() -> None:
            for place, end in zip((3, 4), ends, strict=True):
                os.dup2(end, place)

        self._process = subprocess.Popen(
            [EXECUTABLE, *FLAGS, f"--user-data-dir={profile}"], preexec_fn=put_in_place, pass_fds=(3, 4),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (from_test, to_test, *ends):
            os.close(end)
        self._buffer, self._number = b"", 0
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError, AssertionError):
            self.call("Browser.close")
        os.close(self._to_browser)
        os.close(self._from_browser)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; events on the way are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to_browser, data) :]
        stop_s = time.monotonic() + PATIENCE_S
        while True:
            answer = self._receive(stop_s)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self, stop_s: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from_browser], [], [], max(0.0, stop_s - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._from_browser, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    @contextlib.contextmanager
    def page(self, address: str, *, width: int = 1280, height: int = 900, **preferences: str) -> Iterator["Page"]:
        """Open an address; ``prefers_color_scheme="dark"`` and the like are what its style asks for."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events.clear()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        self.call(
            "Emulation.setDeviceMetricsOverride", session, width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in preferences.items()]
        self.call("Emulation.setEmulatedMedia", session, features=features)
        self.call("Page.navigate", session, url=address)
        page = Page(self, session)
        page.wait("document.readyState === 'complete'")
        try:
            yield page
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)


class Page:
    """A tab."""

    def __init__(self, browser: Chromium, session: str):
        self._browser, self._session = browser, session

    def get(self, expression: str) -> Any:
        """Return the JSON value of an expression of JavaScript."""
        result = self._browser.call(
            "Runtime.evaluate", self._session, expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Wait until an expression is true and return its value."""
        stop_s = time.monotonic() + PATIENCE_S
        while not (value := self.get(condition)):
            assert time.monotonic() < stop_s, f"never became true: {condition}"
            time.sleep(0.02)
        return value

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        self.get(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = self.get(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self._browser.call("Input.dispatchMouseEvent", self._session, type=kind, **place)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self._browser.call(
                "Input.dispatchKeyEvent", self._session, type=kind, key=key, modifiers=8 * shift,
                **(text if kind == "keyDown" else {}),
            )  # fmt: skip

    def choose(self, selector: str, value: object) -> None:
        """Set a control as a user does, with the events that this makes."""
        self.get(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)}); it.value = {json.dumps(value)};"
            "for (const kind of ['input', 'change']) it.dispatchEvent(new Event(kind, {bubbles: true})); })()"
        )

    def pixels(self, selector: str) -> list[int]:
        """Return width, height and how many different colors a canvas holds."""
        return self.get(
            f"(() => {{ const c = document.querySelector({json.dumps(selector)});"
            "const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);"
            "return [c.width, c.height, new Set(d).size]; })()"
        )

    def picture(self) -> bytes:
        """Return the whole page as PNG."""
        size = self._browser.call("Page.getLayoutMetrics", self._session)["cssContentSize"]
        shot = self._browser.call(
            "Page.captureScreenshot", self._session, captureBeyondViewport=True, clip={**size, "scale": 1}
        )
        return base64.b64decode(shot["data"])

    def complaints(self) -> list[str]:
        """Return what the page complained of: exceptions, errors on the console, what its policy refused."""
        self.get("0")
        found = []
        for event in self._browser.events:
            parameters = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(parameters["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(parameters["entry"]["text"])
            elif event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
                found.append(str(parameters["args"]))
        return found

    def requests(self) -> list[str]:
        """Return the addresses that the page asked for."""
        self.get("0")
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
