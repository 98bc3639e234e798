"""Pairs are checked against rows written by hand, trl's extract_prompt, and files broken in every way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import trl
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adadpo.data.pairs import BadRow, DataSource, Pair, load_pairs, make_pair
from adadpo.errors import DataError, RowError
from tests.adadpo.adadpo_examples import chats, rows

USER = {"role": "user", "content": "Name a fruit."}
SYSTEM = {"role": "system", "content": "Be brief."}
APPLE, PEAR = {"role": "assistant", "content": "An apple."}, {"role": "assistant", "content": "A pear."}
CHAT = Pair([USER], [APPLE], [PEAR])
TEXT = Pair("Name a fruit:", " apple", " pear")


def write(folder: Path, content: Any, name: str = "pairs.jsonl") -> DataSource:
    file = folder / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, str):
        file.write_text(content, encoding="utf-8")
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return DataSource("my pairs", "file", str(file))


class TestFormats:
    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            ({"prompt": "Name a fruit:", "chosen": " apple", "rejected": " pear"}, TEXT),
            ({"chosen": "Name a fruit: apple", "rejected": "Name a fruit: pear"}, TEXT),
            ({"prompt": None, "chosen": "Name a fruit: apple", "rejected": "Name a fruit: pear"}, TEXT),
            ({"prompt": [USER], "chosen": [APPLE], "rejected": [PEAR]}, CHAT),
            ({"chosen": [USER, APPLE], "rejected": [USER, PEAR]}, CHAT),
            ({"prompt": "Name a fruit.", "chosen": [APPLE], "rejected": [PEAR]}, CHAT),
            ({"prompt": "Name a fruit.", "chosen": [USER, APPLE], "rejected": [USER, PEAR]}, CHAT),
            ({"prompt": [USER], "chosen": [USER, APPLE], "rejected": [USER, PEAR]}, CHAT),
            (
                {"chosen": [SYSTEM, USER, APPLE], "rejected": [SYSTEM, USER, PEAR]},
                Pair([SYSTEM, USER], [APPLE], [PEAR]),
            ),
            (
                {"prompt": [USER], "chosen": [{**APPLE, "name": "a"}], "rejected": [PEAR], "score": 0.5},
                CHAT,
            ),
        ],
        ids=["text", "text implicit", "text null prompt", "chat", "chat implicit", "string beside messages",
             "UltraFeedback", "prompt twice", "system", "extra keys"],
    )  # fmt: skip
    def test_accepted(self, row: dict[str, Any], expected: Pair) -> None:
        """Against TRL's four preference formats and princeton-nlp/llama3-ultrafeedback's, in normal form by hand."""
        assert make_pair(row) == expected

    @settings(deadline=None, max_examples=100)
    @given(prompt=st.text(min_size=1), a=st.text(min_size=1), b=st.text(min_size=1))
    def test_implicit_text_as_trl(self, prompt: str, a: str, b: str) -> None:
        """Against trl's extract_prompt, wherever the responses differ before the shorter one ends."""
        chosen, rejected = f"{prompt} {a}", f"{prompt} {b}"
        assume(any(x != y for x, y in zip(chosen, rejected, strict=False)))
        theirs = trl.extract_prompt({"chosen": chosen, "rejected": rejected})
        if not theirs["prompt"].strip() or not theirs["chosen"].strip() or not theirs["rejected"].strip():
            with pytest.raises(RowError, match="empty"):
                make_pair({"chosen": chosen, "rejected": rejected})
        else:
            assert make_pair({"chosen": chosen, "rejected": rejected}) == Pair(**theirs)

    def test_implicit_conversation_as_trl(self) -> None:
        """Against trl's extract_prompt over several turns."""
        row = {"chosen": [SYSTEM, USER, PEAR, USER, APPLE], "rejected": [SYSTEM, USER, PEAR, USER, PEAR]}
        assert make_pair(row) == Pair(**trl.extract_prompt(row))


