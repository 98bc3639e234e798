"""Every page that the code or a page cites is in the repository: a reader can open it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("adadpo", "analysis", "bench", "docs", "examples", "reports", "sweeps", "tests")
PAGE = re.compile(r"[\w./-]*\w\.md\b", flags=re.I)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


def texts() -> dict[Path, str]:
    """Code, sweep files, templates and pages by path."""
    files = [*ROOT.glob("*.md"), *ROOT.glob("*.toml")]
    for folder in FOLDERS:
        for ending in ("py", "yaml", "html", "j2", "md", "tex"):
            files += (ROOT / folder).rglob(f"*.{ending}")
    apart = {Path(__file__), ROOT / "docs" / "site.py"}  # the second names pages of the site
    return {file: file.read_text(encoding="utf-8") for file in files if file not in apart}


def existing(file: Path, name: str) -> bool:
    """Whether it lies beside the file or at the root, or is a page's bare name in one of the folders."""
    if (file.parent / name).exists() or (ROOT / name).exists():
        return True
    return "/" not in name and any(any((ROOT / folder).rglob(name)) for folder in FOLDERS)


def test_cited_pages_exist() -> None:
    """Against the files."""
    missing = {
        f"{file.relative_to(ROOT)}: {name}"
        for file, text in texts().items()
        for name in PAGE.findall(re.sub(r"https?://\S+", "", text))
        if not existing(file, name)
    }
    assert not missing, sorted(missing)


def test_links_of_pages_lead_somewhere() -> None:
    """Against the files, for every relative link of every page."""
    pages = {file: text for file, text in texts().items() if file.suffix == ".md"}
    assert len(pages) > 8
    broken = {
        f"{file.relative_to(ROOT)}: {target}"
        for file, text in pages.items()
        for target, _ in LINK.findall(text)
        if "://" not in target and not target.startswith("mailto:") and not (file.parent / target).exists()
    }
    assert not broken, sorted(broken)


def test_paths_of_the_contributors_page_exist() -> None:
    """Every path that CONTRIBUTING.md names, and every room of the four packages named by it."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"(?<![\w./])(?:adadpo|analysis|reports|sweeps|tests|examples|docs)/[\w./]*\w/?", page)
    assert len(paths) > 40
    assert [path for path in paths if "NAME" not in path and not (ROOT / path).exists()] == []
    rooms = {
        f"{package}/{folder.name}/"
        for package in ("adadpo", "analysis", "reports", "sweeps")
        for folder in (ROOT / package).iterdir()
        if (folder / "__init__.py").exists() and folder != ROOT / "sweeps" / "data"
    }
    assert sorted(room for room in rooms if f"`{room}`" not in page) == []
