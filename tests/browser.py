"""A headless Chromium for the tests of pages, where there is one; it lets no request leave."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """A Playwright browser, or a skip that says what is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no browser test: pip install playwright")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser test: none of {', '.join(NAMES)} is on the path (apt-get install chromium)")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=["--no-sandbox"] * (os.geteuid() == 0))
        yield browser
        browser.close()


class Opened:
    """A page of a file, what it asked for, and what it complained about."""

    def __init__(
        self, browser: Any, path: Path, *, scheme: str = "light", width: int = 1300, height: int = 800
    ) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.set_default_timeout(10_000)
        self.page.goto(path.as_uri())

    def close(self) -> None:
        """All is well only if the page asked for itself alone and said nothing."""
        self.context.close()
        assert [url for url in self.asked if not url.startswith("data:")] == self.asked[:1]
        assert self.complaints == []
