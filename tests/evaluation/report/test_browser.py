"""In a real browser: the page opens from the disk, reaches for nothing, fits a phone and prints."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from hg3.evaluation.draws import Parts
from hg3.evaluation.report import write_report
from tests.evaluation.cases import panel, walks
from tests.evaluation.report.browser import Browser, browser, program
from tests.evaluation.report.cases import evaluation_of
from tests.table.cases import make_schema, tiny_columns

pytestmark = pytest.mark.skipif(program() is None, reason="no chromium, chromium-browser or google-chrome on PATH")

WITHOUT_WORDS = """[...document.querySelectorAll('svg')].filter(
    svg => svg.getAttribute('aria-hidden') !== 'true' && !(svg.getAttribute('aria-label') || '').trim()).length"""
CUT = """[...document.querySelectorAll('svg[role=img] text')].filter(text => {
    const inside = text.getBoundingClientRect(), whole = text.closest('svg').getBoundingClientRect();
    return inside.left < whole.left - 2 || inside.right > whole.right + 2 || inside.bottom > whole.bottom + 2;
}).map(text => text.textContent)"""
OVERLAPPING = """[...document.querySelectorAll('svg[role=img]')].flatMap(svg => {
    const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    return texts.flatMap(([one, a], k) => texts.slice(k + 1).filter(([other, b]) =>
        Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4).map(([other, b]) => one + ' over ' + other));
})"""
OVER = """[...document.querySelectorAll('body *')].filter(part => !part.closest('.wide, .scroll, svg, .skip, .hidden')
    && part.getBoundingClientRect().right > innerWidth + 1).map(part => part.outerHTML.slice(0, 80))"""


# With a column whose picture is wider than a phone.
REGIMENS = [f"regimen number {k}" for k in range(9)]
SCHEMA = make_schema([*tiny_columns(), {"name": "regimen", "kind": "categorical", "categories": REGIMENS}], name="wide")


def patients(seed: int) -> pd.DataFrame:
    table = walks(200, seed)
    return table.assign(regimen=[REGIMENS[patient % len(REGIMENS)] for patient in table["id"]])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    panels = Parts(*(panel(patients(seed), SCHEMA) for seed in (1, 2, 3)))
    write_report(evaluation_of(panels), panels, folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def tab(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(page)
        yield opened


def test_it_opens_and_reaches_for_nothing(tab: Browser, page: Path) -> None:
    assert tab.run("document.readyState") == "complete"
    assert "A sample <b>cohort</b>" in tab.run("document.querySelector('h1').innerText")
    asked = {event["params"]["request"]["url"] for event in tab.named("Network.requestWillBeSent")}
    assert asked - {"data:,"} == {page.as_uri()}


def test_the_console_stays_empty(tab: Browser) -> None:
    assert tab.named("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded") == []
    assert tab.run("document.compatMode") == "CSS1Compat"


def test_every_picture_has_words_and_none_is_cut(tab: Browser) -> None:
    tab.resize(1280, 900)
    assert tab.run("document.querySelectorAll('svg[role=img]').length") > 30
    assert tab.run(WITHOUT_WORDS) == 0
    assert tab.run(CUT) == []
    assert tab.run(OVERLAPPING) == []


def test_it_fits_a_phone(tab: Browser, page: Path) -> None:
    assert 'class="picture wide"' in page.read_text(encoding="utf-8")
    tab.resize(390, 844, mobile=True)
    tab.open(page)
    assert tab.run("innerWidth") == 390
    assert tab.run("document.documentElement.scrollWidth") <= 390
    assert tab.run(OVER) == []


def test_it_prints(tab: Browser) -> None:
    pdf = tab.pdf()
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", pdf)) >= 5
