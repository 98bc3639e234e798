"""The page's figures as files of their own: SVG that opens alone, in the page's light colours."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from xml.etree import ElementTree

from markupsafe import Markup, escape

from adadpo.errors import ReportError
from reports.outline import Section
from reports.render.text import slugs

MARGIN = 12.0
HEADING = 30.0  # room for the title, which a page says above its figure
SVG_FONTS = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
GROUND = "#ffffff"
DRAWING = r"(fill|stroke|opacity|font-(size|weight|style)|text-anchor)[\w-]*:"


@dataclass(frozen=True)
class Picture:
    """A figure of the page: `markup` is an inline `<svg>` that needs the page's style sheet."""

    name: str  # of its files: lower-case letters, digits and hyphens, each figure's own
    title: str
    markup: Markup


def pictures_in(sections: Sequence[Section]) -> list[Picture]:
    """All figures in the sections of a page, in their order."""
    places, titles, found = [], [], []
    for section in sections:
        figures = list(_figures(section.content))
        for markup in figures:
            title = ElementTree.fromstring(markup).findtext("title") or ""
            # Where one section has several, each leans on the section's name; a figure alone needs no other.
            places.append(f"{section.name} {title}" if len(figures) > 1 else section.name)
            titles.append(f"{section.title}: {title}" if len(figures) > 1 else title)
            found.append(markup)
    return [Picture(*each) for each in zip(slugs(places, "figure"), titles, found, strict=True)]


def _figures(value: object) -> Iterator[Markup]:
    if isinstance(value, Markup):
        if value.startswith('<svg class="figure"'):
            yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _figures(each)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _figures(getattr(value, field.name))


def standalone_svg(picture: Picture, fonts: str = SVG_FONTS) -> str:
    """The figure as an SVG document: its styles inside, its title above, a white ground, nothing from outside.

    Args:
        picture: of `pictures_in`.
        fonts: CSS `font-family` of all text.
    """
    start, _, rest = str(picture.markup).partition(">")
    root = ElementTree.fromstring(picture.markup)
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    x, y, w, h = -MARGIN, -MARGIN - HEADING, width + 2 * MARGIN, height + 2 * MARGIN + HEADING
    size = f'viewBox="{x:g} {y:g} {w:g} {h:g}" width="{w:g}" height="{h:g}"'
    start = re.sub(r'viewBox="[^"]*"', size, start).replace(
        "<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1
    )
    described, end, inner = rest.partition("</desc>")
    return "\n".join(
        [
            f"{start}>{described}{end}",
            f"<style>\nsvg {{ font-family: {fonts}; }}\n{_style(root)}\n</style>",
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" fill="{GROUND}"/>',
            f'<text class="heading" x="0" y="{-HEADING / 2:g}">{escape(picture.title)}</text>',
            f"{inner}\n",
        ]
    )


def _style(root: ElementTree.Element) -> str:
    """The sheet's rules for what the figure is made of."""
    tags = {each.tag for each in root.iter()}
    classes = {name for each in root.iter() for name in each.get("class", "").split()}
    kept = [
        f"{', '.join(mine)} {{ {body} }}"
        for selectors, body in _rules()
        if (mine := [each for each in selectors if _applies(each, tags, classes)])
    ]
    return "\n".join([".heading { font-size: 15px; font-weight: 600; }", *kept])


def _applies(selector: str, tags: set[str], classes: set[str]) -> bool:
    parts = re.findall(r"[.]?[\w-]+|[^\w\s.-]", selector)
    return all(part[1:] in classes if part.startswith(".") else part in tags for part in parts)


@cache
def _rules() -> list[tuple[list[str], str]]:
    """The style sheet outside @media, light: selectors and declarations, with every variable resolved."""
    sheet = resources.files("reports").joinpath("templates", "style.css").read_text(encoding="utf-8")
    sheet = _without_media(re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL))
    colours = dict(re.findall(r"--([\w-]+):\s*([^;]+);", sheet)) | {"page": GROUND}
    rules = []
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", sheet):
        body = re.sub(r"var\(--([\w-]+)\)", lambda name: colours[name[1]], body)
        # Viewers know weights in hundreds only. Size and place on the page are no matter of the figure.
        body = re.sub(r"font-weight: (\d)\d\d", r"font-weight: \g<1>00", body)
        kept = [each.strip() for each in body.split(";") if re.match(DRAWING, each.strip())]
        if kept:
            rules.append(([each.strip() for each in selectors.split(",")], "; ".join(kept)))
    return rules


def _without_media(sheet: str) -> str:
    kept, depth, inside = [], 0, False
    for piece in re.split(r"(@media[^{]*\{|[{}])", sheet):
        if piece.startswith("@media"):
            inside, depth = True, 1
        elif inside:
            depth += {"{": 1, "}": -1}.get(piece, 0)
            inside = depth > 0
        else:
            kept.append(piece)
    return "".join(kept)


# Come with the library, so that a figure looks the same on every machine, and as the text of a LaTeX paper.
PDF_FONTS = "'New Computer Modern', 'New Computer Modern Math', 'Libertinus Serif', 'DejaVu Sans Mono'"


_DOCUMENT = b"""#set document(title: sys.inputs.title, date: none)
#set page(width: auto, height: auto, margin: 0pt)
#image(bytes(sys.inputs.svg), format: "svg", alt: sys.inputs.title)
"""


# Blocks of Unicode that these fonts draw; a character outside would be an empty box.
_UNDRAWN = re.compile(
    "[^\t\n\\x20-\\x7e\\xa0-\u024f\u0370-\u03ff\u0400-\u045f\u2010-\u2027\u2030-\u203a\u2070-\u209f\u20ac\u2190-\u2199"
    "\u2200-\u22ff\u25b2\u25bc\u2713\u2717\u27e8\u27e9]"
)


def figure_pdf(picture: Picture) -> bytes:
    """The figure as a PDF of one page.

    Characters that none of the fonts has are shown by their code points.

    Raises:
        ReportError: the figure cannot be converted.
    """
    import typst  # not at the top: the page alone must not wait for it

    svg = _UNDRAWN.sub(lambda char: f"⟨U+{ord(char.group()):04X}⟩", standalone_svg(picture, PDF_FONTS))
    try:
        return typst.compile(
            _DOCUMENT,
            format="pdf",
            ignore_system_fonts=True,
            sys_inputs={"svg": svg, "title": picture.title},
        )
    except typst.TypstError as error:
        raise ReportError(f"figure {picture.title!r}: cannot be made a PDF: {error}") from error
