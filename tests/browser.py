"""A headless Chromium that is told what to do over two pipes, by its DevTools protocol: pages, clicks, screenshots."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

PATIENCE_S: Final = 20.0

OPTIONS: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")

Message = dict[str, Any]


class Page:
    """A tab: what it has asked for, and what it has complained of."""

    def __init__(self, send: Callable[..., Any]) -> None:
        self._send = send
        self._loaded = asyncio.Event()
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def heard(self, method: str, told: Message) -> None:
        """Something has happened in it."""
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(told["args"]))
        elif method == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])

    async def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        self._loaded.clear()
        await self._send("Page.navigate", url=url)
        await self.loaded()

    async def loaded(self) -> None:
        """Wait for the page that is on its way."""
        async with asyncio.timeout(PATIENCE_S):
            await self._loaded.wait()

    async def value(self, expression: str) -> Any:
        """Of a JavaScript expression in it; the pages' own policy does not hold for the one who debugs them."""
        answer = await self._send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait for it to become true."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.value(expression):
                await asyncio.sleep(0.05)

    async def click(self, element: str, *, leads_on: bool = False) -> None:
        """With the mouse, in the middle of the first line of an element; wait for the page that it leads to."""
        self._loaded.clear()
        box = await self.value(
            f"(() => {{ const e = {element}; e.scrollIntoView(); const b = e.getClientRects()[0];"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            where = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            await self._send("Input.dispatchMouseEvent", type=kind, **where)
        if leads_on:
            await self.loaded()

    async def type(self, text: str) -> None:
        """Into what has the focus."""
        await self._send("Input.insertText", text=text)

    async def look(self, *, width: int, height: int, dark: bool = False) -> None:
        """As on a screen of that size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self._send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._send("Emulation.setEmulatedMedia", features=[scheme])

    async def scripts(self, *, on: bool) -> None:
        """Whether pages may have scripts."""
        await self._send("Emulation.setScriptExecutionDisabled", value=not on)

    async def screenshot(self, path: Path) -> None:
        """As a PNG."""
        answer = await self._send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))


class _Pipes:
    """Requests and answers, with a zero byte behind each."""

    def __init__(self, reader: asyncio.StreamReader, to: int) -> None:
        self._reader = reader
        self._to = to
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self.pages: dict[str, Page] = {}

    async def read(self) -> None:
        """Until the browser ends."""
        while True:
            try:
                message = json.loads((await self._reader.readuntil(b"\0"))[:-1])
            except asyncio.IncompleteReadError:
                return
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].heard(message["method"], message["params"])

    async def send(self, method: str, session: str | None = None, **parameters: Any) -> Message:
        """What it answers."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        os.write(self._to, json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(PATIENCE_S):
            told = await answer
        assert "error" not in told, told
        result: Message = told["result"]
        return result


@asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[Page]:
    """A page of a Chromium of its own."""
    commands, to = os.pipe()
    back, answers = os.pipe()
    arguments = (*OPTIONS, f"--user-data-dir={profile}")
    process = await asyncio.create_subprocess_exec(
        "bash",  # sh may know descriptors of one digit only
        "-c",
        f'exec chromium "$@" 3<&{commands} 4>&{answers}',
        "bash",
        *arguments,
        pass_fds=(commands, answers),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(answers)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=64 << 20)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(back, "rb"))
    pipes = _Pipes(reader, to)
    reading = asyncio.create_task(pipes.read())
    try:
        target = (await pipes.send("Target.createTarget", url="about:blank"))["targetId"]
        session = (await pipes.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = pipes.pages[session] = Page(lambda method, **more: pipes.send(method, session, **more))
        for domain in ("Page", "Runtime", "Network", "Log"):
            await pipes.send(f"{domain}.enable", session)
        yield page
    finally:
        with contextlib.suppress(TimeoutError, OSError):
            await pipes.send("Browser.close")
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading
        transport.close()
        os.close(to)
        await asyncio.sleep(0)
