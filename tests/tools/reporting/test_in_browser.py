"""tools/reporting/page.html.jinja, page.css, page.js: the page in a browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import chromium
from support.hostile_names import NAMES, faults
from support.reported_runs import SimulatedRun

from tools.report import report

HOSTILE = (
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "<script>alert(1)<",
    "{{ 7 * 7 }}{% raw %}",
    "$x^2$ & &lt;b&gt;",
    "--><b>bold",
    "javascript:alert(1)",
)
IN_TARS = tuple(name for name in (*HOSTILE, *NAMES) if not set(name) & set("\n\r\t"))
WIDTHS = (360, 800, 1400)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run at work, whose tars, clips and nodes have hostile names."""
    folder = tmp_path_factory.mktemp("reported")
    now = time.time()
    run = SimulatedRun(
        folder / "tokens",
        60,
        nodes=4,
        gpus=2,
        trouble=0.2,
        errors=1.0,
        names=IN_TARS,
        other_nodes=(HOSTILE[0], HOSTILE[1]),
        clip="".join(NAMES) + "".join(HOSTILE),
        begin=now - 120,
        until=now,
    )
    run.write()
    page = folder / "report.html"
    assert report(output_dir=run.output, html=page) == 0
    return page


class Visit:
    """The page, opened in a window, and all that it did."""

    def __init__(self, browser: Any, page_file: Path, width: int, scheme: str) -> None:
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self._context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        self.page = self._context.new_page()
        self.page.on("console", lambda message: self.trouble.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: self.trouble.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(page_file.as_uri())

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_is_silent(browser: Any, page_file: Path, width: int) -> None:
    """Nothing is wider than the window, the console is empty, and the file asks for nothing but itself."""
    with Visit(browser, page_file, width, "light") as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        assert visit.page.locator("main section").count() == 10
        assert visit.page.locator("figure svg").count() >= 6
        assert visit.trouble == []
        assert [url for url in visit.requests if not url.startswith("data:")] == [page_file.as_uri()]


def test_hostile_names_are_text(browser: Any, page_file: Path) -> None:
    """A name from a tar adds no element and no attribute, runs nothing, and hides or forges no line."""
    with Visit(browser, page_file, 1400, "light") as visit:
        page = visit.page
        assert (
            page.locator("img, iframe, object, embed, link, base, form, main script, [onerror], [onload], main b b").count()
            == 0
        )
        assert page.locator("script").count() == 1
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        text = page.inner_text("main")
        assert "".join(HOSTILE) in text
        assert faults(text.replace("\t", " ").replace("\xa0", " ")) == []
        assert HOSTILE[0] in " ".join(page.locator("#speed svg text").all_text_contents())
        assert visit.trouble == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 360)])
def test_axe_finds_nothing(browser: Any, page_file: Path, scheme: str, width: int) -> None:
    """No violation of axe-core's rules, with all that can be opened open."""
    from axe_playwright_python.sync_playwright import Axe

    with Visit(browser, page_file, width, scheme) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        found = Axe().run(visit.page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


def test_tables_sort_by_keyboard(browser: Any, page_file: Path) -> None:
    """Enter on a column's head sorts by its numbers, once more turns them round; aria-sort says so."""
    with Visit(browser, page_file, 1400, "light") as visit:
        table = visit.page.locator("table", has=visit.page.locator("caption", has_text="Speed by node"))
        head = table.locator("th", has=visit.page.get_by_role("button", name="worker-hours", exact=True))

        def numbers() -> list[float]:
            place = head.evaluate("(th) => Array.from(th.parentElement.children).indexOf(th) + 1")
            return [
                float(cell.replace(",", "")) for cell in table.locator(f"tbody td:nth-child({place})").all_text_contents()
            ]

        head.locator("button").focus()
        visit.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert numbers() == sorted(numbers())
        visit.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert numbers() == sorted(numbers(), reverse=True)
        assert len(set(numbers())) > 1


COLOURS = """() => [document.body, document.querySelector(".plot svg path[style*='fill: var']")].map(
    (each) => { const style = getComputedStyle(each); return style.backgroundColor + style.fill })"""


def test_the_button_changes_the_theme(browser: Any, page_file: Path) -> None:
    """The theme follows the system until the button is used; figures follow it, too."""
    with Visit(browser, page_file, 800, "light") as visit:
        light = visit.page.evaluate(COLOURS)
        visit.page.get_by_role("button", name="light / dark").click()
        dark = visit.page.evaluate(COLOURS)
        assert all(one != other for one, other in zip(light, dark, strict=True))
        visit.page.get_by_role("button", name="light / dark").click()
        assert visit.page.evaluate(COLOURS) == light


def test_on_paper(browser: Any, page_file: Path) -> None:
    """Print is light whatever the theme, without what one can only click, and with the tables that are folded on screen."""
    with Visit(browser, page_file, 800, "light") as visit:
        light = visit.page.evaluate(COLOURS)
    with Visit(browser, page_file, 800, "dark") as visit:
        visit.page.emulate_media(media="print")
        assert visit.page.evaluate(COLOURS) == light
        assert not visit.page.locator("nav, #theme, .copy").filter(visible=True).count()
        visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert visit.page.locator("details.table:not([open])").count() == 0
