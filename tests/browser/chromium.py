"""Headless Chromium by its DevTools protocol over two pipes: no port, no driver, no further package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ANSWER_S = 60.0
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-color-profile=srgb",
         "--remote-debugging-pipe")


class BrowserError(Exception):
    """The browser does not do as it is told."""


def program() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Chromium:
    """One browser with one page. `noise`: what the page's console, its policy or an exception said; `asked`: what it loaded."""

    def __init__(self, profile: Path) -> None:
        name = program()
        if name is None:
            raise BrowserError("there is no Chromium: lab/provision.sh --browser")
        self.noise: list[str] = []
        self.asked: list[str] = []
        self._number = 0
        self._waiting: list[dict[str, Any]] = []
        self._buffer = b""
        self._loaded = False
        to_child, self._out = os.pipe()
        self._in, from_child = os.pipe()
        shell = ["bash", "-c", f'exec "$@" 3<&{to_child} 4>&{from_child}', "-"]  # it reads from 3 and writes to 4
        command = [*shell, name, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, pass_fds=(to_child, from_child), **quiet)
        os.close(to_child)
        os.close(from_child)
        self._session = ""
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_S
        while True:
            answer = self._message(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self._heard(answer)

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise BrowserError(f"no answer within {ANSWER_S:g} s")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise BrowserError("the browser has ended")
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(text))

    def _heard(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Log.entryAdded":
            self.noise.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif method == "Runtime.consoleAPICalled":
            self.noise.append(f"console.{params['type']}")
        elif method == "Runtime.exceptionThrown":
            self.noise.append(f"exception: {params['exceptionDetails'].get('text')}")
        elif method == "Network.requestWillBeSent":
            self.asked.append(str(params["request"]["url"]))
        elif method == "Page.loadEventFired":
            self._loaded = True

    def open(self, page: Path, *, width: int, dark: bool) -> None:
        self.noise.clear()
        self.asked.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self._loaded = False
        self.call("Page.navigate", url=page.absolute().as_uri())
        deadline = time.monotonic() + ANSWER_S
        while not self._loaded:
            self._heard(self._message(deadline))
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")  # and painted: late words come, too

    def evaluate(self, script: str) -> Any:
        """Of an expression, as JSON has it. The page's own policy does not hold for the debugger."""
        answer = self.call("Runtime.evaluate", expression=f"(async () => JSON.stringify(await {script}))()",
                           awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(str(answer["exceptionDetails"]))
        return json.loads(answer["result"].get("value") or "null")

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def picture(self) -> bytes:
        """PNG of the whole page."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")["data"])