class TestBadRows:
    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (["chosen", "rejected"], "expected an object, got list"),
            (None, "expected an object, got NoneType"),
            ({"prompt": "p", "chosen": "c", "text": 1}, r"column 'rejected' is missing \(has: chosen, prompt, text\)"),
            ({"rejected": "c"}, "column 'chosen' is missing"),
            ({"prompt": "p", "chosen": 3, "rejected": "r"}, "chosen must be text or a list of messages, got int"),
            ({"prompt": "p", "chosen": "c", "rejected": None}, "rejected must be text or a list .*, got NoneType"),
            ({"prompt": "p", "chosen": [], "rejected": [PEAR]}, "chosen must be text or a list .*, got list"),
            ({"prompt": {}, "chosen": "c", "rejected": "r"}, "prompt must be text or a list of messages, got dict"),
            ({"prompt": "p", "chosen": [{"role": "assistant"}], "rejected": [PEAR]}, "without a text 'role' and"),
            ({"prompt": "p", "chosen": ["c"], "rejected": [PEAR]}, "chosen has a message without a text"),
            ({"prompt": "p", "chosen": [{**APPLE, "content": [{"text": "x"}]}], "rejected": [PEAR]}, "without a text"),
            ({"prompt": "p", "chosen": "c", "rejected": [PEAR]}, "both be text or both be message lists"),
            ({"prompt": [USER], "chosen": "c", "rejected": "r"}, "prompt is a message list but chosen and rejected"),
            ({"prompt": "p", "chosen": "same", "rejected": "same"}, "chosen and rejected are equal"),
            ({"chosen": [USER, APPLE], "rejected": [USER, APPLE]}, "chosen and rejected are equal"),
            ({"chosen": "same", "rejected": "same"}, "chosen and rejected are equal"),
            ({"chosen": "apple", "rejected": "pear"}, "the prompt is empty or missing"),
            ({"chosen": [APPLE], "rejected": [PEAR]}, "the prompt is empty or missing"),
            ({"prompt": "", "chosen": "c", "rejected": "r"}, "the prompt is empty or missing"),
            ({"prompt": " \n", "chosen": "c", "rejected": "r"}, "the prompt is empty or missing"),
            ({"prompt": "", "chosen": [APPLE], "rejected": [PEAR]}, "the prompt is empty or missing"),
            ({"prompt": "p", "chosen": " \n", "rejected": "r"}, "chosen is empty"),
            ({"prompt": "p", "chosen": [APPLE], "rejected": [{**PEAR, "content": ""}]}, "rejected is empty"),
            ({"chosen": "A fruit", "rejected": "A fruit salad"}, "chosen is empty"),
            ({"chosen": [USER, APPLE, USER], "rejected": [USER, PEAR]}, "chosen must be one assistant message after"),
            ({"chosen": [USER, APPLE], "rejected": [USER, USER, PEAR]}, "rejected must be one assistant message"),
            ({"prompt": "p", "chosen": [APPLE, PEAR], "rejected": [PEAR]}, "chosen must be one assistant message"),
            ({"prompt": [SYSTEM], "chosen": [USER, APPLE], "rejected": [USER, PEAR]}, "prompt is not the conversation"),
            ({"prompt": "p", "chosen": "c", "rejected": "\ud83d"}, "rejected has half of a surrogate pair"),
            ({"prompt": [{**USER, "content": "\ude00"}], "chosen": [APPLE], "rejected": [PEAR]}, "prompt has half of"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )  # fmt: skip
    def test_every_reason(self, row: Any, reason: str) -> None:
        """Against the one thing that is wrong with the row."""
        with pytest.raises(RowError, match=reason):
            make_pair(row)

    def test_refused_with_numbers_and_reasons(self, tmp_path: Path) -> None:
        """Against rows 2 and 3 of three: both are named, and what to do."""
        source = write(tmp_path, [*rows([CHAT]), {"chosen": "c"}, 5])
        with pytest.raises(DataError) as caught:
            load_pairs(source)
        assert str(caught.value) == (
            "my pairs: 2 of 3 rows cannot be used (row 2: column 'rejected' is missing (has: chosen); "
            "row 3: expected an object, got int); correct them or set data.bad_rows: skip"
        )

    def test_many_are_summed_up(self, tmp_path: Path) -> None:
        """Against 7 bad rows: five are shown."""
        with pytest.raises(DataError, match=r"7 of 7 rows .*row 5: expected an object, got int and 2 more\)"):
            load_pairs(write(tmp_path, [1] * 7))

    def test_skipped_but_accounted_for(self, tmp_path: Path) -> None:
        """Against the same rows: nothing is dropped in silence."""
        found = load_pairs(write(tmp_path, [*rows([CHAT]), 5, *rows([TEXT])]), bad_rows="skip")
        assert found.pairs == [CHAT, TEXT]
        assert found.bad_rows == [BadRow(2, "expected an object, got int")]

    def test_nothing_left(self, tmp_path: Path) -> None:
        """Against files of bad rows only and of no row."""
        with pytest.raises(DataError, match="my pairs: no usable preference pair in 2 rows"):
            load_pairs(write(tmp_path, [1, 2]), bad_rows="skip")
        for name in ("pairs.jsonl", "pairs.json"):
            with pytest.raises(DataError, match="no usable preference pair in 0 rows"):
                load_pairs(write(tmp_path, "[]" if name.endswith("json") else "\n \n", name))


