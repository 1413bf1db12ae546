"""One HTML page that stands alone: headline numbers, videos, pictures, bars and tables, light and dark."""

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spiking_centernet.utils.files import atomic_write

CSS = """
:root{--ground:#f6f7f9;--card:#fff;--ink:#17202e;--soft:#5a6677;--line:#dfe4ea;--accent:#0b6bb5;--note:#fff4d6;
--note-ink:#6a4a00;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--ground:#10141c;--card:#181e29;--ink:#e8ecf2;--soft:#9aa7b8;--line:#2a3342;
--accent:#5cb0f2;--note:#33290f;--note-ink:#f0d58c}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3em}
h2{font-size:1.2rem;margin:0 0 .6em}
p{margin:.4em 0 1em;max-width:70ch}
.lead{color:var(--soft);font-size:1.05rem}
.note{background:var(--note);color:var(--note-ink);border-radius:8px;padding:10px 14px;max-width:none}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0}
.tile,section{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{padding:14px 16px}
.tile b{display:block;font-size:1.7rem;line-height:1.2;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.86rem}
section{padding:20px;margin:20px 0}
figure{margin:0 0 16px}
figure:last-child{margin-bottom:0}
video,img{display:block;width:100%;max-width:820px;height:auto;border-radius:8px;background:#121621}
img.plain{background:#fff;max-width:640px}
img.wide{max-width:none}
figcaption{color:var(--soft);font-size:.88rem;margin-top:6px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(280px,1fr));gap:16px}
.scroll{overflow-x:auto;margin-bottom:18px}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 10px;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600}
tr:last-child td{border-bottom:0}
td.path,dd{overflow-wrap:anywhere}
.bar{display:grid;grid-template-columns:minmax(7rem,13rem) 1fr 4.2rem;gap:10px;align-items:center;font-size:.86rem;
margin:3px 0}
.bar i{display:block;height:10px;border-radius:5px;background:var(--accent);min-width:2px}
.bar span:last-child{text-align:right;font-variant-numeric:tabular-nums}
.bar span:first-child{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:0;font-size:.9rem}
dt{color:var(--soft)}
dd{margin:0;font-family:ui-monospace,monospace;font-size:.84rem}
@media(max-width:520px){main{padding:20px 12px 40px}section{padding:14px}h1{font-size:1.5rem}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:8px}.bar{grid-template-columns:9.5rem 1fr 3.6rem}}
"""


class Page:
    """Builds a page part by part; every text given is escaped.

    Args:
        title: of the page.
        lead: one or two sentences below it.
    """

    def __init__(self, title: str, lead: str):
        self._title = title
        self._parts = [f"<h1>{_text(title)}</h1><p class=lead>{_text(lead)}</p>"]

    def note(self, text: str) -> None:
        """Add a remark that must not be missed."""
        self._parts.append(f"<p class=note>{_text(text)}</p>")

    def tiles(self, values: Mapping[str, str]) -> None:
        """Add headline numbers by their captions."""
        tiles = (
            f"<div class=tile><b>{_text(value)}</b><span>{_text(name)}</span></div>" for name, value in values.items()
        )
        self._parts.append(f"<div class=tiles>{''.join(tiles)}</div>")

    def section(self, title: str, *blocks: str) -> None:
        """Add a section made of the blocks below."""
        self._parts.append(f"<section><h2>{_text(title)}</h2>{''.join(blocks)}</section>")

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, whole or not at all."""
        head = (
            '<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width,'
            f'initial-scale=1"><title>{_text(self._title)}</title><style>{CSS}</style>'
        )
        path = Path(path)
        with atomic_write(path) as temporary:
            temporary.write_text(f"{head}<main>{''.join(self._parts)}</main></html>\n", encoding="utf-8")
        return path


def _text(value: object) -> str:
    return html.escape(str(value))


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{_text(text)}</p>"


def video(source: str, caption: str, *, poster: str | None = None) -> str:
    """Return a video that lies at ``source``, relative to the page."""
    shown = f' poster="{_text(poster)}"' if poster else ""
    return (
        f'<figure><video controls loop muted playsinline preload=metadata src="{_text(source)}"{shown}></video>'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def image(source: str, caption: str, *, kind: str = "wide") -> str:
    """Return a picture that lies at ``source``, relative to the page; kind "plain" for plots, "wide" for mosaics."""
    return (
        f'<figure><img class="{_text(kind)}" loading=lazy src="{_text(source)}" alt="{_text(caption)}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def pair(*blocks: str) -> str:
    """Return blocks side by side where there is room."""
    return f"<div class=pair>{''.join(blocks)}</div>"


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Return a table."""
    head = "".join(f"<th>{_text(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def bars(shares: Mapping[str, float]) -> str:
    """Return horizontal bars of shares in [0, 1], the longest one full width."""
    longest = max(shares.values(), default=0.0) or 1.0
    rows = []
    for name, share in shares.items():
        label = f'<span title="{_text(name)}">{_text(name)}</span>'
        width = f"{100 * share / longest:.1f}%"
        rows.append(f'<div class=bar>{label}<div><i style="width:{width}"></i></div><span>{share:.2%}</span></div>')
    return "".join(rows)


def provenance_list(stamp: Mapping[str, Any]) -> str:
    """Return what :func:`provenance.provenance` says as a list of definitions."""
    rows = []
    for name, value in stamp.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        if value is None or isinstance(value, bool):
            value = {None: "none", True: "yes", False: "no"}[value]
        rows.append(f"<dt>{_text(name.replace('_', ' '))}</dt><dd>{_text(value)}</dd>")
    return f"<dl>{''.join(rows)}</dl>"
