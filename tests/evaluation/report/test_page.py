"""The page: whole, one file, readable by machines that read it aloud, the same bytes each time."""

from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from hg3.evaluation.draws import Measured, Parts
from hg3.evaluation.gates import Gates, judge
from hg3.evaluation.panel import Panel
from hg3.evaluation.report import page, write_report
from hg3.evaluation.results import Evaluation, Section
from tests.evaluation.cases import panel, walks
from tests.evaluation.report.cases import GATES, evaluation_of

VOID = {"meta", "link", "br", "rect", "line", "path", "circle", "polygon"}
SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """The elements of a page in their order, with attributes and the text inside."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def panels() -> Parts[Panel]:
    return Parts(*(panel(walks(120, seed)) for seed in (1, 2, 3)))


@pytest.fixture(scope="module")
def evaluation(panels: Parts[Panel]) -> Evaluation:
    return evaluation_of(panels)


@pytest.fixture(scope="module")
def folder(panels: Parts[Panel], evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation")
    write_report(evaluation, panels, out)
    return out


@pytest.fixture(scope="module")
def read(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_it_answers_the_four_questions_first(read: Page) -> None:
    asked = ["Fidelity", "Time", "Utility", "Privacy", "What differs most", "Who was compared", "Gates"]
    places = [read.text.index(word) for word in asked]
    assert places == sorted(places)
    assert "Does it give anyone away?" in read.text and "1 not estimable" in read.text


def test_nothing_lies_outside_the_file(read: Page) -> None:
    for attributes in (attributes for _, attributes in read.found):
        for key in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(key) or "#")[0] == "#" or attributes[key] == "data:,", attributes
    assert read.all("script", "iframe", "object", "img") == []
    style = "".join(str(attributes) for attributes in read.all("style"))
    assert "url(" not in style and "@import" not in style


def test_css_and_template_reach_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "url(" not in text and "@import" not in text
    assert set(text.split("http")[1:]) and all(
        part.startswith("://www.w3.org/2000/svg") for part in text.split("http")[1:]
    )


def test_every_picture_is_told_in_words(read: Page, folder: Path) -> None:
    pictures = read.all("svg")
    told = [p["aria-label"] for p in pictures if p.get("role") == "img"]
    assert all(p.get("aria-hidden") == "true" for p in pictures if p.get("role") != "img")
    assert len(told) == len(list((folder / "figures").iterdir())) > 30
    assert all(label and len(label) > 30 and any(letter.isdigit() for letter in label) for label in told)


def test_headings_tables_and_language(read: Page) -> None:
    assert read.all("html")[0]["lang"] == "en" and len(read.all("h1")) == len(read.all("main")) == 1
    levels = [int(tag[1]) for tag, _ in read.found if tag in ("h1", "h2", "h3", "h4", "h5")]
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert read.all("table") and all(cell.get("scope") in ("row", "col") for cell in read.all("th"))
    ids = [attributes["id"] for _, attributes in read.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for attributes in read.all("a")]
    labels = [attributes["aria-labelledby"] for _, attributes in read.found if "aria-labelledby" in attributes]
    assert {str(link).removeprefix("#") for link in links} | set(labels) <= set(ids)


def test_names_are_shown_as_they_are_and_never_as_markup(read: Page) -> None:
    assert "A sample <b>cohort</b>" in read.text
    assert read.all("b") == []


def test_pictures_in_the_folder_are_those_of_the_page(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    for path in (folder / "figures").iterdir():
        drawn = path.read_text(encoding="utf-8")
        assert drawn.strip() in text
        assert ElementTree.fromstring(drawn).tag == f"{SVG}svg"


def test_equal_evaluations_give_equal_bytes(
    panels: Parts[Panel], evaluation: Evaluation, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "of-another-schema.svg").touch()
    write_report(evaluation, panels, tmp_path)
    files = [{str(p.relative_to(f)): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in (folder, tmp_path)]
    assert files[0] == files[1]
    assert {path.name for path in tmp_path.iterdir()} == {"figures", "report.html"}


def test_a_report_that_fails_leaves_the_one_before(
    panels: Parts[Panel], evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("the one before")

    def fails(*_: object) -> str:
        raise RuntimeError

    monkeypatch.setattr(page, "_html", fails)
    with pytest.raises(RuntimeError):
        write_report(evaluation, panels, tmp_path)
    assert (tmp_path / "report.html").read_text() == "the one before"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_an_evaluation_of_nothing_is_told_as_such(panels: Parts[Panel], evaluation: Evaluation, tmp_path: Path) -> None:
    empty = Evaluation({}, evaluation.patients, 60, (), (), {})
    write_report(empty, panels, tmp_path)
    read = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert read.text.count("Not measured") >= 4 and "No gate has a measure to look at" in read.text


def test_it_says_how_many_draws_an_interval_is_of(panels: Parts[Panel], tmp_path: Path) -> None:
    few = np.array([0.5, 0.6])
    measures = (Measured("TV", "sex", np.linspace(0, 1, 50), np.zeros(50)), Measured("KS", "CD4", few, few))
    found = judge(Gates.model_validate({"gates": GATES["gates"][:2]}), measures)
    section = Section("marginals", "fidelity", measures)
    write_report(Evaluation({}, Parts(9, 9, 9), 4, (section,), tuple(found), {}), panels, tmp_path)
    read = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "0.025 to 0.975; 50 draws" in read.text and "0.000 to 0.000; 2 draws, lowest to highest" in read.text
    assert read.text.count("2 draws, lowest to highest") == 2 and read.text.count("50 draws") == 2
    told = [str(picture.get("aria-label")) for picture in read.all("svg")]
    assert any("of 2 draws, lowest to highest" in words for words in told)


def test_remarks_and_what_is_unknown_are_told(read: Page) -> None:
    assert "Nobody of the held-out patients dies" in read.text
    assert "1 measure could not be estimated from these patients." in read.text
    assert "Measured in 1.2 seconds." in read.text
