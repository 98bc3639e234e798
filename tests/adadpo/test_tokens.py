"""Token ids are checked against TRL's own DPOTrainer._prepare_dataset, and BOS tokens by counting."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, ClassVar

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from trl import DPOConfig, DPOTrainer

from adadpo.data.pairs import Pair, load_pairs
from adadpo.data.tokens import TokenPairs, encode, tokenize_pairs
from adadpo.errors import DataError
from adadpo.models.load import load_tokenizer
from adadpo.models.policy import Base
from adadpo.quiet import quiet
from tests.adadpo.adadpo_examples import chats, rows

TEXTS = [
    Pair("Give me a tip.", " Drink water.", " Go for a walk, then make a plan."),
    Pair("Why? Because ", "it works", "I think so<|im_end|>"),
    Pair("Use", "ful words", "d cars"),  # tokens may merge across the boundary
    Pair("The morn", "ing", "ings are short"),
]


@pytest.fixture(scope="module")
def tokenizer(base: Base) -> Any:
    return base.tokenizer


@pytest.fixture
def bos_tokenizer(base: Base, cache_root: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Like Llama's: puts BOS before every text by itself."""
    monkeypatch.setenv("ADADPO_CACHE", str(cache_root))
    tokenizer = load_tokenizer(base.source)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A",
        pair="<|im_start|> $A $B",
        special_tokens=[("<|im_start|>", tokenizer.bos_token_id)],
    )
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    return tokenizer


