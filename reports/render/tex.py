"""Text and tables as LaTeX: booktabs and siunitx, every string escaped, plain ASCII that any engine reads."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.render.cells import ArmName, Column, Link, Missing, NoWrap, Shown, Table, Tag
from reports.render.formats import MINUS
from reports.render.text import clean, shorten

LONGEST_CELL = 400
LONGEST_CAPTION = 1000
ROWS_PER_PAGE = 36  # a longer table breaks over pages
MOST_PAIRED = 3  # columns of mean ± SD side by side; more stand below one another
LINE = 92  # characters that fit side by side
UNBROKEN = 24  # letters; longer words may break anywhere
_COMMANDS = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\`{}",
    '"': r"{\char34}",
    # In braces: at the start of a row these would be arguments of the line break before it.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    **{char: f"\\{char}" for char in "{}%#&$_"},
    "\u00a0": "~",
    "\u2009": r"\,",
    "\u202f": r"\,",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "…": r"\ldots{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
}
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta",
    "θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi",
    "ρ": "rho", "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
    "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma",
    "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_MATHS = {
    MINUS: "-", "±": r"\pm", "×": r"\times", "·": r"\cdot", "≈": r"\approx", "≠": r"\neq", "≤": r"\leq",
    "≥": r"\geq", "∞": r"\infty", "←": r"\leftarrow", "→": r"\rightarrow", "↑": r"\uparrow", "↓": r"\downarrow",
    "∂": r"\partial", "√": r"\surd", "∑": r"\sum", "∈": r"\in", "∅": r"\emptyset", "‖": r"\Vert", "⟨": r"\langle",
    "⟩": r"\rangle", "µ": r"\mu", "⁻": "^{-}", "²": "^{2}", "³": "^{3}", "¹": "^{1}", "⁰": "^{0}",
    **{char: f"^{{{digit}}}" for digit, char in enumerate("⁴⁵⁶⁷⁸⁹", 4)},
    **{char: f"\\{name}" for char, name in _GREEK.items()},
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip
# Other characters: by their code point with pdfTeX, as they are with LuaTeX and XeTeX where the font has them.
# \ifdefined\Umathchar: only these two define it. The decimal number comes first: babel may have made " active.
OTHER_CHARACTERS = r"""\ifdefined\adadpocharacter\else
\protected\def\adadpocodepoint#1{\ensuremath{\langle}U+#1\ensuremath{\rangle}}
\ifdefined\Umathchar
\protected\def\adadpocharacter#1#2{\iffontchar\font#1 \char#1 \else\adadpocodepoint{#2}\fi}
\else
\protected\def\adadpocharacter#1#2{\adadpocodepoint{#2}}
\fi\fi
"""


def escape(text: str, limit: int = LONGEST_CELL) -> str:
    """A string as LaTeX that prints it: ASCII, one line, at most `limit` characters of it, no command of its own."""
    parts: list[str] = []
    for word in re.split(r"(\s+)", unicodedata.normalize("NFC", clean(shorten(text, limit)))):
        if not word or word.isspace():
            parts.append(" " if word else "")
            continue
        for index, char in enumerate(word):
            if index and len(word) > UNBROKEN and index % 8 == 0:
                parts.append(r"\allowbreak{}")
            elif index and char in "-'," and word[index - 1] == char:
                parts.append("{}")  # -- '' ,, are ligatures
            parts.append(_character(char))
    return "".join(parts)


def _character(char: str) -> str:
    if char in _COMMANDS:
        return _COMMANDS[char]
    if char in _MATHS:
        return rf"\ensuremath{{{_MATHS[char]}}}"
    if char.isascii():
        return char
    base, *marks = list(unicodedata.normalize("NFD", char))
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        letter = f"\\{base}" if base in "ij" else base
        return rf"\{_ACCENTS[marks[0]]}{{{letter}}}"
    return rf"\adadpocharacter{{{ord(char)}}}{{{ord(char):X}}}"


def with_characters(source: str) -> str:
    """The source, with the definition that its characters outside LaTeX's own need."""
    return OTHER_CHARACTERS + source if r"\adadpocharacter" in source else source


