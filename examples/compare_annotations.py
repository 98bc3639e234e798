"""Two AlpacaEval annotation files from Python: win rates, and a paired test over the prompts that both answered.

    python examples/compare_annotations.py A.json B.json

`adadpo compare A.json B.json -o page.html` does more: bootstrap intervals, and a page of the prompts that flipped.
"""

from __future__ import annotations

import sys

from adadpo import length_controlled_win_rate, read_annotations, sign_test, signed_rank_test, win_rate


def main(path_a: str, path_b: str) -> None:
    """Print what a paper would report of A, of B, and of their difference."""
    preferences = []
    for path in (path_a, path_b):
        annotations = read_annotations(path)
        raw, controlled = win_rate(annotations), length_controlled_win_rate(annotations)
        lc = controlled.length_controlled_win_rate  # None with a reason where it is undefined
        print(f"{path}: WR {raw.win_rate:.1f} (SE {raw.standard_error:.1f}, n = {raw.n})", end=", ")
        print(f"LC {lc:.1f} by {controlled.lc_method}" if lc is not None else f"no LC: {controlled.reason}")
        preferences.append(
            {each.instruction: each.preference for each in annotations if each.preference is not None}
        )

    a, b = preferences
    differences = [100 * (a[prompt] - b[prompt]) for prompt in a if prompt in b]
    test = signed_rank_test(differences)
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    print(f"A - B: {sum(differences) / len(differences):+.1f} points over {len(differences)} prompts")
    signs = sign_test(better, worse)
    print(f"signed-rank p = {test.p_value:.4f}; A better on {better}, worse on {worse}: p = {signs:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
