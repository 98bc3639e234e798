"""Constraints are checked against texts whose verdict a person decided, kind by kind, and by properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadpo.errors import ConstraintError
from analysis.judges.verifier import (
    KINDS,
    holds,
    in_words,
    is_degenerate,
    is_on_topic,
    score,
    sentences,
    validate,
    words,
)

VALID = [
    {"kind": name} | ({} if kind.takes is None else {"value": 3 if kind.takes == "count" else "cat"})
    for name, kind in KINDS.items()
]

# (kind, value, texts that meet it, texts that do not), decided by hand.
VERDICTS = [
    ("max_words", 3, ["one two three", "well-known don't 1,000", "one - two — three", ""], ["a b c d"]),
    ("min_words", 3, ["one two three", "a b c d"], ["one two", "one - two —", ""]),
    ("sentences", 1, ["Hello.", "Hello", "It costs 3.50 dollars.", "Dr. Who came.", "Wait... what?"], []),
    ("sentences", 1, ['"Go!" she said.', "Nuts, e.g. almonds.", "1. Wash it.", "Tea, etc. and so on."], []),
    ("sentences", 1, ["Ask J. Smith.", "The end.)"], ["", "Go. Now."]),
    ("sentences", 2, ["Go. Stop.", 'He said "go." She went.', "Really?! Yes.", "One line\nanother"], ["Go."]),
    ("sentences", 2, ["See a.b now. Ok.", "Ça va… Émile dort.", "I saw etc. Then"], ["A b. C d. E f"]),
    ("max_sentences", 2, ["One.", "One. Two.", ""], ["One. Two. Three."]),
    ("bullets", 2, ["- a\n- b", "Intro:\n* a\n  • b"], ["- a", "- a\n- b\n- c", "a - b - c", "-a\n-b"]),
    ("no_commas", None, ["none; at all", "'quoted'", ""], ["a, b", "1,000", "你好，世", "一、二", "مرحبا، "]),
    ("no_exclamation", None, ["calm.", ""], ["Wow!", "a != b", "¡Hola", "Stop！", "What⁉"]),
    ("no_first_person", None, ["It is his.", "i.e. this", "(i) one", "Iris", "AI is", "wi-fi", "Me."], []),
    ("no_first_person", None, [], ["I am", "so am I", "I'm", "I’ve", "i think", "World War I", '"I"']),
    ("no_digits", None, ["three", ""], ["3", "room 12b", "½ cup", "٣", "x²"]),
    ("no_question", None, ["Yes."], ["Why?", "为什么？", "Eh?!"]),
    ("lower_case", None, ["all low, 3 times!", "élan", "日本"], ["Almost", "mIx", "Élan"]),
    ("includes", "cat", ["A cat.", "CAT!", "the cat's", '"cat"', "cat-like"], ["cats", "concat", ""]),
    ("includes", "café", ["cafe\u0301 noir", "Un CAFÉ."], ["cafe"]),
    ("includes", "don't", ["I don’t", "Don't!"], ["dont"]),
    ("excludes", "the", ["other theme", "", "he"], ["The end", "over the sea", "the."]),
    ("starts_with", "Yes", ["Yes, it is", '"yes" he said', "**Yes**", "- yes"], ["Yesterday", "Oh yes", ""]),
    ("ends_with", "friend", ["my friend.", "Friend!", 'a "friend".'], ["friends", "friend of mine", ""]),
]  # fmt: skip


def constraint(kind: str, value: int | str | None) -> dict[str, object]:
    return {"kind": kind} if value is None else {"kind": kind, "value": value}


class TestKinds:
    @pytest.mark.parametrize(("kind", "value", "text"), [(k, v, t) for k, v, yes, _ in VERDICTS for t in yes])
    def test_is_met(self, kind: str, value: int | str | None, text: str) -> None:
        assert holds(text, constraint(kind, value))

    @pytest.mark.parametrize(("kind", "value", "text"), [(k, v, t) for k, v, _, no in VERDICTS for t in no])
    def test_is_not_met(self, kind: str, value: int | str | None, text: str) -> None:
        assert not holds(text, constraint(kind, value))

    def test_every_kind_has_a_verdict_both_ways(self) -> None:
        assert {kind for kind, _, yes, _ in VERDICTS if yes} == set(KINDS)
        assert {kind for kind, _, _, no in VERDICTS if no} == set(KINDS)


class TestSplitting:
    def test_sentences_are_pieces_of_the_text(self) -> None:
        text = 'First, e.g. this. "Second!" Third?\n\n4. Fourth'
        assert sentences(text) == ["First, e.g. this.", '"Second!"', "Third?", "4. Fourth"]

    def test_words_keep_their_punctuation(self) -> None:
        assert words("It's 1,000 – (well-known) things.") == ["It's", "1,000", "(well-known)", "things."]

    @given(st.lists(st.sampled_from(["Tea is hot", "Go", "It costs 2.5", "We saw Dr. No"]), min_size=1))
    def test_as_many_sentences_as_were_joined(self, parts: list[str]) -> None:
        assert len(sentences(" ".join(part + "." for part in parts))) == len(parts)


class TestValidation:
    @pytest.mark.parametrize("valid", VALID, ids=lambda c: c["kind"])
    def test_every_kind_is_valid_and_can_be_stated(self, valid: dict[str, object]) -> None:
        validate(valid)
        assert in_words(valid).endswith(".")
        assert str(valid.get("value", "")) in in_words(valid)

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"kind": "max_word", "value": 3}, "max_words"),  # the choices are named
            ({}, "unknown kind"),
            ("no_commas", "mapping"),
            ({"kind": "no_commas", "value": 1}, "keys"),
            ({"kind": "max_words"}, "keys"),
            ({"kind": "max_words", "value": 0}, ">= 1"),
            ({"kind": "max_words", "value": True}, ">= 1"),
            ({"kind": "max_words", "value": 2.0}, ">= 1"),
            ({"kind": "includes", "value": "two words"}, "one word"),
            ({"kind": "includes", "value": "-"}, "one word"),
            ({"kind": "includes", "value": 3}, "one word"),
        ],
    )
    def test_invalid_constraints_are_named(self, wrong: object, says: str) -> None:
        with pytest.raises(ConstraintError, match=says):
            validate(wrong)  # type: ignore[arg-type]

    def test_one_is_singular(self) -> None:
        assert in_words({"kind": "sentences", "value": 1}) == "Write exactly 1 sentence."
        assert in_words({"kind": "max_words", "value": 11}) == "Use at most 11 words."


class TestDegenerate:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "  \n ",
            "...",
            "!!! ??? !!!",
            "Yes, yes yes YES.",
            "aaaaaaaaaaaaaa",
            "I like tea a lot. I like tea a lot. I like tea a lot.",
            "a b c " * 7,
            "#*#*#*#* ok",
        ],
    )
    def test_loops_and_noise(self, text: str) -> None:
        assert is_degenerate(text)
        assert score(text, VALID) == 0.0

    @pytest.mark.parametrize(
        "text",
        [
            "Yes.",
            "No, no, no.",
            "Row, row, row your boat.",
            "Mix flour and water. Then knead it for ten minutes and bake it until it is brown.",
            "It costs 10000000000 dollars.",
            "你好，世界",
        ],
    )
    def test_ordinary_text(self, text: str) -> None:
        assert not is_degenerate(text)


class TestTopic:
    def test_keywords_begin_words(self) -> None:
        assert is_on_topic("It was RAINY.", ["rain"])
        assert not is_on_topic("The train left.", ["rain"])
        assert is_on_topic("Anything", [])

    def test_off_topic_scores_nothing(self) -> None:
        short = [{"kind": "max_words", "value": 5}]
        assert score("Yes.", short, ["rain"]) == 0.0
        assert score("Rain.", short, ["rain"]) == 1.0


class TestScore:
    def test_share_of_constraints_met(self) -> None:
        two = [{"kind": "no_commas"}, {"kind": "max_words", "value": 3}]
        assert score("Take a walk.", two) == 1.0
        assert score("Walk, then rest well.", two) == 0.0
        assert score("Walk, then rest.", two) == 0.5

    def test_needs_constraints(self) -> None:
        with pytest.raises(ConstraintError, match="at least one"):
            score("text", [])

    def test_invalid_constraints_are_found_even_for_empty_text(self) -> None:
        with pytest.raises(ConstraintError):
            score("", [{"kind": "nonsense"}])

    @given(st.text(max_size=300), st.lists(st.sampled_from(VALID), min_size=1, max_size=4))
    def test_is_a_share_and_never_fails_on_any_text(self, text: str, some: list[dict[str, object]]) -> None:
        value = score(text, some)
        assert value * len(some) == pytest.approx(round(value * len(some)))
        assert 0 <= value <= 1

    @given(st.text(max_size=200))
    def test_opposites_exclude_each_other(self, text: str) -> None:
        for word in ("the", "a"):
            assert holds(text, {"kind": "includes", "value": word}) != holds(
                text, {"kind": "excludes", "value": word}
            )
        assert holds(text, {"kind": "max_words", "value": 3}) != holds(
            text, {"kind": "min_words", "value": 4}
        )

    @given(st.text(max_size=200), st.sampled_from(VALID))
    def test_white_space_around_a_text_does_not_matter(self, text: str, one: dict[str, object]) -> None:
        assert holds(f" \n{text}\t ", one) == holds(text, one)
