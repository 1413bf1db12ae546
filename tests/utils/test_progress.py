"""The bar: who sees it, and that what it counts passes through unchanged."""

import io
import logging
import sys

import pytest

from spiking_centernet.cli.program import main
from spiking_centernet.utils.progress import Progress, close, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """Make standard error a terminal from here on; a fixture would be undone by pytest's capture."""
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")


def shown(level, **settings):
    logger = logging.getLogger("spiking_centernet")
    before = logger.level
    logger.setLevel(level)
    try:
        with Progress("work", 3, **settings) as outer, Progress("part") as inner:
            outer.advance(what="working")
            inner.advance()
            return outer.shown, inner.shown
    finally:
        logger.setLevel(before)


def test_only_the_outermost_bar_is_shown_and_only_where_messages_are(monkeypatch):
    terminal(monkeypatch)
    assert shown(logging.INFO) == (True, False)
    assert "working" in sys.stderr.getvalue()
    assert shown(logging.WARNING) == (False, False)
    assert shown(logging.INFO) == (True, False)


def test_a_hidden_bar_hides_those_within(monkeypatch):
    terminal(monkeypatch)
    assert shown(logging.INFO, hidden=True) == (False, False)


def test_nothing_is_shown_in_a_file(capsys):
    assert shown(logging.INFO) == (False, False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("items", [[], [3, 1, 2]])
def test_items_pass_through(items):
    assert list(track(items, "work")) == items
    assert list(track(iter(items), "work", len(items))) == items


def test_quiet_leaves_results_alone(capsys, tmp_path):
    (tmp_path / "a.csv").write_text("t,x,y,p\n" + "".join(f"{1000 * k},{k},{k},1\n" for k in range(50)))
    words = ["stream", "nano", str(tmp_path / "a.csv"), "--size", "64x64", "--unit", "us", "--policy", "wait"]
    assert main(words) == 0
    loud = capsys.readouterr()
    assert "1 answer, 0 boxes" in loud.err
    assert main([*words, "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert quiet.err == ""
    assert len(quiet.out.splitlines()) == len(loud.out.splitlines())


def test_an_error_leaves_no_bar_behind(monkeypatch):
    terminal(monkeypatch)
    monkeypatch.setattr(logging.getLogger("spiking_centernet"), "level", logging.INFO)
    items = track([1, 2], "work")
    next(items)
    assert Progress._outermost is not None
    close()
    assert Progress._outermost is None
    assert shown(logging.INFO) == (True, False)
