"""Stage the pages of the documentation site in ``build/docs``, where mkdocs.yml looks for them.

    python docs/stage.py

The sources read well on a code host: links lead to files of the repository. A site holds pages only. So README.md
becomes the home page, other pages at the top of the repository join those of ``docs/``, a file or folder that a page
links to becomes a page that shows it, and the reference of the commands is what ``scn COMMAND --help`` prints.
"""

import contextlib
import io
import os
import posixpath
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "docs"

TOP_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "SECURITY.md": "security.md",
}
"""Pages at the top of the repository -> their place on the site."""

LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".sh": "bash", ".toml": "toml"}
"""File endings -> language of the fence that shows such a file."""

LINK = re.compile(r"(\]\()([^)\s]+)(\))|((?:src|href)=\")([^\"]+)(\")")
FENCE = re.compile(r"^(`{3,}).*?^\1$", re.M | re.S)
COMMENT = re.compile(r"^<!--.*?-->\n", re.M | re.S)


def sources() -> dict[str, str]:
    """Return every page of the repository and its place on the site, both as paths with slashes."""
    pages = {path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs").as_posix() for path in _doc_pages()}
    return {**pages, **{page: place for page, place in TOP_PAGES.items() if (ROOT / page).exists()}}


def _doc_pages() -> Iterator[Path]:
    # docs/README.md is the table of contents on a code host; the site has its navigation.
    yield from (path for path in sorted((ROOT / "docs").rglob("*.md")) if path != ROOT / "docs" / "README.md")


class Stage:
    """The pages being staged, and the files they link to."""

    def __init__(self) -> None:
        self.pages = sources()
        self.shown: set[str] = set()

    def page(self, source: str) -> str:
        """Return a page of the repository as the site needs it."""
        return self.convert((ROOT / source).read_text(encoding="utf-8"), source)

    def convert(self, text: str, source: str) -> str:
        """Return the text of a page with its links leading to pages of the site."""
        parts, end = [], 0
        for fence in FENCE.finditer(text):
            parts += [self._prose(text[end : fence.start()], source), fence[0]]
            end = fence.end()
        return "".join([*parts, self._prose(text[end:], source)])

    def _prose(self, text: str, source: str) -> str:
        text = COMMENT.sub("\n", text).replace("<details>", '<details markdown="1">')
        return LINK.sub(lambda m: self._link(m, source), text)

    def _link(self, match: re.Match[str], source: str) -> str:
        before, target, after = (match[k] or match[k + 3] for k in (1, 2, 3))
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return match[0]
        place = self._place(posixpath.normpath(posixpath.join(posixpath.dirname(source), path)))
        start = posixpath.dirname(self.pages[source])
        return f"{before}{posixpath.relpath(place, start or '.')}{'#' if anchor else ''}{anchor}{after}"

    def _place(self, target: str) -> str:
        """Return where on the site the file or folder at a path of the repository lies."""
        if target == "docs/README.md":
            return "index.md"
        if target in self.pages:
            return self.pages[target]
        if target.startswith("docs/") and (ROOT / target).is_file() and not target.endswith(".py"):
            return target.removeprefix("docs/")
        self.shown.add(target)
        return f"files/{target}.md"

    def file_page(self, target: str) -> str:
        """Return a page that shows a file, or the names in a folder."""
        path = ROOT / target
        if path.is_dir():
            names = "\n".join(f"- `{child.name}`" for child in sorted(path.iterdir()) if child.name[0] not in "_.")
            return f"# {target}/\n\n{names}\n"
        text = path.read_text(encoding="utf-8").rstrip()
        return f"# {target}\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{text}\n````\n"


def commands_page() -> str:
    """Return the reference of the commands, as each prints it for ``--help``."""
    overview = _help()
    names = re.findall(r"^ {2,4}([a-z]+) {2,}\S", overview, re.M)
    if not names:
        raise SystemExit("scn --help lists no commands")
    parts = ["# Commands", "What `scn` and each of its commands print for `--help`.", f"```text\n{overview}\n```"]
    for name in names:
        parts += [f"## scn {name}", f"```text\n{_help(name)}\n```"]
    return "\n\n".join(parts) + "\n"


def _help(*words: str) -> str:
    from spiking_centernet.__main__ import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return printed.getvalue().strip()


def main() -> None:
    """Write every page, picture and style sheet."""
    os.environ["COLUMNS"] = "84"  # width of the help
    shutil.rmtree(OUT, ignore_errors=True)
    for folder in ("images", "stylesheets"):
        shutil.copytree(ROOT / "docs" / folder, OUT / folder)
    stage = Stage()
    pages = {place: stage.page(source) for source, place in stage.pages.items()}
    pages["reference/commands.md"] = commands_page()
    pages |= {f"files/{target}.md": stage.file_page(target) for target in sorted(stage.shown)}
    for place, text in pages.items():
        path = OUT / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"staged {len(pages)} pages in {OUT.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
