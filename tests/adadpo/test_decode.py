"""Decoding is checked against transformers' own generate and against distributions in closed form."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adadpo.data.tokens import encode
from adadpo.generation.decode import chooser, decode, sample
from adadpo.generation.generate import generate
from adadpo.generation.responses import derived_seed
from adadpo.models.policy import Base
from tests.adadpo.test_generation import GREEDY, PROMPTS, SAMPLED, ids_of, loud


@pytest.fixture
def lively(fresh_model: Any) -> Any:
    return loud(fresh_model())


def greedy(model: Any, ids: list[list[int]], ends: list[int], length: int) -> list[list[int]]:
    return decode(
        model, ids, chooser(GREEDY, range(len(ids))), ends=ends, pad_token_id=0, max_new_tokens=length
    )


def by_transformers(model: Any, ids: list[list[int]], ends: list[int], length: int) -> list[list[int]]:
    """Each prompt alone through `generate`."""
    found = []
    for one in ids:
        sequence = model.generate(
            torch.tensor([one]), attention_mask=torch.ones(1, len(one), dtype=torch.long), do_sample=False,
            max_new_tokens=length, eos_token_id=ends, pad_token_id=0,
        )  # fmt: skip
        found.append(sequence[0, len(one) :].tolist())
    return found


@settings(max_examples=15, deadline=None)
@given(
    ids=st.lists(st.lists(st.integers(3, 400), min_size=1, max_size=9), min_size=1, max_size=12),
    ends=st.lists(st.integers(3, 400), min_size=1, max_size=150, unique=True),
)
def test_greedy_rows_that_end_at_different_steps(base: Base, ids: list[list[int]], ends: list[int]) -> None:
    """Against transformers' generate, prompt by prompt, in float32: rows that end do not touch the others."""
    model = loud(copy.deepcopy(base.model))
    expected = by_transformers(model, ids, ends, 12)
    assert greedy(model, ids, ends, 12) == expected


def test_the_batch_shrinks(lively: Any, base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the rows of every forward: those that have ended cost nothing from then on."""
    ids = [encode(base.tokenizer, prompt, generation_prompt=True) for prompt in PROMPTS]
    whole = greedy(lively, ids, [], 10)
    assert all(len(row) == 10 for row in whole)
    end = whole[0][2]
    rows: list[int] = []
    handle = lively.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    found = greedy(lively, ids, [end], 10)
    handle.remove()
    lengths = [row.index(end) + 1 if end in row else 10 for row in whole]
    assert [len(row) for row in found] == lengths
    assert rows == [sum(length > step for length in lengths) for step in range(max(lengths))]
    assert min(rows) < max(rows) == len(ids)


def test_a_prompt_s_numbers_are_its_own(lively: Any, base: Base) -> None:
    """Against other batches, in float32: neither their size nor their company changes a response."""
    expected = ids_of(generate(lively, base.tokenizer, PROMPTS, SAMPLED))
    for size in (1, 2, 3):
        found = generate(lively, base.tokenizer, PROMPTS, SAMPLED.model_copy(update={"batch_size": size}))
        assert ids_of(found) == expected


@settings(max_examples=50, deadline=None)
@given(
    logits=st.lists(st.floats(-8, 8), min_size=2, max_size=20),
    temperature=st.floats(0.2, 3),
    top_p=st.floats(0.05, 1),
)
def test_the_distribution(logits: list[float], temperature: float, top_p: float) -> None:
    """Against the closed form: uniform numbers on a grid give each token its share of them, zero outside the top p."""
    row, grid = torch.tensor([logits]), 20_000
    uniforms = torch.arange(grid, dtype=torch.float64) / grid
    drawn = sample(row.expand(grid, -1), uniforms, temperature=temperature, top_p=top_p)
    shares = np.bincount(drawn.numpy(), minlength=len(logits)) / grid
    p = torch.softmax(row[0].double() / temperature, 0).numpy()
    order = np.argsort(-p, kind="stable")
    reached = np.cumsum(p[order])
    # Where top_p is met exactly, or by equal tokens, rounding decides which are in.
    assume(top_p == 1 or np.abs(reached - top_p).min() > 1e-5)
    kept = order[: int(np.searchsorted(reached, top_p) + 1)]
    assume(len(kept) == len(p) or p[order[len(kept) - 1]] - p[order[len(kept)]] > 1e-6)
    expected = np.zeros_like(p)
    expected[kept] = p[kept] / p[kept].sum()
    assert shares == pytest.approx(expected, abs=2 / grid + 1e-5)


def test_edges_of_the_distribution() -> None:
    """Against what must never be drawn: tokens of probability 0, at both ends of the unit interval."""
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]] * 2)
    uniforms = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert sample(logits, uniforms, temperature=1.0).tolist() == [1, 2]


def test_the_uniform_numbers(base: Base) -> None:
    """Against numpy's Philox by hand: seed and place decide, step by step."""
    choose = chooser(SAMPLED, [7, 4])
    logits = torch.zeros(2, 1000)
    for step in (0, 3):
        expected = [
            int(np.random.Generator(np.random.Philox(derived_seed(5, place))).random(10)[step] * 1000)
            for place in (7, 4)
        ]
        assert choose(logits, step, [0, 1]).tolist() == expected
        assert choose(logits[:1], step, [1]).tolist() == expected[1:]
