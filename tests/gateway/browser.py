"""A real browser without a screen, driven over its own protocol (Chrome DevTools): for tests of the page."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = (
    *("--headless=new", "--disable-gpu", "--hide-scrollbars", "--mute-audio", "--no-first-run", "--disable-sync"),
    *(
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
    ),
    *("--remote-debugging-port=0", "--window-size=1280,900", "--lang=en-US"),
)

WAIT = """(held, said, milliseconds) => new Promise((found, failed) => {
  const look = () => { try { return held(); } catch { return null; } };
  if (look()) return found(true);
  const seen = new MutationObserver(() => { if (look()) { seen.disconnect(); found(true); } });
  seen.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  const told = () => `${said} never held; the page says: ${document.body.innerText.slice(0, 600)}`;
  setTimeout(() => failed(new Error(told())), milliseconds);
})"""
FIND = """(text) => [...document.querySelectorAll("button, a")].find((one) => one.textContent.trim() === text)"""
FILL = """(text, value) => {
  const label = [...document.querySelectorAll("label")].find((one) => one.textContent.trim().startsWith(text));
  const field = label.querySelector("input, textarea, select");
  field.value = value;
  for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, { bubbles: true }));
}"""


def browser_path() -> str | None:
    """Where a Chromium lies; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of one browser, with a profile of its own.

    What the page says on its console as an error, or throws, is kept in ``errors``.
    """

    def __init__(self, path: str, seconds: float = 20.0) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._seconds = seconds
        self._numbers = itertools.count(1)
        self.errors: list[str] = []
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [path, *ARGUMENTS, *sandbox, f"--user-data-dir={self._profile.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._socket = self._connected()
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(10)
        self._process.stderr.close()
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser something; its answer."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._socket.recv(self._seconds))
            if told.get("id") == number:
                if "error" in told:
                    raise AssertionError(f"{method}: {told['error']['message']}")
                return told["result"]
            self._noted(told)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"].get("exception", {}).get("description", script))
        return found["result"].get("value")

    def open(self, address: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=address)

    def wait(self, condition: str) -> None:
        """Wait until an expression holds; it is asked at each change of the page."""
        milliseconds = int(900 * self._seconds)
        self.evaluate(f"({WAIT})(() => {condition}, {json.dumps(condition)}, {milliseconds})")

    def fill(self, label: str, value: str) -> None:
        """Write into the field of a label, as a person would."""
        self.evaluate(f"({FILL})({json.dumps(label)}, {json.dumps(value)})")

    def press(self, text: str) -> None:
        """Press the first button or link that says so, as soon as there is one."""
        self.wait(f"({FIND})({json.dumps(text)})")
        self.evaluate(f"({FIND})({json.dumps(text)}).click()")

    def picture(self, path: Path) -> None:
        """Keep what it shows as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _connected(self) -> ClientConnection:
        for line in self._process.stderr:
            if "DevTools listening on" in line:
                port = line.rpartition(":")[2].partition("/")[0]
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=self._seconds) as answer:
                    pages = [one for one in json.load(answer) if one["type"] == "page"]
                return connect(pages[0]["webSocketDebuggerUrl"], max_size=2**26)
        raise AssertionError("the browser did not start")

    def _noted(self, told: dict[str, Any]) -> None:
        given = told.get("params", {})
        if told.get("method") == "Runtime.exceptionThrown":
            self.errors.append(given["exceptionDetails"].get("exception", {}).get("description", "an error"))
        elif told.get("method") == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.errors.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")