def by_trl(pairs: list[Pair], tokenizer: Any, max_length: int) -> list[dict[str, list[int]]]:
    """What trl 1.16 trains on."""
    with quiet():
        config = DPOConfig(
            output_dir="unused", max_length=max_length, use_cpu=True, bf16=False, report_to="none"
        )
    dataset = DPOTrainer._prepare_dataset(
        SimpleNamespace(_tokenizer=tokenizer),
        datasets.Dataset.from_list(rows(pairs)),
        tokenizer,
        config,
        "train",
    )
    return [{name: row[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")} for row in dataset]


class TestAgainstTrl:
    @pytest.mark.parametrize(
        ("pairs", "max_length", "left"),
        [(chats(7), 1024, 7), (chats(7), 30, 5), (TEXTS, 1024, 4), (TEXTS, 5, 2)],
        ids=["chat", "chat cut", "text", "text cut"],
    )
    def test_same_ids(self, tokenizer: Any, pairs: list[Pair], max_length: int, left: int) -> None:
        """Against TRL's prepared data set, token for token, rows that do not fit left out alike."""
        found = tokenize_pairs(pairs, tokenizer, max_length)
        assert len(found) == left
        assert found.rows() == by_trl(pairs, tokenizer, max_length)

    @pytest.mark.parametrize("pairs", [chats(3), TEXTS], ids=["chat", "text"])
    def test_same_ids_with_a_tokenizer_that_adds_bos(self, bos_tokenizer: Any, pairs: list[Pair]) -> None:
        """Against TRL's prepared data set."""
        assert tokenize_pairs(pairs, bos_tokenizer, 1024).rows() == by_trl(pairs, bos_tokenizer, 1024)

    def test_system_and_earlier_turns(self, tokenizer: Any) -> None:
        """Against TRL's prepared data set, for a conversation of several turns."""
        turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "A tip?")]
        pair = chats(1)[0]
        long = Pair([{"role": r, "content": c} for r, c in turns], pair.chosen, pair.rejected)
        assert tokenize_pairs([long], tokenizer, 1024).rows() == by_trl([long], tokenizer, 1024)


class TestBeginAndEnd:
    def test_one_bos_in_a_text_and_none_of_its_own_in_a_conversation(self, bos_tokenizer: Any) -> None:
        """Against the template's rendering: it writes <|im_start|> (also BOS here) once per turn, nothing adds one."""
        bos = bos_tokenizer.bos_token_id
        text = tokenize_pairs(TEXTS[:1], bos_tokenizer, 1024).rows()[0]
        assert text["prompt_ids"].count(bos) == 1
        assert text["prompt_ids"][0] == bos
        assert bos not in text["chosen_ids"] + text["rejected_ids"]
        conversation = tokenize_pairs(chats(1), bos_tokenizer, 1024).rows()[0]
        assert conversation["prompt_ids"].count(bos) == 2  # one user turn, one generation prompt
        assert bos not in conversation["chosen_ids"] + conversation["rejected_ids"]

    def test_one_end_token_per_text(self, tokenizer: Any) -> None:
        """Against the rule of TRL: added, unless the response already ends in it."""
        for row in tokenize_pairs(TEXTS, tokenizer, 1024).rows():
            for ids in (row["chosen_ids"], row["rejected_ids"]):
                assert ids[-1] == tokenizer.eos_token_id
                assert ids.count(tokenizer.eos_token_id) == 1

    @settings(deadline=None, max_examples=40)
    @given(
        prompt=st.text(min_size=1, max_size=12), chosen=st.text(max_size=12), rejected=st.text(max_size=12)
    )
    def test_the_three_parts_are_the_whole(
        self, tokenizer: Any, prompt: str, chosen: str, rejected: str
    ) -> None:
        """Against the tokens of prompt + response + end in one piece, wherever tokens merge; none is empty."""
        row = tokenize_pairs([Pair(prompt, chosen, rejected)], tokenizer, 1024).rows()[0]
        for response, ids in ((chosen, row["chosen_ids"]), (rejected, row["rejected_ids"])):
            assert row["prompt_ids"] + ids == encode(tokenizer, prompt + response + "<|im_end|>")
            assert ids


class TestLength:
    def test_truncated_and_dropped_are_counted(self, tokenizer: Any) -> None:
        """Against lengths by hand: one pair fits, one response is too long by one token, one prompt fills it all."""
        pairs = [Pair("a b", "c", "d"), Pair("a b", "c d", "c"), Pair("a b c d e", " f", " g")]
        lengths = [
            [len(encode(tokenizer, p.prompt + r + "<|im_end|>")) for r in (p.chosen, p.rejected)]
            for p in pairs
        ]
        fits = max(lengths[0])
        assert lengths[1] == [fits + 1, fits]
        assert len(encode(tokenizer, pairs[2].prompt)) >= fits
        found = tokenize_pairs(pairs, tokenizer, fits)
        assert (len(found), found.truncated) == (2, 1)
        assert [bad.number for bad in found.dropped] == [3]
        prompt_tokens = len(encode(tokenizer, pairs[2].prompt))
        assert found.dropped[0].reason == f"the prompt has {prompt_tokens} tokens, max_length is {fits}"

    def test_none_left(self, tokenizer: Any) -> None:
        """Against the style's rule: an empty training set is an error with its cause."""
        with pytest.raises(DataError, match=r"no pair fits max_length 3: .*\(2 pairs\)"):
            tokenize_pairs(chats(2), tokenizer, 3)

    def test_rows_are_what_the_collator_takes(self) -> None:
        """Against the names in trl's DataCollatorForPreference."""
        pairs = TokenPairs([[1]], [[2, 3]], [[4]], [], 0)
        assert pairs.rows() == [{"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [4]}]


class TestTemplates:
    def test_conversations_without_a_template(self, bos_tokenizer: Any) -> None:
        """Against the cause in words; TRL's own error names a function of transformers."""
        bos_tokenizer.chat_template = None
        with pytest.raises(DataError, match="conversations but the tokenizer has no chat template"):
            tokenize_pairs(chats(1), bos_tokenizer, 100)

    def test_a_template_that_refuses(self, bos_tokenizer: Any) -> None:
        """Against what Gemma's template does with a system message: it raises through jinja2."""
        bos_tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
        with pytest.raises(
            DataError, match="chat template refuses a conversation: System role not supported"
        ):
            tokenize_pairs(chats(1), bos_tokenizer, 100)


class TestDoubleBos:
    """SimPO's authors met it: Llama 3's template writes BOS, its tokenizer adds one to every text."""

    LLAMA3 = (
        "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]\n\n{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}[assistant]\n\n{% endif %}"
    )
    RENDERED = "<|im_start|>[user]\n\nGive me a tip.<|im_end|>[assistant]\n\n"
    MESSAGES: ClassVar[list[dict[str, str]]] = [{"role": "user", "content": "Give me a tip."}]

    @pytest.fixture
    def llama3(self, bos_tokenizer: Any) -> Any:
        bos_tokenizer.chat_template = self.LLAMA3
        return bos_tokenizer

    def test_one_however_the_prompt_comes(self, llama3: Any) -> None:
        """Against BOS + the ids of the rest; the tokenizer alone makes two of what the template wrote."""
        bos = llama3.bos_token_id
        assert llama3(self.RENDERED)["input_ids"][:3].count(bos) == 2
        rest = llama3(self.RENDERED.removeprefix("<|im_start|>"), add_special_tokens=False)["input_ids"]
        assert encode(llama3, self.MESSAGES, generation_prompt=True) == [bos, *rest]
        assert encode(llama3, self.RENDERED) == [bos, *rest]
        assert encode(llama3, self.RENDERED.removeprefix("<|im_start|>")) == [bos, *rest]
        assert encode(llama3, "a").count(bos) == 1

    @pytest.mark.parametrize("kind", ["chat", "rendered", "plain"])
    def test_one_in_every_pair(self, llama3: Any, kind: str) -> None:
        """Against counting: one at the prompt's start, none in a response, the same ids whichever way they come."""
        answers = ("Drink water.", "Go for a walk.")
        if kind == "chat":
            pair = Pair(self.MESSAGES, *([{"role": "assistant", "content": text}] for text in answers))
        else:
            start = self.RENDERED if kind == "rendered" else self.RENDERED.removeprefix("<|im_start|>")
            pair = Pair(start, *answers)
        row = tokenize_pairs([pair], llama3, 1024).rows()[0]
        assert row["prompt_ids"] == encode(llama3, self.MESSAGES, generation_prompt=True)
        assert row["prompt_ids"].count(llama3.bos_token_id) == 1
        for name, text in zip(("chosen_ids", "rejected_ids"), answers, strict=True):
            assert row[name] == llama3(text + "<|im_end|>", add_special_tokens=False)["input_ids"]

    def test_a_template_that_doubles_it(self, llama3: Any) -> None:
        """Against the tokenizer's name and the token in the message: in prompts and in pairs."""
        llama3.chat_template = "{{ bos_token }}" + self.LLAMA3
        name = re.escape(llama3.name_or_path)
        match = rf"tokenizer {name}: two BOS tokens <\|im_start\|> at the start: its chat template writes it twice"
        with pytest.raises(DataError, match=match):
            encode(llama3, self.MESSAGES)
        with pytest.raises(DataError, match=match):
            tokenize_pairs(chats(1), llama3, 1024)

    def test_a_message_that_brings_it(self, llama3: Any) -> None:
        """Against a template that writes BOS and the message with nothing between; other places of it are allowed."""
        content = [{"role": "user", "content": "<|im_start|>Hi"}]
        assert encode(llama3, content).count(llama3.bos_token_id) == 2
        llama3.chat_template = "{{ bos_token }}{{ messages[0]['content'] }}"
        with pytest.raises(DataError, match=r"or the first message begins with it: '<\|im_start\|>Hi'"):
            encode(llama3, content)

    def test_texts_with_two(self, llama3: Any, tokenizer: Any) -> None:
        """Against a text with two of its own, with a tokenizer that adds one and with one that adds none."""
        match = re.escape("or the text begins with two: '<|im_start|><|im_start|>Hi'")
        for each in (llama3, tokenizer):
            with pytest.raises(DataError, match=match):
                encode(each, "<|im_start|><|im_start|>Hi")

    def test_a_tokenizer_that_adds_two(self, llama3: Any) -> None:
        """Against post-processing with BOS twice: no text brings either."""
        llama3.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|im_start|> <|im_start|> $A", special_tokens=[("<|im_start|>", llama3.bos_token_id)]
        )
        with pytest.raises(DataError, match="the tokenizer adds it twice"):
            encode(llama3, "Hi")

    def test_no_bos_at_all(self, llama3: Any) -> None:
        """Against Qwen's tokenizers, which declare none: nothing is checked and nothing removed."""
        expected = llama3("<|im_start|>Hi")["input_ids"]
        llama3.bos_token = None
        assert encode(llama3, "<|im_start|>Hi") == expected


def test_surrogates_never_reach_the_tokenizer(tmp_path: Any, tokenizer: Any) -> None:
    """Against tokenizers, which raises a TypeError about its own types for half an emoji."""
    from adadpo.data.pairs import DataSource

    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "a", "chosen": "cut \\ud83d", "rejected": "whole \\ud83d\\ude00"}\n')
    with pytest.raises(DataError, match="row 1: chosen has half of a surrogate pair"):
        load_pairs(DataSource("pairs", "file", str(file)))
