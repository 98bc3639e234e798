"""Figures as PDF: vector, text that can be selected, fonts within, the same bytes for the same figure."""

from __future__ import annotations

import re

from reports.errors import ReportError
from reports.svg_files import Picture, standalone_svg

# Come with the library, so that a figure looks the same on every machine, and as the text of a LaTeX paper.
FONTS = "'New Computer Modern', 'New Computer Modern Math', 'Libertinus Serif', 'DejaVu Sans Mono'"
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

    svg = _UNDRAWN.sub(lambda char: f"⟨U+{ord(char.group()):04X}⟩", standalone_svg(picture, FONTS))
    try:
        return typst.compile(
            _DOCUMENT,
            format="pdf",
            ignore_system_fonts=True,
            sys_inputs={"svg": svg, "title": picture.title},
        )
    except typst.TypstError as error:
        raise ReportError(f"figure {picture.title!r}: cannot be made a PDF: {error}") from error
