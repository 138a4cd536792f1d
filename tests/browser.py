"""A headless Chromium, driven over its DevTools protocol: what a person does on a page, without a driver to install."""

import json
import shutil
import subprocess
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), "ArrowDown": (40, "")}
"""Key -> its Windows key code and the text it types."""
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-extensions", "--remote-debugging-port=0", "--hide-scrollbars",
)  # fmt: skip


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.problems: list[str] = []
        """What the page logged as an error: exceptions, refused requests, violations of the content security policy."""
        self._num_sent = 0
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command; its result. Events that come meanwhile are looked through for problems."""
        self._num_sent += 1
        self.socket.send(json.dumps({"id": self._num_sent, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=20))
            self._note(message)
            if message.get("id") == self._num_sent:
                assert "error" not in message, message
                return dict(message["result"])

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"].get("exception", params["exceptionDetails"])))
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])

    def open(self, url: str) -> None:
        """Load `url`."""
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str, timeout_s: float = 10) -> Any:
        """Wait for an expression to become true; its value."""
        until = time.monotonic() + timeout_s
        while not (value := self.value(expression)):
            if time.monotonic() > until:
                text = self.value("document.body.innerText")
                pytest.fail(f"{expression} did not become true; problems {self.problems}; the page says:\n{text}")
            time.sleep(0.02)
        return value

    def text(self, selector: str) -> str:
        """The visible text of an element."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Press the mouse button in the middle of an element."""
        middle = (
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView(); "
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        x, y = self.value(middle)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.send("Input.insertText", text=text)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            code, text = KEYS[key] if key in KEYS else (ord(key.upper()), key)
            common = {"key": key, "windowsVirtualKeyCode": code}
            self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
            self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def screen(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """What the page is looked at with."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(b64decode(answer["data"]))


@contextmanager
def chromium() -> Iterator[Page]:
    """A fresh browser with one empty tab; skips where Chromium is not installed."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("expected Chromium; `apt-get install chromium` brings it")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_tab(process, Path(profile)), max_size=None, proxy=None) as socket:
                yield Page(socket)
        finally:
            process.kill()
            process.wait()


def _tab(process: subprocess.Popen[bytes], profile: Path) -> str:
    """The address of the first tab, once the browser has written its port."""
    import httpx

    for _ in range(300):
        file = profile / "DevToolsActivePort"
        if file.exists() and len(file.read_text().split()) == 2:
            port = file.read_text().split()[0]
            tabs = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
            if pages := [tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"]:
                return str(pages[0])
        assert process.poll() is None, f"Chromium ended with {process.returncode} before it listened"
        time.sleep(0.1)
    raise TimeoutError("Chromium did not listen within 30 s")
