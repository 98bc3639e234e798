"""Write docs/results.schema.json and docs/results.md from the models of `results.json`.

python -m tools.describe_results docs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from analysis.document import SCHEMA_VERSION, Results

HEAD = f"""# results.json

`adadpo launch`, `adadpo report` and `adadpo compare runs.csv -o FOLDER` write it next to the report, which
shows nothing else. This page and [results.schema.json](results.schema.json), the same as a JSON schema, are made by
`python -m tools.describe_results docs`.

- A header says what was run. `blocks` holds the statistics, one block each: `kind` names it, `what` says what it is,
  `value` is the result, `sentence` the finding in words, `reason` says why `value` is null.
- Schema version {SCHEMA_VERSION} (`schema_version`). A file of another version is refused: run
  `adadpo report` again.
- null is undefined, never 0. NaN and infinities do not occur.
- Win rates and their differences are in percentage points, shares in [0, 1] unless `unit` says %, times in seconds.
- Differences are candidate minus baseline. Values are not rounded.
- Text from models, data and judges is unchanged: treat it as untrusted.
"""


def schema() -> dict[str, Any]:
    """The JSON schema of `Results`."""
    return Results.model_json_schema()


def schema_text() -> str:
    """The schema as it is kept."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


def page() -> str:
    """`Results`, its blocks in one table, then a table of fields for each model that they are made of."""
    whole = schema()
    models = {name: each for name, each in sorted(whole["$defs"].items()) if "properties" in each}
    blocks = {name: models.pop(name)["properties"] for name in list(models) if _is_block(models[name])}
    parts = [HEAD, _table("Results", whole)]
    rows = [
        f"| {_type(fields['kind'])} | {_type(fields['value'])} | {fields['what']['default']} |"
        for fields in blocks.values()
    ]
    parts.append("\n".join(["## Blocks\n", "| kind | value | what it is |", "|---|---|---|", *rows]) + "\n")
    parts += [_table(name, each) for name, each in models.items()]
    choices = {name: each for name, each in sorted(whole["$defs"].items()) if "enum" in each}
    parts += [
        f"## {name}\n\n{' '.join(each.get('description', '').split())}\n\n"
        f"One of {', '.join(f'`{value}`' for value in each['enum'])}.\n"
        for name, each in choices.items()
    ]
    return "\n".join(parts)


def _is_block(model: dict[str, Any]) -> bool:
    return {"kind", "what", "value"} <= set(model["properties"])


def _table(name: str, model: dict[str, Any]) -> str:
    """A model's fields."""
    rows = []
    for field, value in model["properties"].items():
        kind = "list of blocks" if field == "blocks" else _type(value)
        rows.append(f"| `{field}` | {kind} | {' '.join(value.get('description', '').split())} |")
    about = " ".join(model.get("description", "").split())
    return (
        "\n".join([f"## {name}\n", f"{about}\n", "| field | type | what it is |", "|---|---|---|", *rows])
        + "\n"
    )


def _type(field: dict[str, Any]) -> str:
    """A field's type as a reader of JSON knows it."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "const" in field or "enum" in field:
        return ", ".join(f"`{json.dumps(each)}`" for each in field.get("enum", [field.get("const")]))
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " or ".join(map(_type, field[key]))
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}" if field.get("items") else "list"
    if field.get("type") == "object" and "additionalProperties" in field:
        return (
            f"object of {_type(field['additionalProperties'])}" if field["additionalProperties"] else "object"
        )
    return str(field.get("type", "any"))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "results.md").write_text(page(), encoding="utf-8")
    (folder / "results.schema.json").write_text(schema_text(), encoding="utf-8")
