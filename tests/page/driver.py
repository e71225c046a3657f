"""Drive the page as a user does, with keys, buttons and visible text."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from playwright.sync_api import ConsoleMessage, Error, Frame, Locator, Page, expect

UNKNOWN_CALLS = re.compile(r"/(complete|inspect)$")
"""A service without completions responds with 404, and the browser logs that."""

OWN_STYLE = "Applying inline style violates"
"""Chromium sets an inline style when text is typed over. The policy blocks that without harm."""

NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"
"""Chromium aborts requests when a network interface appears or disappears, as with each container."""


class Notebook:
    """The page, opened in a tab of its own."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        """Errors in the browser's console, violations of the policies included."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _on_console(self, logged: ConsoleMessage) -> None:
        if logged.text.startswith(OWN_STYLE) or NETWORK_CHANGED in logged.text:
            return
        if logged.type == "error" and not UNKNOWN_CALLS.search(logged.location["url"]):
            self.problems.append(f"{logged.text} {logged.location['url']}")

    def open(self, key: str | None) -> None:
        """Load the page. If a key is given, enter it and wait until the page is ready."""
        self._load(lambda: self.page.goto(self.url))
        if key is not None:
            expect(self.page.get_by_role("dialog"), f"{self.problems}").to_be_visible()
            self.give_key(key)
            self.wait_until_ready()

    def reload(self) -> None:
        """Reload the page and wait until it is ready."""
        self._load(self.page.reload)
        self.wait_until_ready()

    def _load(self, load: Callable[[], object]) -> None:
        for _ in range(4):
            with suppress(Error):
                load()
                return
        raise AssertionError(f"the page could not be loaded: {self.problems}")

    def give_key(self, key: str) -> None:
        """Enter a key in the dialog that asks for it."""
        self.page.get_by_label("Key", exact=True).fill(key)
        self.page.keyboard.press("Enter")

    def wait_until_ready(self) -> None:
        """Wait until the page's scripts have finished their start."""
        expect(self.page.locator("html")).to_have_attribute("data-ready", "")
        self.problems = [problem for problem in self.problems if "401" not in problem]

    @property
    def session_id(self) -> str:
        """Id of the session in the page's address; empty without a session."""
        return self.page.url.partition("#")[2]

    @property
    def cells(self) -> Locator:
        """All cells."""
        return self.page.locator(".cell")

    @property
    def notices(self) -> Locator:
        """The area of the notices, below the header."""
        return self.page.locator("#notices")

    def button(self, name: str) -> Locator:
        """Return the buttons with that name."""
        return self.page.get_by_role("button", name=name)

    def ready(self) -> None:
        """Close open dialogs and lists, and add an empty cell if the last one has code."""
        for _ in range(2):
            self.page.keyboard.press("Escape")
        if self.code(self.cells.last):
            self.page.get_by_role("button", name="Cell", exact=True).click()

    def code(self, cell: Locator) -> str:
        """Return the code in a cell's editor."""
        lines = cell.locator(".cm-line").all()
        if cell.locator(".cm-placeholder").count():
            return ""
        return "\n".join(line.text_content() or "" for line in lines)

    def codes(self) -> list[str]:
        """Return the code of each cell."""
        return [self.code(cell) for cell in self.cells.all()]

    def write(self, code: str) -> Locator:
        """Write code into the last cell, keep the focus there, and return the cell."""
        position = self.cells.count() - 1
        cell = self.cells.nth(position)
        cell.locator(".cm-content").fill(code)
        return cell

    def begin(self, code: str, key: str = "Control+Enter") -> Locator:
        """Start code in the last cell, and return the cell without waiting for its end."""
        self.ready()
        cell = self.write(code)
        self.page.keyboard.press(key)
        return cell

    def run(self, code: str, state: str = "done") -> Locator:
        """Run code in the last cell, wait for its end, and return the cell."""
        cell = self.begin(code)
        self.wait_for(cell, state)
        return cell

    def wait_for(self, cell: Locator, state: str) -> None:
        """Wait until a cell has that state."""
        expect(cell).to_have_attribute("data-state", state)

    def output(self, cell: Locator) -> str:
        """Return the text of a cell's outputs, without the frames."""
        self.page.wait_for_timeout(60)
        return cell.locator(".outputs").inner_text()

    def frame(self, cell: Locator, index: int = 0) -> Frame:
        """Wait until a frame of a cell's outputs has content, and return the frame."""
        handle = cell.locator("iframe").nth(index).element_handle()
        frame = handle.content_frame()
        assert frame is not None
        frame.wait_for_selector("#content:not(:empty)", state="attached")
        return frame

    def evaluate(self, expression: str, argument: Any = None) -> Any:
        """Return the value of a JavaScript expression in the page."""
        return self.page.evaluate(expression, argument)