class TestFiles:
    def test_jsonl_and_json_hold_the_same(self, tmp_path: Path) -> None:
        """Against each other; blank lines, Windows line ends and a line separator inside a string do no harm."""
        odd = Pair([USER], [{"role": "assistant", "content": "one\u2028two"}], [PEAR])
        lines = [json.dumps(row, ensure_ascii=False) for row in rows([CHAT, odd])]
        jsonl = load_pairs(write(tmp_path, ("\r\n".join([lines[0], "", lines[1], ""])).encode()))
        array = load_pairs(write(tmp_path, f"[{','.join(lines)}]", "pairs.json"))
        assert jsonl.pairs == array.pairs == [CHAT, odd]

    def test_half_written_jsonl_names_line_and_column(self, tmp_path: Path) -> None:
        """Against the third line, cut in its string after column 12."""
        line = json.dumps(rows([TEXT])[0])
        source = write(tmp_path, f"{line}\n\n{line[:20]}")
        with pytest.raises(
            DataError, match=r"pairs\.jsonl:3:12: not JSON \(Unterminated string .*is the file whole\?"
        ):
            load_pairs(source)

    def test_half_written_json_names_line_and_column(self, tmp_path: Path) -> None:
        """Against a list that ends after the comma of its second line."""
        source = write(tmp_path, '[\n{"chosen": "c",', "pairs.json")
        with pytest.raises(DataError, match=r"pairs\.json:2:1[0-9]: not JSON"):
            load_pairs(source)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("pairs.jsonl", b'{"prompt": "caf\xe9"}', r"pairs\.jsonl: not UTF-8 text \(byte 15\)"),
            ("pairs.json", b'{"chosen": []}', r"expected a list of rows, got dict"),
            ("pairs.csv", b"a,b", r"pairs\.csv: data files end in \.json or \.jsonl"),
        ],
    )
    def test_not_a_data_file(self, tmp_path: Path, name: str, content: bytes, message: str) -> None:
        """Against the one thing that is wrong with the file."""
        with pytest.raises(DataError, match=message):
            load_pairs(write(tmp_path, content, name))

    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        """Against the operating system's words, for reading and for the identity."""
        gone = DataSource("my pairs", "file", str(tmp_path / "gone.jsonl"))
        with pytest.raises(DataError, match=r"cannot read data file .*gone\.jsonl: No such file"):
            load_pairs(gone)
        with pytest.raises(DataError, match=r"gone\.jsonl"):
            _ = gone.identity
        (tmp_path / "folder.jsonl").mkdir()
        with pytest.raises(DataError, match="cannot read data file"):
            load_pairs(DataSource("my pairs", "file", str(tmp_path / "folder.jsonl")))

    def test_limit(self, tmp_path: Path) -> None:
        """Against the first usable rows; bad rows among them are still seen, later ones are not read."""
        file = write(tmp_path, [*rows(chats(1)), 5, *rows(chats(4)[1:]), 6])
        some = DataSource(file.name, "file", file.location, limit=3)
        found = load_pairs(some, bad_rows="skip")
        assert found.pairs == chats(3)
        assert [bad.number for bad in found.bad_rows] == [2]
        with pytest.raises(DataError, match="1 of 4 rows"):
            load_pairs(some)


class TestHub:
    def test_a_split_of_a_data_set(self, tmp_path: Path) -> None:
        """Against the rows that were saved: a data set on this machine stands for the hub's."""
        folder = tmp_path / "data set"
        folder.mkdir()
        write(folder, rows(chats(3)), "train.jsonl")
        write(folder, rows(chats(1)), "test.jsonl")
        assert load_pairs(DataSource("d", "hub", str(folder))).pairs == chats(3)
        assert load_pairs(DataSource("d", "hub", str(folder), split="test", limit=1)).pairs == chats(1)

    def test_failure_is_one_plain_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Against a connection error of several lines; without its first line there is at least its type."""
        for error, text in (
            (ConnectionError("no route\nto hub"), "ConnectionError: no route"),
            (OSError(), "OSError"),
        ):

            def fail(*args: Any, error: Exception = error, **kwargs: Any) -> None:
                raise error

            monkeypatch.setattr(datasets, "load_dataset", fail)
            with pytest.raises(DataError) as caught:
                load_pairs(DataSource("d", "hub", "org/pairs", "train", "v2"))
            assert f"cannot load data set 'org/pairs' (split train, revision v2): {text}" in str(caught.value)
            assert "\n" not in str(caught.value)


class TestIdentity:
    def test_content_not_path(self, tmp_path: Path) -> None:
        """Against copies and one changed byte: the same pairs are the same everywhere, and other pairs are not."""
        for name in ("here", "there"):
            (tmp_path / name).mkdir()
        here, there = (write(tmp_path / name, rows(chats(2))) for name in ("here", "there"))
        assert here.identity == there.identity
        assert str(tmp_path) not in here.identity
        write(tmp_path / "there", rows(chats(3)))
        assert here.identity != there.identity

    def test_what_else_counts(self, tmp_path: Path) -> None:
        """Against each field that changes the pairs; the name a user chose does not."""
        here = write(tmp_path, rows(chats(3)))
        hub = {"name": "n", "kind": "hub", "location": "org/pairs"}
        others: list[dict[str, Any]] = [{}, {"split": "test"}, {"revision": "v2"}, {"limit": 5}]
        found = [
            here.identity,
            DataSource("n", "file", here.location, limit=2).identity,
            *(DataSource(**hub, **more).identity for more in others),
        ]
        assert len(set(found)) == len(found)
        assert DataSource("other name", "file", here.location).identity == here.identity
        # Pinned: stored runs are named by it.
        assert DataSource("n", "hub", "org/pairs", "train", "v2", 5).identity == "hub:org/pairs@v2/train[:5]"
