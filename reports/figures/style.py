"""How figures look: one style, with CSS variables for the page and with the light colours themselves for files."""

from __future__ import annotations

from string import Template

# Each colour in light and in dark; the page's own style sheet uses them, too.
COLOURS = {
    "page": ("#fdfdfc", "#14171a"),
    "ink": ("#1b1f24", "#e7e9eb"),
    "soft": ("#57606b", "#a3abb5"),
    "rule": ("#d9dde1", "#383f46"),
    "grid": ("#e8ebee", "#282d33"),
    "band": ("#e9edf1", "#252b32"),
    "level": ("#2f5683", "#8dbcf2"),
    "arm-0": ("#1766a6", "#6fb4f0"),
    "arm-1": ("#c04a08", "#f5935a"),
    "arm-2": ("#00755c", "#4fc9a6"),
    "arm-3": ("#8a4a9c", "#d3a0e4"),
    "arm-4": ("#806300", "#d8ba45"),
    "arm-5": ("#4a4a4a", "#c4c8cc"),
    "up-1": ("#fbe6d8", "#33241b"),
    "up-2": ("#f8cdb0", "#4d301f"),
    "up-3": ("#f3b187", "#6a3c21"),
    "up-4": ("#ec925c", "#8a4a22"),
    "level-cell": ("#eef0f2", "#22272d"),
    "down-1": ("#dfebf5", "#1a2935"),
    "down-2": ("#bfd8ed", "#1d3a50"),
    "down-3": ("#9bc2e3", "#204c6e"),
    "down-4": ("#74aad7", "#235f8d"),
}
GROUND = "#ffffff"  # of a figure in a file
DASHES = {0: "7 4", 2: "2 3", 3: "12 3 3 3", 4: "16 4", 5: "4 2 1 2"}  # of the arms' thick lines
_FILLED = (1, 3)  # arms whose marks are filled


class _Css(Template):
    idpattern = r"[a-z]+(?:-[a-z0-9]+)?"


_RULES = _Css("""\
.figure { font-size: 13px; }
.figure text { fill: $ink; }
.figure .tick, .figure .axis, .figure .muted, .figure .side { fill: $soft; font-size: 12px; }
.figure .small { font-size: 11px; }
.figure .strong { font-weight: 600; }
line.grid { stroke: $grid; }
line.rule { stroke: $rule; }
line.zero, line.base { stroke: $soft; }
line.reference { stroke: $ink; stroke-dasharray: 1.5 3.5; stroke-width: 1.5; }
line.span { stroke: $rule; stroke-width: 2; }
line.interval { stroke: $ink; stroke-width: 2.5; }
path.prompts { fill: none; stroke: $level; stroke-width: 1.25; }
rect.rope { fill: $band; }
circle.seed { fill: $page; stroke: $soft; stroke-width: 1.5; }
polygon.mean { fill: $level; }
polygon.estimate { fill: $ink; }
rect.box { fill: none; stroke: $soft; stroke-width: 1.5; }
rect.bar { fill: $level; }
rect.bar.mean { fill: none; stroke: $level; stroke-width: 1.5; }
.run { fill: none; stroke-width: 1; stroke-linecap: round; stroke-opacity: .3; }
.run.faint { stroke-opacity: .13; }
.halo { fill: none; stroke: $page; stroke-width: 6; stroke-linejoin: round; stroke-opacity: .75; }
.average { fill: none; stroke-width: 2.75; stroke-linejoin: round; }
.dots { fill: none; stroke-width: 4; stroke-linecap: round; stroke-opacity: .45; }
.knot { fill: $page; stroke-width: 2; }
.mark { fill: none; stroke-width: 1.75; }
.mark.faint { fill-opacity: .55; stroke-opacity: .55; }
.cell.empty { fill: none; stroke: $rule; stroke-dasharray: 3 3; }
.level { fill: $level-cell; }
""")


def _rules(colours: dict[str, str]) -> str:
    rules = [_RULES.substitute(colours).rstrip()]
    for arm in range(6):
        colour = colours[f"arm-{arm}"]
        rules.append(f".arm-{arm} {{ stroke: {colour}; }}")
        rules.append(f".between.arm-{arm} {{ stroke: none; fill: {colour}; fill-opacity: .16; }}")
        if arm in DASHES:
            rules.append(f".average.arm-{arm} {{ stroke-dasharray: {DASHES[arm]}; }}")
        if arm in _FILLED:
            rules.append(f".mark.arm-{arm} {{ fill: {colour}; }}")
    rules += [
        f".{side}-{step} {{ fill: {colours[f'{side}-{step}']}; }}"
        for side in ("up", "down")
        for step in range(1, 5)
    ]
    return "\n".join(rules)


def page_style() -> str:
    """For a page that follows the reader's light or dark setting: every colour is a CSS variable."""
    light, dark = (" ".join(f"--{name}: {pair[at]};" for name, pair in COLOURS.items()) for at in (0, 1))
    return (
        f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        + _rules({name: f"var(--{name})" for name in COLOURS})
    )


def file_style(fonts: str) -> str:
    """For a figure in a file of its own: light colours, no variables.

    Args:
        fonts: CSS `font-family` of all text.
    """
    colours = {name: light for name, (light, _) in COLOURS.items()} | {"page": GROUND}
    heading = ".heading { font-size: 15px; font-weight: 600; }"
    return f"svg {{ font-family: {fonts}; }}\n{heading}\n{_rules(colours)}"
