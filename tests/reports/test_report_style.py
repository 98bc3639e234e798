"""The style sheet's colours against WCAG 2.2."""

from __future__ import annotations

import re
from itertools import product

import pytest

from reports.page import environment

STYLE = environment().get_template("style.css").render()
_ROOTS = re.findall(
    r":root \{(.*?)\}", STYLE, re.DOTALL
)  # of figures in light and dark, of the rest in light and dark
LIGHT, DARK = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", _ROOTS[at] + _ROOTS[at + 2])) for at in (0, 1))


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio, WCAG 2.2."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_has_contrast_aa(theme: dict[str, str]) -> None:
    """Checks every text colour on every ground it stands on against 4.5 (AA)."""
    for ink, ground in product(("ink", "soft", "good", "bad", "amber", "level"), ("page", "panel")):
        assert contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
    assert contrast(theme["soft"], theme["band"]) >= 4.5
    assert contrast(theme["ink"], theme["amber-panel"]) >= 4.5
    for tone in ("good", "bad", "level", "soft"):
        assert contrast(theme["on-badge"], theme[tone]) >= 4.5, tone


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_heat_map_can_be_read(theme: dict[str, str]) -> None:
    """Checks the numbers on every shade against 4.5 (AA), and that shades get stronger step by step on both sides."""
    for side in ("up", "down"):
        shades = [theme["level-cell"], *(theme[f"{side}-{step}"] for step in range(1, 5))]
        assert all(contrast(theme["ink"], shade) >= 4.5 for shade in shades)
        away = [contrast(theme["page"], shade) for shade in shades[1:]]
        assert away == sorted(away)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_have_contrast_aa(theme: dict[str, str]) -> None:
    """Checks the arms' colours on the page against 3 (AA for graphics)."""
    for style in range(6):
        assert contrast(theme[f"arm-{style}"], theme["page"]) >= 3


def test_every_arm_has_a_dash_of_its_own() -> None:
    """Checks that arms differ without colour: the candidate is solid, the others have different dashes."""
    dashes = re.findall(r"\.average\.arm-(\d) \{ stroke-dasharray: ([\d ]+)", STYLE)
    assert [arm for arm, _ in dashes] == ["0", "2", "3", "4", "5"]
    assert len({dash for _, dash in dashes}) == 5
