"""One HTML page that stands alone: headline numbers, views, pictures, bars and tables, light and dark.

The markup lies in ``templates/``: ``page.html``, ``page.css`` and ``blocks.html``, which has a macro for every block.
Jinja2 escapes whatever text it is given.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from spiking_centernet.utils.files import atomic_write

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _templates() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _block(name: str, *arguments: object) -> str:
    """Return a macro of ``blocks.html`` as markup that is not escaped again."""
    return getattr(_templates().get_template("blocks.html").module, name)(*arguments)


class Page:
    """Builds a page part by part; every text given is escaped.

    Args:
        title: of the page.
        lead: one or two sentences below it.
    """

    def __init__(self, title: str, lead: str):
        self._title = title
        self._lead = lead
        self._parts: list[str] = []

    def note(self, text: str) -> None:
        """Add a remark that must not be missed."""
        self._parts.append(_block("note", text))

    def tiles(self, values: Mapping[str, str]) -> None:
        """Add headline numbers by their captions."""
        self._parts.append(_block("tiles", values))

    def section(self, title: str, *blocks: str) -> None:
        """Add a section made of the blocks below."""
        self._parts.append(_block("section", title, blocks))

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, whole or not at all."""
        text = _templates().get_template("page.html").render(title=self._title, lead=self._lead, parts=self._parts)
        path = Path(path)
        with atomic_write(path) as temporary:
            temporary.write_text(f"{text}\n", encoding="utf-8")
        return path


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return _block("paragraph", text)


def view(source: str, caption: str) -> str:
    """Return the viewer's page that lies at ``source``, relative to the page, inside it."""
    return _block("view", source, caption)


def image(source: str, caption: str, *, kind: str = "wide") -> str:
    """Return a picture that lies at ``source``, relative to the page.

    Args:
        source: the picture's place.
        caption: below it.
        kind: "wide" for mosaics, "plain" for line plots on white, "clear" for pictures without a ground of their own.
    """
    return _block("image", source, caption, kind)


def pair(*blocks: str) -> str:
    """Return blocks side by side where there is room."""
    return _block("pair", blocks)


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Return a table."""
    return _block("table", rows, header)


def bars(shares: Mapping[str, float]) -> str:
    """Return horizontal bars of shares in [0, 1], the longest one full width."""
    return _block("bars", shares, max(shares.values(), default=0.0) or 1.0)


def part_bars(rows: Mapping[str, tuple[float, float, str]]) -> str:
    """Return horizontal bars of a part within a whole, the largest whole full width.

    Args:
        rows: by name the whole, the part, and what to write behind the bar.
    """
    return _block("part_bars", rows, max((whole for whole, *_ in rows.values()), default=0.0) or 1.0)


def provenance_list(stamp: Mapping[str, Any]) -> str:
    """Return what :func:`provenance.provenance` says as a list of definitions."""
    rows = {}
    for name, value in stamp.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        if value is None or isinstance(value, bool):
            value = {None: "none", True: "yes", False: "no"}[value]
        rows[name.replace("_", " ")] = value
    return _block("definitions", rows)
