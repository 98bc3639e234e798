"""alpaca_eval as its users run it, decoder and client included: `-m tests.judges.the_package ROOT FILE CONFIG...`.

The address and the key come from the environment (OPENAI_API_BASE, OPENAI_API_KEY), as alpaca_eval documents.
Prints, for each configuration, the annotations and what the server was asked.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

if __name__ == "__main__":
    from alpaca_eval.annotators import PairwiseAnnotator

    root, pairs = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    found = {}
    for config in sys.argv[3:]:
        direct.open(urllib.request.Request(f"{root}/control", b"{}", method="POST")).close()
        annotator = PairwiseAnnotator(annotators_config=config, caching_path=None)
        rows = annotator.annotate_pairs(pairs)
        found[config] = {"rows": rows, "stats": json.load(direct.open(f"{root}/stats"))}
    print(json.dumps(found))
