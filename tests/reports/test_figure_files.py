"""Figures as files: SVG that opens alone, PDF with text, the same as on the page."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from analysis.document import Results
from reports.figure_files import Picture, figure_pdf, pictures_in, standalone_svg
from reports.files import write_report
from reports.outline import sections_of
from reports.page import render_html
from tests.reports.outside_tools import needed
from tests.reports.sample_results import changed, make_results

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pictures(results: Results) -> list[Picture]:
    return pictures_in(sections_of(results))


def test_every_figure_of_the_page_is_there(results: Results, pictures: list[Picture]) -> None:
    """Checks the figures found against those in the rendered page, one by one."""
    shown = re.findall(r'<svg class="figure".*?</svg>', render_html(results), flags=re.DOTALL)
    assert [str(each.markup) for each in pictures] == shown
    assert len(shown) > 12
    assert len({each.name for each in pictures}) == len(shown)


def test_svg_is_a_document_of_its_own(pictures: list[Picture]) -> None:
    """Checks that each SVG is XML with its size and styles inside, every mark styled, nothing from outside."""
    for picture in pictures:
        text = standalone_svg(picture)
        root = ElementTree.fromstring(text)
        assert root.tag == f"{SVG}svg"
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        assert (root.attrib["width"], root.attrib["height"]) == (f"{width:g}", f"{height:g}")
        style = root.findtext(f"{SVG}style") or ""
        assert not re.search(r"var\(|@|url\(|--", style)
        outside = re.sub(r'xmlns="[^"]*"|url\(#figure-[\w-]+\)', "", text)
        assert not re.search(r"https?:|href|url\(|<script|<image|<use|data:", outside)
        words = [each.text for each in root.iter(f"{SVG}text")]
        assert words[0] == picture.title
        for each in root.iter():
            if each.tag.removeprefix(SVG) in {"line", "path", "polygon", "circle"}:
                classes = each.attrib["class"].split()
                assert any(f".{name}" in style for name in classes), each.attrib


def test_svg_is_in_light_colours(pictures: list[Picture]) -> None:
    """Checks ground and colours against the style sheet's light ones."""
    text = standalone_svg(next(each for each in pictures if each.name.startswith("curves")))
    assert re.search(r'<rect x="-12" y="-42" [^>]* fill="#ffffff"/>', text)
    assert ".arm-0 { stroke: #1766a6; }" in text
    assert ".average.arm-0 { stroke-dasharray: 7 4; }" in text


def test_pdf_has_selectable_text(pictures: list[Picture], tmp_path: Path) -> None:
    """Checks each PDF: one page of the figure's size, embedded fonts, every label of the SVG as text."""
    pdftotext, pdfinfo, pdffonts = (
        needed(name, "poppler-utils") for name in ("pdftotext", "pdfinfo", "pdffonts")
    )
    for picture in pictures:
        path = tmp_path / f"{picture.name}.pdf"
        path.write_bytes(figure_pdf(picture))
        root = ElementTree.fromstring(standalone_svg(picture))
        info = _output(pdfinfo, path)
        assert re.search(r"^Pages:\s+1$", info, flags=re.MULTILINE)
        points = float(root.attrib["width"]) * 0.75
        assert float(re.search(r"Page size:\s+([\d.]+)", info)[1]) == pytest.approx(points, abs=0.5)  # type: ignore[index]
        fonts = _output(pdffonts, path).splitlines()[2:]
        assert fonts
        # columns from the right: emb sub uni object ID
        assert {tuple(line.split()[-5:-2]) for line in fonts} == {("yes", "yes", "yes")}
        text = re.sub(r"\s", "", _output(pdftotext, path, "-"))
        for label in root.iter(f"{SVG}text"):
            assert re.sub(r"\s", "", label.text or "") in text


def test_pdf_is_vector(pictures: list[Picture], tmp_path: Path) -> None:
    """Checks that a PDF holds no picture of pixels."""
    path = tmp_path / "figure.pdf"
    path.write_bytes(figure_pdf(pictures[0]))
    assert _output(needed("pdfimages", "poppler-utils"), "-list", path).splitlines()[2:] == []


