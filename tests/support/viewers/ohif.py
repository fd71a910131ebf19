"""Drive OHIF in Debian's Chromium as a user would, and read its state from inside the page.

Playwright drives it: it waits for buttons to be there before it clicks, takes the system's browser (nothing is
downloaded), and talks to it over a pipe, so no port is opened.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, TimeoutError, sync_playwright

IN_PAGE = Path(__file__).with_name("in_page.js")
LIMIT_MS = 120_000
"""For any one thing to appear; it takes a second or two where nothing else runs."""
TEXT_LIMIT_MS = 20_000
"""For a text report, which waits for no image."""
_FLAGS = (
    "--no-sandbox",  # the tests may run as root
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
_LEFT_WHILE_LOADING = "The stack viewport has been destroyed and is no longer usable"
"""OHIF raises it where a viewport is left before its image is drawn, as on a slow machine; no object causes it."""
_NO_TOUR = "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))"


class Ohif:
    """One study, open in OHIF's basic viewer with one viewport."""

    def __init__(self, page: Page, shots: Path) -> None:
        self._page = page
        self._shots = shots
        self.errors: list[str] = []
        """Uncaught errors of the page."""
        page.on("pageerror", lambda error: self._note(str(error)))

    def _note(self, error: str) -> None:
        if _LEFT_WHILE_LOADING not in error:
            self.errors.append(error)

    def open(self, origin: str, study_uid: str, series_count: int) -> None:
        """Open a study and wait until all of its series are listed and one is shown."""
        self._page.goto(f"{origin}/viewer?StudyInstanceUIDs={study_uid}")
        self._page.wait_for_function("window.services?.displaySetService")
        self._page.add_script_tag(path=IN_PAGE)
        self._page.wait_for_function("n => Object.keys(glionode.allSeries()).length === n", arg=series_count)
        self._page.wait_for_function("Object.keys(glionode.allSeries()).some(glionode.shows)")

    def ask(self, name: str, *arguments: object) -> Any:
        """Return the result of a function in in_page.js."""
        return self._page.evaluate(f"given => glionode.{name}(...given)", list(arguments))

    def open_seg(self, series: str, source: str, sop: str, overlays: int) -> None:
        """Open a SEG, confirm OHIF's question, and go to an image of its source series."""
        self.ask("show", series)
        self._page.get_by_role("button", name="Yes").click()
        self._wait_for("shows", source)
        self._wait_for("drawn", sop, overlays)

    def open_measurements(self, series: str, printed: str) -> str:
        """Open a report whose measurements lie on images; return OHIF's text there, once it contains `printed`."""
        self.ask("show", series)
        layer = self._page.locator(".svg-layer").filter(has_text=printed)
        return layer.text_content() or ""

    def open_text(self, series: str, printed: str) -> str:
        """Open a report that OHIF shows as text; return the text of the viewport once it contains `printed`.

        If OHIF cannot show a report, the viewport stays blank without an error, and the text is empty.
        """
        self.ask("show", series)
        pane = self._page.locator("[data-cy='viewport-pane']")
        with suppress(TimeoutError):
            pane.filter(has_text=printed).wait_for(timeout=TEXT_LIMIT_MS)
        return pane.inner_text()

    def open_images(self, series: str, sop: str) -> None:
        """Open a series of images and go to one of them."""
        self.ask("show", series)
        self._wait_for("shows", series)
        self._wait_for("drawn", sop, 0)

    def shoot(self, name: str) -> str:
        """Save a screenshot of the page and return its path."""
        # What is drawn is on the screen after the next frame.
        self._page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        path = self._shots / f"{name}.png"
        self._page.screenshot(path=path)
        return str(path)

    def _wait_for(self, name: str, *arguments: object) -> None:
        self._page.wait_for_function(f"given => glionode.{name}(...given)", arg=list(arguments))


@contextmanager
def ohif(chromium: str, shots: Path) -> Iterator[Ohif]:
    """Run OHIF in a new browser with a temporary profile; screenshots go to the folder `shots`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS), timeout=LIMIT_MS)
        try:
            page = browser.new_page(viewport={"width": 1024, "height": 720})
            page.set_default_timeout(LIMIT_MS)
            page.add_init_script(_NO_TOUR)
            viewer = Ohif(page, shots)
            try:
                yield viewer
            except Exception:
                viewer.shoot("failed")
                raise
        finally:
            browser.close()
