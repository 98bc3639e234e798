"""Hooks of mkdocs: README.md is the front page, and pages outside docs/ that others link to are part of the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Path in the repository -> page of the site; files of docs/ lose their folder.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "sweeps/data/README.md": "data.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Adds README.md and the rest to what mkdocs found in docs/."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text(encoding="utf-8")))
    for path in sorted((ROOT / "bench" / "results").iterdir()):
        files.append(File.generated(config, f"bench/results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links by paths of the repository become links of the site; what is not on the site keeps its name alone."""
    origin = {site: path for path, site in PAGES.items()}.get(page.file.src_uri)
    if origin is None:
        inside = page.file.src_uri.startswith("bench/")
        origin = page.file.src_uri if inside else f"docs/{page.file.src_uri}"

    def rewritten(link: re.Match[str]) -> str:
        image, text, target, anchor = link.groups(default="")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        place = PAGES.get(path) or path.removeprefix("docs/")
        on_site = (
            path in PAGES or path.startswith("docs/") or Path(ROOT, path).parent == ROOT / "bench" / "results"
        )
        if not on_site:
            return text
        here = posixpath.dirname(page.file.src_uri)
        return f"{image}[{text}]({posixpath.relpath(place, here or '.')}{anchor})"

    return LINK.sub(rewritten, markdown)