def test_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    """Checks the exports of two processes with different clocks, hash seeds and folders, byte by byte."""
    here = Path(__file__).parent
    code = "import sys; from reports.files import write_report; from tests.reports.sample_results import make_results\n"
    code += "write_report(make_results(), sys.argv[1])"
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / seed)],
            env={"PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(here.parents[1])},
            check=True,
        )
    first, second = (
        {path.relative_to(tmp_path / seed): path.read_bytes() for path in (tmp_path / seed).rglob("*.*")}
        for seed in ("1", "2")
    )
    assert first == second
    assert sum(path.suffix == ".pdf" for path in first) == sum(path.suffix == ".svg" for path in first) > 12


def test_hostile_titles_stay_words(results: Results, tmp_path: Path) -> None:
    """Checks figures of arms with markup, CSS, bidi controls and paths for names: XML, harmless names, words shown."""
    bad = "a</text><script>x</script>&amp;\u202e../../etc你"
    arms = {bad if arm == "dpo" else arm: method for arm, method in results.arms.items()}
    curves = [each.model_copy(update={"arm": bad, "name": f"{bad}; }}"}) for each in results.curves[:2]]
    declared = results.declared.model_copy(update={"baseline": bad})
    nasty = changed(results, {"arms": arms, "curves": curves, "declared": declared, "audit": None})
    written = write_report(nasty, tmp_path)
    figures = [path for path in written if path.parent.name == "figures"]
    assert figures
    for path in figures:
        assert re.fullmatch(r"[a-z0-9-]+\.(svg|pdf)", path.name)
    for path in figures[::2]:
        root = ElementTree.parse(path).getroot()
        assert not [each for each in root.iter() if each.tag.endswith("script")]
        assert "\u202e" not in path.read_text(encoding="utf-8")
    curve = next(path for path in figures if path.stem.startswith("curves") and path.suffix == ".pdf")
    text = _output(needed("pdftotext", "poppler-utils"), curve, "-")
    assert "<script>x</script>" in text
    assert "⟨U+4F60⟩" in text


def test_files_are_listed_with_links(results: Results, tmp_path: Path) -> None:
    """Checks the links in the page's list of files against the files that are written beside it."""
    written = {str(path.relative_to(tmp_path)) for path in write_report(results, tmp_path)[1:]}
    html = render_html(results)
    section = html[html.index('<h2 id="files">') :]
    assert set(re.findall(r'href="([^"]+)"', section)) == written


def test_nothing_to_draw_is_no_figure(tmp_path: Path) -> None:
    """Checks results without any run: what cannot be drawn has no file, and writing works."""
    written = write_report(make_results(missing=True), tmp_path)
    assert all(path.exists() for path in written)
    assert [path.name for path in written if path.suffix == ".svg"] == ["differences.svg"]


def test_svg_alone_in_a_browser(pictures: list[Picture], tmp_path: Path) -> None:
    """Checks three kinds of figure as Chromium prints them: mostly white, in many colours, with their words."""
    chromium, pdftotext = needed("chromium", "chromium"), needed("pdftotext", "poppler-utils")
    for picture in (pictures[0], pictures[1], pictures[6]):
        path, printed = tmp_path / f"{picture.name}.svg", tmp_path / f"{picture.name}.pdf"
        path.write_text(standalone_svg(picture), encoding="utf-8")
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={printed}", path.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert picture.title in " ".join(_output(pdftotext, printed, "-").split())
        colours = _pixels(printed)
        assert 0.5 < colours[b"\xff\xff\xff"] / colours.total() < 0.999
        assert len(colours) > 20


def _output(command: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [command, *map(str, arguments)], check=True, capture_output=True, text=True, encoding="utf-8"
    )
    return done.stdout


def _pixels(pdf: Path) -> Counter[bytes]:
    """How many pixels of the first page have which colour."""
    command = [
        needed("pdftoppm", "poppler-utils"),
        "-r",
        "60",
        "-singlefile",
        str(pdf),
        str(pdf.with_suffix("")),
    ]
    subprocess.run(command, check=True)
    ppm = pdf.with_suffix(".ppm").read_bytes()
    size = re.match(rb"P6\n(\d+) (\d+)\n255\n", ppm)
    assert size
    body = ppm[size.end() :]
    assert len(body) == 3 * int(size[1]) * int(size[2])
    return Counter(body[at : at + 3] for at in range(0, len(body), 3))
