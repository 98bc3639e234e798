"""What a p-value counts: its unit, how many there are, what they share and which population it speaks of."""

from __future__ import annotations

from analysis.evidence import Unit, UnitName


def unit_of_test(name: UnitName, *, settings: int, seeds: int, prompts: int | None = None) -> Unit:
    """Describe the unit of a test on a table of settings by seeds.

    Args:
        name: "setting": seed-averaged differences; "setting and seed": the crossed test; "pair": every difference as
            one; "seed": differences averaged over settings; "prompt": paired prompts of trained models.
        settings: in the test.
        seeds: in the test.
        prompts: in the evaluation; None: not known, which the unit "prompt" refuses.

    Raises:
        ValueError: a number of prompts that is needed and not given.

    Source: unit and population as in Hurlbert (1984), Ecol. Monogr. 54:187 (pseudoreplication).
    """
    if name == "prompt" and prompts is None:
        raise ValueError("a test over prompts needs their number")
    of_prompts = "the prompts and the judge" if prompts is None else f"the {prompts} prompts and the judge"
    their_seeds = "the seed" if seeds == 1 else f"the {seeds} seeds"
    their_settings = "the setting" if settings == 1 else f"the {settings} settings"
    n, shared, population = {
        "setting": (settings, [their_seeds, of_prompts], "settings like these, with these seeds"),
        "setting and seed": (settings * seeds, [of_prompts], "settings and seeds like these"),
        "pair": (
            settings * seeds,
            [their_settings, their_seeds, of_prompts],
            "none: pairs of one setting, or of one seed, are not independent",
        ),
        "seed": (seeds, [their_settings, of_prompts], "seeds like these, at these settings"),
        "prompt": (prompts or 0, ["the trained models", "the judge"], "prompts like these, for these models"),
    }[name]
    return Unit(name=name, n=n, shared=shared, population=population, independent=name != "pair")
