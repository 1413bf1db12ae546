import json
import re

import pytest
from tiny import tiny_detector

from spiking_centernet.cli.program import main
from spiking_centernet.data import open, read_boxes
from spiking_centernet.data.io import sample
from spiking_centernet.experiments import demo
from spiking_centernet.model import weights
from spiking_centernet.visualize import html


def test_the_real_clip_ships_with_boxes_and_license():
    recording = open(sample("sample-real"))
    assert (recording.size_hw, recording.num_events) == ((260, 346), 6676)
    assert len(read_boxes(sample("sample-real").with_name("icns_roadside_cars_bbox.npy"))) == 14
    notice = sample("sample-real").with_name("NOTICE.txt").read_text()
    assert "Copyright (c) 2020 International Centre for Neuromorphic Systems" in notice


def test_the_real_clip_is_the_recording_it_says(recordings_dir):
    original = recordings_dir / "icns_roadside_cars" / sample("sample-real").name
    assert original.read_bytes() == sample("sample-real").read_bytes()


def test_a_page_escapes_what_it_is_told(tmp_path):
    page = html.Page("a <b> & c", "lead")
    page.tiles({"<i>": "1 < 2"})
    page.section("s", html.table([["<x>"]], ["<h>"]), html.bars({"<n>": 0.5, "m": 0.25, "zero": 0.0}))
    text = page.write(tmp_path / "page.html").read_text()
    body = text.split("<main>")[1]
    assert not any(tag in body for tag in ("<b> &", "<i>", "<x>", "<h>", "<n>"))
    assert "width:100.0%" in body
    assert "width:50.0%" in body
    assert "width:0.0%" in body


def test_provenance_shows_a_seed_of_zero():
    text = html.provenance_list({"seed": 0, "commit": None, "uncommitted_changes": False})
    assert re.findall(r"<dd>(.*?)</dd>", text) == ["0", "none", "no"]


@pytest.mark.slow
def test_the_tour(capsys, tmp_path):
    model = weights.save(tiny_detector(), tmp_path / "tiny")
    out = tmp_path / "demo"
    argv = ["demo", "--out", out, "--model", model, "--clips", 1, "--duration_s", 0.3, "--workers", 1, "--seed", 3]
    assert main([str(word) for word in argv]) == 0
    told = capsys.readouterr()
    assert str(out / "index.html") in told.out
    page = (out / "index.html").read_text()
    assert "simulated" in page
    links = re.findall(r'(?:src|poster)="([^"]+)"', page)
    assert len(links) >= 5
    assert all((out / link).stat().st_size > 0 for link in links)
    assert not re.search(r"(src|href)=\W?(http|/)", page)
    views = re.findall(r'<iframe[^>]* src="([^"]+)"', page)
    assert len(views) == 2 + (demo.THREE_TASKS in weights.bundled())
    assert all("id=description" in (out / view).read_text() for view in views)
    result = json.loads((out / "demo.json").read_text())
    assert result["provenance"]["seed"] == 3
    assert result["real_clip"]["num_truth"] == 14
    assert result["data"]["clips"] == 1
    assert set(result["seconds"]) >= {"simulate a drive", "detect and score", "detect in a real recording"}