def latex_table(table: Table, label: str) -> str:
    """A table as a float (a long one over pages), to be input into a document with booktabs, siunitx and longtable.

    A column of numbers is an S column, one of mean ± SD (n) two of them and n; what is undefined is a dash with a
    letter, which a note explains.
    """
    if sum(_is_paired(table, at) for at in range(len(table.columns))) > MOST_PAIRED:
        table = _below_one_another(table)
    letters = {reason: chr(ord("a") + at % 26) * (1 + at // 26) for at, reason in enumerate(table.reasons)}
    columns = [_column(table, at, letters) for at in range(len(table.columns))]
    columns = _narrowed(columns)
    head = " & ".join(column.head for column in columns) + r" \\"
    rows = [" & ".join(column.cells[at] for column in columns) + r" \\" for at in range(len(table.rows))]
    notes = [rf"\textsuperscript{{{letter}}}~{escape(reason)}." for reason, letter in letters.items()]
    notes += [escape(table.note, LONGEST_CAPTION)] if table.note else []
    spec = "".join(column.spec for column in columns)
    caption = rf"\caption{{{escape(table.caption, LONGEST_CAPTION)}}}\label{{tab:{label}}}"
    below = "\\par\\smallskip\n{\\footnotesize\\raggedright " + " ".join(notes) + "\\par}\n" if notes else ""
    if len(rows) > ROWS_PER_PAGE:
        top = f"{caption}\\\\\n\\toprule\n{head}\n\\midrule\n\\endfirsthead\n\\toprule\n{head}\n\\midrule\n\\endhead\n"
        bottom = "\\bottomrule\n\\endlastfoot\n"
        body = "\n".join(rows)
        return (
            f"{{\\small\n\\begin{{longtable}}{{{spec}}}\n{top}{bottom}{body}\n\\end{{longtable}}\n{below}}}\n"
        )
    body = "\n".join(["\\toprule", head, "\\midrule", *rows, "\\bottomrule"])
    inner = f"\\begin{{tabular}}{{{spec}}}\n{body}\n\\end{{tabular}}\n{below}"
    return f"\\begin{{table}}[htbp]\n\\centering\\small\n{caption}\\par\\smallskip\n{inner}\\end{{table}}\n"


@dataclass(frozen=True)
class _Column:
    spec: str  # of the tabular
    head: str
    cells: list[str]
    width: int  # characters
    wraps: bool = False


def _column(table: Table, at: int, letters: dict[str, str]) -> _Column:
    title, cells = table.columns[at], [row[at] for row in table.rows]
    if _is_paired(table, at):
        return _paired(title, cells, letters)
    plain = [_plain(cell) for cell in cells]
    if title.numeric and (form := _number_format([text for text in plain if text is not None])):
        shown = [
            _dash(cell, letters) if text is None else _raw(text)
            for cell, text in zip(cells, plain, strict=True)
        ]
        width = max(len(_text(title.title)), *(len(text or "") for text in plain), 3)
        return _Column(_s_column(form), f"{{{_cell(title.title, letters)}}}", shown, width)
    width = max([len(_text(title.title)), *(len(_text(cell)) for cell in cells)], default=0)
    shown = [_cell(cell, letters) for cell in cells]
    return _Column(
        "r" if title.numeric else "l", _cell(title.title, letters), shown, width, not title.numeric
    )


def _s_column(form: str) -> str:
    return rf"S[retain-explicit-plus,table-format={form}]"


def _is_paired(table: Table, at: int) -> bool:
    """Whether a column holds mean ± SD (n): four parts, the second of which is the sign."""
    cells = [row[at] for row in table.rows if not isinstance(row[at], Missing)]
    return bool(cells) and all(
        isinstance(cell, tuple) and len(cell) == 4 and cell[1] == " ± " for cell in cells
    )


def _paired(title: Column, cells: Sequence[Shown], letters: dict[str, str]) -> _Column:
    triples: list[tuple[Shown, ...]] = [
        (cell[0], cell[2], cell[3]) if isinstance(cell, tuple) else (Missing(""), Missing(""), "")
        for cell in cells
    ]
    forms = [
        _number_format([text for triple in triples if (text := _plain(triple[part])) is not None]) or "1.1"
        for part in (0, 1)
    ]
    shown = []
    for cell, (mean, sd, n) in zip(cells, triples, strict=True):
        if isinstance(cell, Missing):
            shown.append(f"{_dash(cell, letters)} & & ")
            continue
        first, second = (
            _raw(text) if (text := _plain(part)) is not None else _dash(part, letters) for part in (mean, sd)
        )
        shown.append(rf"{first} & {second} & {_cell(n, letters).strip()}")
    mean_column, sd_column = map(_s_column, forms)
    spec = rf"{mean_column}@{{\,\ensuremath{{\pm}}\,}}{sd_column}@{{~}}l"
    head = rf"\multicolumn{{3}}{{c}}{{{_cell(title.title, letters)}}}"
    return _Column(spec, head, shown, 20)


def _below_one_another(table: Table) -> Table:
    """Many columns of mean ± SD as rows: heading, column, value."""
    titles = table.columns[1:]
    rows: list[list[Shown]] = [
        [row[0] if at == 0 else "", title.title, row[at + 1]]
        for row in table.rows
        for at, title in enumerate(titles)
    ]
    return Table(
        table.caption, [table.columns[0], Column("Of"), Column("Mean ± SD (n)", True)], rows, table.note
    )


def _narrowed(columns: list[_Column]) -> list[_Column]:
    """Columns of long texts wrap where the table would be wider than a page."""
    total = sum(column.width + 3 for column in columns)
    if total <= LINE:
        return columns
    wide = [column for column in columns if column.wraps and column.width > 16]
    fixed = sum(column.width + 3 for column in columns if column not in wide)
    room = max(LINE - fixed, 10 * len(wide), 1) / LINE
    asked = sum(min(column.width, 60) for column in wide)
    shares = {id(column): min(room, 0.95) * min(column.width, 60) / asked * 0.94 for column in wide}
    wrapped = r">{\raggedright\arraybackslash}p{%.3f\linewidth}"
    return [
        replace(column, spec=wrapped % shares[id(column)]) if id(column) in shares else column
        for column in columns
    ]


def _plain(cell: Shown) -> str | None:
    """The text of a cell that may be a number; None where it is undefined."""
    return None if isinstance(cell, Missing) else _text(cell)


def _raw(text: str) -> str:
    return text.replace(MINUS, "-").replace(",", "")


def _number_format(texts: Sequence[str]) -> str | None:
    """The `table-format` of siunitx for numbers; None where one of them is none, or there are none."""
    numbers = [re.fullmatch(r"([+-]?)(\d+)(?:\.(\d+))?", _raw(text)) for text in texts]
    if not numbers or not all(numbers):
        return None
    found = [number for number in numbers if number]
    sign = "+" if any(number[1] for number in found) else ""
    whole, decimals = max(len(number[2]) for number in found), max(len(number[3] or "") for number in found)
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def _dash(cell: Shown, letters: dict[str, str]) -> str:
    reason = cell.reason if isinstance(cell, Missing) else ""
    return rf"{{--\textsuperscript{{{letters[reason]}}}}}" if reason in letters else "{--}"


def _text(cell: Shown) -> str:
    match cell:
        case Missing():
            return "–"
        case Tag(text=text) | ArmName(name=text) | NoWrap(name=text) | Link(path=text):
            return text
        case tuple():
            return "".join(map(_text, cell))
    return cell


def _cell(cell: Shown, letters: dict[str, str]) -> str:
    if isinstance(cell, Missing):
        return _dash(cell, letters)
    if isinstance(cell, tuple):
        return "".join(_cell(part, letters) for part in cell)
    if isinstance(cell, str) and (number := re.fullmatch(r"[+-]?\d+(\.\d+)?e[+-]?\d+", _raw(cell))):
        return rf"\num{{{number[0]}}}"
    return escape(_text(cell))
