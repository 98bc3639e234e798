"""The page's figures as files of their own: SVG that opens alone, in the page's light colours."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from markupsafe import Markup, escape

from adadpo.errors import ReportError
from reports.figures.style import GROUND, file_style
from reports.outline import Section
from reports.render.text import slugs

MARGIN = 12.0
HEADING = 30.0  # room for the title, which a page says above its figure
SVG_FONTS = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


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
            f"<style>\n{file_style(fonts)}\n</style>",
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" fill="{GROUND}"/>',
            f'<text class="heading" x="0" y="{-HEADING / 2:g}">{escape(picture.title)}</text>',
            f"{inner}\n",
        ]
    )


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
