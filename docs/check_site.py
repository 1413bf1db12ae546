"""Check the built documentation site: every link, anchor, picture, page of the navigation and documented name is there.

    python docs/check_site.py

Zensical's strict mode checks links between pages before they are rendered. This looks at what a browser gets, which
covers anchors of generated pages, names that mkdocstrings could not document, and files loaded from elsewhere.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import yaml

ROOT = Path(__file__).resolve().parents[1]


class Page(HTMLParser):
    """The links and anchors of one page.

    Attributes:
        anchors: what a link may name behind ``#``.
        links: what the page links to or loads.
        loaded: scripts, styles and pictures among them.
    """

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = {"", "__top"}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the anchor and the link of a tag."""
        values = dict(attrs)
        self.anchors.add(values.get("id") or "")
        link = values.get("href") or values.get("src")
        if link and values.get("rel") not in ("canonical", "prev", "next"):
            self.links.append(link)
            if tag in ("script", "img", "link", "iframe"):
                self.loaded.append(link)


def problems(site: Path) -> Iterator[str]:
    """Yield a line for everything that is missing in a built site."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    for path, page in pages.items():
        name = path.relative_to(site)
        yield from (f"{name}: loads {link} from elsewhere" for link in page.loaded if re.match(r"(https?:)?//", link))
        for link in page.links:
            address, anchor = urldefrag(link)
            if re.match(r"[a-z]+:|//", address):
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            if not target.exists():
                yield f"{name}: {link} leads nowhere"
            elif target in pages and unquote(anchor) not in pages[target].anchors:
                yield f"{name}: {link} names no heading"
    documented = set().union(*(page.anchors for page in pages.values()))
    for path in sorted((ROOT / "docs").rglob("*.md")):
        for wanted in re.findall(r"^::: (\S+)$", path.read_text(encoding="utf-8"), re.M):
            if wanted not in documented:
                yield f"{path.relative_to(ROOT)}: {wanted} is not documented"
    for place in _places(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]):
        if not (site / place).with_suffix(".html").exists():
            yield f"mkdocs.yml: there is no page {place}"


def _places(nav: list) -> Iterator[str]:
    for entry in nav:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else _places(value)


def main() -> int:
    """Print what is missing; return the exit status."""
    site = ROOT / "site"
    if not (site / "index.html").exists():
        raise SystemExit("there is no site; build it with make docs")
    found = sorted(set(problems(site)))
    sys.stdout.write("".join(f"{line}\n" for line in found) or "every link, anchor and name is there\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
