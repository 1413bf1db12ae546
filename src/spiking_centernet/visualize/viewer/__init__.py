"""The viewer's page: one HTML file without framework, build step or network.

The page takes a description of a clip and its frames, as :class:`spiking_centernet.inference.clip.Clip` makes them:
inside the file, or from the server that delivered the page.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from spiking_centernet.visualize.draw import CLASS_COLORS, STRENGTH, THEMES

FOLDER = Path(__file__).parent

SCRIPTS = ("decode.js", "store.js", "picture.js", "plots.js", "spikes.js", "controls.js", "main.js")
"""The parts of the page's one script, in order."""

FRAMES_PER_BLOCK = 20
"""Frames inside a file are read in blocks, so that a browser parses only what it shows."""


def policy(*, served: bool) -> str:
    """Return the content security policy: the page's own script and style, nothing from anywhere else.

    Args:
        served: whether the page may ask the server that delivered it for frames.
    """
    script, style = _assets()
    connect = "'self'" if served else "'none'"
    return (
        f"default-src 'none'; script-src {_hash_of(script)}; style-src {_hash_of(style)}; img-src data: blob:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def render(description: Mapping[str, Any], frames: Iterable[Any] | None = None) -> str:
    """Return the page.

    Args:
        description: of the clip, JSON values.
        frames: of the clip, JSON values, all of them; None where the page asks its server.
    """
    import jinja2
    from markupsafe import Markup

    blocks: list[list[str]] = []
    for number, frame in enumerate(() if frames is None else frames):
        if number % FRAMES_PER_BLOCK == 0:
            blocks.append([])
        blocks[-1].append(_json(frame))
    look = {
        "themes": {name: vars(theme) for name, theme in THEMES.items()},
        "classes": CLASS_COLORS, "strength": STRENGTH, "frames_per_block": FRAMES_PER_BLOCK,
    }  # fmt: skip
    script, style = _assets()
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_read("view.html"))
    return template.render(
        title=description["title"], policy=policy(served=frames is None), style=Markup(style), script=Markup(script),
        look=Markup(_json(look)), description=Markup(_json(description)),
        blocks=[Markup(f"[{','.join(block)}]") for block in blocks],
    )  # fmt: skip


def _json(values: Any) -> str:
    # Inside <script> only "<" could end the element or open a comment.
    return json.dumps(values, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


@cache
def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def _assets() -> tuple[str, str]:
    """Return the script and the style."""
    parts = "\n".join(_read(name) for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n', _read("view.css")


@cache
def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
