"""The methods paragraph, ready for a paper: as text and as LaTeX."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.results import Results
from reports.methods_paragraph import methods_sentences
from reports.tex import escape, with_characters

LONGEST = 2000  # characters of a sentence, so that no line of the page's LaTeX is cut


@dataclass(frozen=True)
class Paragraph:
    """The same sentences twice."""

    sentences: list[str]
    latex: list[str]  # a sentence on each line


def paragraph_of(results: Results) -> Paragraph:
    """The section."""
    sentences = methods_sentences(results)
    latex = with_characters("\n".join(escape(sentence, LONGEST) for sentence in sentences))
    return Paragraph(sentences, latex.splitlines())
