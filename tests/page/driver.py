"""The page as a person uses it: by keys, buttons and what can be read."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from playwright.sync_api import ConsoleMessage, Error, Frame, Locator, Page, expect

UNKNOWN_CALLS = re.compile(r"/(complete|inspect)$")
"""A service without completions answers 404, which the browser's console tells."""

OWN_STYLE = "Applying inline style violates"
"""The browser tries to keep the colour of text that is typed over; the policy, and the editor, do without."""

NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"
"""Containers come and go, and with each a network interface: Chromium then drops what is on its way."""


class Notebook:
    """The page, opened in a tab of its own."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        """What the browser complained of: errors, and what its policies refused."""
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _heard(self, said: ConsoleMessage) -> None:
        if said.text.startswith(OWN_STYLE) or NETWORK_CHANGED in said.text:
            return
        if said.type == "error" and not UNKNOWN_CALLS.search(said.location["url"]):
            self.problems.append(f"{said.text} {said.location['url']}")

    def open(self, key: str | None) -> None:
        """Go to the page; with a key, wait until it is ready."""
        self._load(lambda: self.page.goto(self.url))
        if key is not None:
            expect(self.page.get_by_role("dialog"), f"{self.problems}").to_be_visible()
            self.give_key(key)
            self.wait_until_ready()

    def reload(self) -> None:
        """Load the page anew and wait until it is ready."""
        self._load(self.page.reload)
        self.wait_until_ready()

    def _load(self, load: Callable[[], object]) -> None:
        for _ in range(4):
            with suppress(Error):
                load()
                return
        raise AssertionError(f"the page could not be loaded: {self.problems}")

    def give_key(self, key: str) -> None:
        """Answer the dialog that asks for a key."""
        self.page.get_by_label("Key", exact=True).fill(key)
        self.page.keyboard.press("Enter")

    def wait_until_ready(self) -> None:
        """Wait until the page has been put together."""
        expect(self.page.locator("html")).to_have_attribute("data-ready", "")
        self.problems = [problem for problem in self.problems if "401" not in problem]

    @property
    def session_id(self) -> str:
        """The session in the page's address; empty while there is none."""
        return self.page.url.partition("#")[2]

    @property
    def cells(self) -> Locator:
        """The cells."""
        return self.page.locator(".cell")

    @property
    def notices(self) -> Locator:
        """What the page says beneath its head."""
        return self.page.locator("#notices")

    def button(self, name: str) -> Locator:
        """A button outside the cells."""
        return self.page.get_by_role("button", name=name)

    def ready(self) -> None:
        """Close what is open, and see to an empty last cell."""
        for _ in range(2):
            self.page.keyboard.press("Escape")
        if self.code(self.cells.last):
            self.page.get_by_role("button", name="Cell", exact=True).click()

    def code(self, cell: Locator) -> str:
        """What stands in a cell's editor."""
        lines = cell.locator(".cm-line").all()
        if cell.locator(".cm-placeholder").count():
            return ""
        return "\n".join(line.text_content() or "" for line in lines)

    def codes(self) -> list[str]:
        """What stands in each cell."""
        return [self.code(cell) for cell in self.cells.all()]

    def write(self, code: str) -> Locator:
        """Put code into the last cell and stay in it; the cell."""
        position = self.cells.count() - 1
        cell = self.cells.nth(position)
        cell.locator(".cm-content").fill(code)
        return cell

    def begin(self, code: str, key: str = "Control+Enter") -> Locator:
        """Run code in the last cell without waiting for its end; the cell."""
        self.ready()
        cell = self.write(code)
        self.page.keyboard.press(key)
        return cell

    def run(self, code: str, state: str = "done") -> Locator:
        """Run code in the last cell to its end; the cell."""
        cell = self.begin(code)
        self.wait_for(cell, state)
        return cell

    def wait_for(self, cell: Locator, state: str) -> None:
        """Wait until a cell is in a state."""
        expect(cell).to_have_attribute("data-state", state)

    def output(self, cell: Locator) -> str:
        """The text of a cell's outputs, frames left out."""
        self.page.wait_for_timeout(60)
        return cell.locator(".outputs").inner_text()

    def frame(self, cell: Locator, index: int = 0) -> Frame:
        """A frame among a cell's outputs, once something is in it."""
        handle = cell.locator("iframe").nth(index).element_handle()
        frame = handle.content_frame()
        assert frame is not None
        frame.wait_for_selector("#content:not(:empty)", state="attached")
        return frame

    def evaluate(self, expression: str, argument: Any = None) -> Any:
        """The value of a JavaScript expression in the page."""
        return self.page.evaluate(expression, argument)
