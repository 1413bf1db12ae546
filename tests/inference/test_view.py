"""The viewer's page, as a file and served, in a browser: what it shows is what ``scn detect`` finds."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import some_events, tiny_detector

from spiking_centernet.cli.program import main
from spiking_centernet.data import open, write_boxes, write_dat
from spiking_centernet.data.cameras import pitched_camera
from spiking_centernet.deploy.engine import compile
from spiking_centernet.errors import ConfigError, WindowError
from spiking_centernet.inference import view_page
from spiking_centernet.inference.clip import Clip
from spiking_centernet.inference.recordings import detections_at, write_detections
from spiking_centernet.inference.view_page import write_page
from spiking_centernet.model import weights
from spiking_centernet.model.heads import ground
from spiking_centernet.structures import BOX_DTYPE
from spiking_centernet.visualize.draw3d import object_lines

SIZE_HW = (56, 72)
LAST = "document.documentElement.dataset.frame"
ROWS = """[...document.querySelectorAll('.panel')].map((panel) => [...panel.querySelectorAll('tbody tr')]
    .map((row) => [...row.cells].map((cell) => cell.textContent)))"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a recording, labels, two detectors, and what ``scn detect`` finds with each."""
    folder = tmp_path_factory.mktemp("view")
    write_dat(folder / "noise_td.dat", some_events(20_000, 420_000), SIZE_HW)
    boxes = np.zeros(2, BOX_DTYPE)
    boxes["ts"], boxes["x"], boxes["y"], boxes["w"], boxes["h"] = (100_000, 200_000), 10, 12, 20, 16
    write_boxes(folder / "noise_bbox.npy", boxes)
    for seed, name in enumerate(("one", "two")):
        weights.save(tiny_detector(seed), folder / name)
        words = [
            "detect",
            folder / f"{name}.safetensors",
            folder / "noise_td.dat",
            "--save",
            "json",
            "--out",
            folder / name,
        ]
        assert main([*map(str, words), "--min_score", "0.2"]) == 0
    return folder


@pytest.fixture(scope="module")
def page(place):
    path = place / "page.html"
    words = ["view", place / "noise_td.dat", "--model", place / "one.safetensors", place / "two.safetensors"]
    assert main([*map(str, words), "--save", str(path), "--labels", str(place / "noise_bbox.npy")]) == 0
    return path


def found(place, name, frame):
    """Return the rows of a frame that the page should list, from the JSON of ``scn detect``."""
    (path,) = (place / name).glob("*.json")
    boxes = json.loads(path.read_text())["instants"][frame]["boxes"]
    return [[box["class"], f"{box['score']:.3f}", ", ".join(f"{side:.1f}" for side in box["xyxy"])] for box in boxes]


def near(shown, expected):
    """Compare rows of text whose numbers may differ by rounding in the last digit."""
    assert [row[0] for row in shown] == [row[0] for row in expected]
    numbers = [[float(n) for cell in row[1:3] for n in cell.split(", ")] for row in (*shown, *expected)]
    if numbers:
        half = len(numbers) // 2
        np.testing.assert_allclose(numbers[:half], numbers[half:], atol=0.11)
        np.testing.assert_allclose(np.array(numbers[:half])[:, 0], np.array(numbers[half:])[:, 0], atol=0.0011)


def choose_threshold(tab, value):
    tab.choose("#threshold", value)
    tab.wait(f"document.querySelector('#threshold-value').textContent === '{value}'")


def go(tab, frame):
    """Go to a frame with the keys and wait until it is shown."""
    tab.press("Home")
    for _ in range(frame):
        tab.press("ArrowRight")
    tab.wait(f"{LAST} === '{frame}'")


def test_the_page_lists_what_detect_finds(browser, place, page):
    with browser.page(f"file://{page}") as tab:
        tab.wait(LAST)
        choose_threshold(tab, 0.2)
        assert sum(len(found(place, "one", frame)) for frame in range(9)) > 5
        for frame in (0, 3, 8):
            go(tab, frame)
            tab.wait(f"({ROWS})[0].length === {len(found(place, 'one', frame))}")
            shown = tab.get(ROWS)
            near(shown[0], found(place, "one", frame))
            near(shown[1], found(place, "two", frame))
        assert tab.complaints() == []
        assert tab.requests() == [f"file://{page}"]


def test_boxes_are_the_same_with_a_page_where_the_height_of_the_camera_is_voted_on(place, tmp_path, monkeypatch):
    monkeypatch.setattr(ground, "VOTING_SCORE", 0.0)
    model = tiny_detector(tasks=("detect", "detect3d"), **{"head.placing": "ground"})
    with torch.no_grad():
        model.heads["wh"].out.bias.fill_(2.0)
    camera, recording = pitched_camera(60.0, 5.0, SIZE_HW), open(place / "noise_td.dat")
    runs = [
        write_detections(
            model, recording, tmp_path / "_".join(save), save=save, min_score=0.05, camera=camera
        ).detections
        for save in (["json"], ["json", "html"])
    ]
    assert len(runs[0]) == len(runs[1]) == 9
    assert all(np.array_equal(a.box3d, b.box3d) for a, b in zip(*runs, strict=True))
    alone = next(detections_at(model, recording, [runs[0][-1].t_us], min_score=0.05, camera=camera))
    assert not np.array_equal(alone.box3d, runs[0][-1].box3d)


def test_the_page_draws_cuboids_and_skeletons(browser, place, tmp_path):
    camera = pitched_camera(60.0, 5.0, SIZE_HW)
    model = tiny_detector(tasks=("detect", "detect3d", "pose"))
    recording = open(place / "noise_td.dat")
    (found,) = Clip({"one": model}, recording, stop_us=50_000, min_score=0.0, camera=camera).frame(0).found
    clip = Clip({"one": model}, recording, stop_us=50_000, min_score=0.0, camera=camera)
    rows = clip.frame(0).values["models"][0]["boxes"]
    assert [len(row) == 8 for row in rows] == [bool(object_lines(found, k, camera)) for k in range(len(found))]
    lines = np.array(object_lines(found, 0, camera))
    np.testing.assert_allclose(np.reshape(rows[0][7], lines.shape), lines, atol=0.05)
    assert all(len(row) == 7 for row in Clip({"one": tiny_detector()}, recording).frame(0).values["models"][0]["boxes"])
    pictures = []
    for name, shown in (("with", clip), ("without", Clip({"one": model}, recording, stop_us=50_000, min_score=0.0))):
        path = write_page(shown, tmp_path / f"{name}.html")
        with browser.page(f"file://{path}") as tab:
            tab.wait(LAST)
            pictures.append(tab.pixels(".panel canvas"))
            assert tab.complaints() == []
    assert pictures[0] != pictures[1]


def best_after_a_pause(place):
    """Return a frame after the first whose best score is above that of all before it, and a threshold between them."""
    (path,) = (place / "one").glob("*.json")
    frames = json.loads(path.read_text())["instants"]
    best = [max((box["score"] for box in frame["boxes"]), default=0.2) for frame in frames]
    frame = max(k for k in range(1, len(best)) if best[k] > max(best[:k]))
    return frame, (best[frame] + max(best[:frame])) / 2


def test_the_page_starts_where_a_box_is(browser, place, tmp_path):
    frame, threshold = best_after_a_pause(place)
    model, recording = weights.load(place / "one.safetensors"), open(place / "noise_td.dat")
    for min_score, expected in ((threshold, frame), (1.0, 0)):
        path = write_page(Clip({"one": model}, recording, min_score=min_score), tmp_path / "page.html")
        with browser.page(f"file://{path}") as tab:
            tab.wait(LAST)
            assert tab.get(LAST) == str(expected)
            assert len(tab.get(ROWS)[0]) == (1 if expected else 0)


def test_the_threshold_hides_boxes(browser, page):
    with browser.page(f"file://{page}") as tab:
        tab.wait(LAST)
        go(tab, 4)
        choose_threshold(tab, 0.2)
        tab.wait(f"({ROWS})[0].length > 0")
        scores = sorted(float(row[1]) for row in tab.get(ROWS)[0])
        middle = round(scores[len(scores) // 2] + 0.01, 2)
        choose_threshold(tab, middle)
        count = sum(score >= middle for score in scores)
        tab.wait(f"({ROWS})[0].length === {count}")


def test_play_runs_to_the_end_and_stops(browser, page):
    with browser.page(f"file://{page}") as tab:
        tab.wait(LAST)
        tab.choose("#speed", "4")
        tab.click("#play")
        assert tab.get("document.querySelector('#play').textContent") == "Pause"
        tab.wait(f"{LAST} === '8'")
        tab.wait("document.querySelector('#play').textContent === 'Play'")
        tab.press("Home")
        tab.wait(f"{LAST} === '0'")
        tab.press(" ")
        tab.press(" ")
        assert tab.get("document.querySelector('#play').textContent") == "Play"


def test_scrubbing_shows_another_time(browser, page):
    with browser.page(f"file://{page}") as tab:
        tab.wait(LAST)
        tab.choose("#scrub", 310_000)
        tab.wait(f"{LAST} === '5'")
        assert tab.get("document.querySelector('#clock').textContent") == "0.310 s of 0.450 s"


def test_events_are_drawn_by_polarity_as_surface_or_not_at_all(browser, page):
    with browser.page(f"file://{page}") as tab:
        tab.wait(LAST)
        go(tab, 4)
        for box in ("#boxes", "#truth"):
            tab.click(box)
        colors = {}
        for mode in ("polarity", "surface", "none"):
            tab.choose("#mode", mode)
            tab.get(
                "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))"
            )
            colors[mode] = tab.pixels(".picture")[2]
        # The ground and three strengths of two colors; ages in 64 parts; the ground alone.
        assert colors["none"] == 1
        assert 5 <= colors["polarity"] <= 7
        assert colors["surface"] > 20


def test_spikes_of_a_layer_are_those_of_the_network(browser, place, page):
    model = weights.load(place / "one.safetensors")
    recording = open(place / "noise_td.dat")
    stops_us = recording.stops_us(50_000)
    seen = {}
    model.fuse()(recording.cube(stops_us[4], model.config.voxels)[:, None], observe=seen.__setitem__)
    with browser.page(f"file://{page}") as tab:
        tab.wait(LAST)
        go(tab, 4)
        for index, name in enumerate(model.neuron_names[:3]):
            count = int((seen[name] != 0).sum())
            assert count > 0
            tab.choose("#layer", index)
            tab.wait(f"document.querySelector('#spikes').dataset.spikes === '{count}'")
            tab.choose("#step", 2)
            tab.wait(f"document.querySelector('#spikes').dataset.spikes === '{int((seen[name][2] != 0).sum())}'")
            tab.choose("#step", -1)
        tab.press("r")
        tab.wait("document.querySelector('#spikes-note').textContent.includes('over the steps')")
        assert tab.pixels("#spikes")[2] > 3
        rates = tab.get("[...document.querySelectorAll('#rates meter')].map((bar) => bar.value)")
        expected = [float((seen[name] != 0).float().mean()) for name in model.neuron_names]
        np.testing.assert_allclose(rates, expected, atol=1e-5)


def test_plots_say_rate_operations_and_latency_of_both_models(browser, page):
    with browser.page(f"file://{page}") as tab:
        tab.wait(LAST)
        captions = tab.wait(
            "(() => { const c = [...document.querySelectorAll('#plots figcaption')].map((it) => it.textContent);"
            "return c.every((text) => text.includes('|')) && c; })()"
        )
        assert [text.split(":")[0] for text in captions] == [
            "Firing rate", "Synaptic operations per window", "Latency",
        ]  # fmt: skip
        assert all(tab.pixels(f"[data-plot={key}]")[2] > 3 for key in ("rate", "operations", "latency_ms"))


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_any_width_and_follows_the_scheme(browser, page, width, scheme):
    with browser.page(f"file://{page}", width=width, prefers_color_scheme=scheme) as tab:
        tab.wait(LAST)
        assert tab.get("document.documentElement.scrollWidth") == width
        assert tab.get("document.documentElement.dataset.theme") == scheme
        contrasts = tab.get(
            """[...document.querySelectorAll('h1, #lead, #clock, label, .soft, .key, th, button')].map((it) => {
                const parse = (text) => text.match(/[\\d.]+/g).map(Number);
                let ground = it;
                while (parse(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
                const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92
                    : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
                const colors = [getComputedStyle(it).color, getComputedStyle(ground).backgroundColor];
                const pair = colors.map(parse).map(light);
                return [it.tagName + it.id, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)];
            })"""
        )
        assert len(contrasts) > 20
        # WCAG 2.2, 1.4.3: text needs 4.5 to 1.
        assert [(name, ratio) for name, ratio in contrasts if ratio < 4.5] == []
        tab.press("d")
        assert tab.get("document.documentElement.dataset.theme") != scheme


def test_with_reduced_motion_the_picture_changes_from_frame_to_frame(browser, page):
    with browser.page(f"file://{page}", prefers_reduced_motion="reduce") as tab:
        tab.wait(LAST)
        tab.choose("#scrub", 310_000)
        tab.wait(f"{LAST} === '5'")
        assert tab.get("document.querySelector('.picture').getAttribute('aria-label')").startswith("Events at 0.300 s")


def test_help_lists_the_keys(browser, page):
    with browser.page(f"file://{page}") as tab:
        tab.wait(LAST)
        go(tab, 2)
        tab.press("?")
        assert tab.get("document.querySelector('#help').open") is True
        tab.press("ArrowRight")
        assert tab.get(LAST) == "2"
        tab.click("#help button")
        assert tab.get("document.querySelector('#help').open") is False
        tab.click("#help-open")
        assert tab.get("document.querySelector('#help').open") is True


def test_labels_are_shown_where_there_are_some(browser, page):
    with browser.page(f"file://{page}") as tab:
        tab.wait(LAST)
        assert tab.get("document.querySelector('#truth').checkVisibility()")
        tab.click("#boxes")
        go(tab, 1)
        tab.choose("#mode", "none")
        tab.wait("true")
        tab.get("new Promise((done) => setTimeout(done, 100))")
        assert tab.pixels(".picture")[2] > 1
        go(tab, 2)
        tab.get("new Promise((done) => setTimeout(done, 100))")
        assert tab.pixels(".picture")[2] == 1
        go(tab, 1)
        tab.click("#truth")
        tab.get("new Promise((done) => setTimeout(done, 100))")
        assert tab.pixels(".picture")[2] == 1


@pytest.mark.slow
def test_a_page_without_room_for_spikes_leaves_out_the_largest_layers(place, tmp_path, monkeypatch):
    monkeypatch.setattr(view_page, "MOST_SPIKE_CHARS", 20_000)
    monkeypatch.setattr(view_page, "MOST_EVENTS", 9_000)
    model = weights.load(place / "one.safetensors")
    text = write_page(Clip({"one": model}, open(place / "noise_td.dat")), tmp_path / "page.html").read_text()
    about = json.loads(text.split("id=description>")[1].split("</script>")[0])
    frames = json.loads(text.split('id="block-0">')[1].split("</script>")[0])
    kept = [layer["name"] for layer in about["models"][0]["layers"] if layer["planes"]]
    assert 0 < len(kept) < len(model.neuron_names)
    assert all(set(frame["models"][0]["spikes"]) == set(kept) for frame in frames)
    assert sum(len(s) for frame in frames for s in frame["models"][0]["spikes"].values()) <= 20_000
    assert sum(frame["events"]["num"] for frame in frames) == 20_000
    assert sum(frame["events"]["kept"] for frame in frames) <= 9_000
    assert "one of up to" in about["notes"][0]


def test_a_long_recording_is_cut_and_both_page_and_log_say_so(place, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(view_page, "MOST_FRAMES", 4)
    model = weights.load(place / "one.safetensors")
    text = write_page(Clip({"one": model}, open(place / "noise_td.dat")), tmp_path / "page.html").read_text()
    assert "This file shows the first 4 of 9 frames" in text
    assert "the first 4 of 9 frames" in caplog.text
    assert len(json.loads(text.split('id="block-0">')[1].split("</script>")[0])) == 4


def detected(out):
    """Return what the JSON of ``write_detections`` says of the recording, and its box file."""
    (path,), (boxes,) = out.glob("*.json"), out.glob("*.npy")
    values = json.loads(path.read_text())
    del values["provenance"]
    return values, boxes.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "compiled"),
    [
        ({}, False), ({}, True), ({"scale": (1.0, 0.5)}, False), ({"scale": (1.0, 0.5)}, True),
        ({"track": True}, False), ({"num_events": 700}, False), ({"most": 4}, False),
    ],
)  # fmt: skip
def test_a_page_changes_no_detection_and_costs_no_second_pass(place, tmp_path, monkeypatch, how, compiled):
    how = dict(how)
    if "track" in how:
        pytest.importorskip("trackers", reason="the extra [track] is not installed")
    monkeypatch.setattr(view_page, "MOST_FRAMES", how.pop("most", 1200))
    model = weights.load(place / "one.safetensors")
    if "num_events" in how:
        how["voxels"] = replace(model.config.voxels, num_events=how.pop("num_events"), least_us=10_000)
    detector = compile(model, precision="fp32") if compiled else model
    recording, calls = open(place / "noise_td.dat"), []
    fused = type(detector.fuse())
    forward = fused.__call__

    def counted(self, cube, *arguments, **options):
        calls.append(tuple(cube.shape))
        return forward(self, cube, *arguments, **options)

    monkeypatch.setattr(fused, "__call__", counted)
    for save in (("json", "npy"), ("json", "npy", "html")):
        write_detections(detector, recording, tmp_path / save[-1], save=save, min_score=0.1, **how)
    alone, with_page = detected(tmp_path / "npy"), detected(tmp_path / "html")
    assert sum(len(frame["boxes"]) for frame in alone[0]["instants"]) > 0
    assert with_page == alone
    half = len(calls) // 2
    assert calls[:half] == calls[half:]
    assert half == 9 * len(alone[0]["scale"])


@pytest.mark.parametrize("track", [False, True])
def test_detect_saves_the_page_of_what_it_found(browser, place, tmp_path, track):
    if track:
        pytest.importorskip("trackers", reason="the extra [track] is not installed")
    words = ["detect", place / "one.safetensors", place / "noise_td.dat", "--save", "json", "html", "--out", tmp_path]
    # Noise makes few boxes that belong to a track, and none of a high score.
    how = ("--min_score", "0.1", "--track") if track else ("--min_score", "0.2")
    assert main([*map(str, words), *how]) == 0
    (path,) = tmp_path.glob("*.html")
    (place_json,) = tmp_path.glob("*.json")
    frames = json.loads(place_json.read_text())["instants"]
    assert sum(len(frame["boxes"]) for frame in frames) > 0
    with browser.page(f"file://{path}") as tab:
        tab.wait(LAST)
        tab.press("Home")
        for number, frame in enumerate(frames):
            tab.wait(f"{LAST} === '{number}' && ({ROWS})[0].length === {len(frame['boxes'])}")
            if track:
                ids = [int(row[3]) for row in tab.get(ROWS)[0]]
                assert ids == [box["track_id"] for box in frame["boxes"]]
            tab.press("ArrowRight")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--layers", "encoder.stem"), "--layers belongs to --save"),
        (("--speed", "2"), "--speed belongs to --live"),
        (("--live", "--track"), "leave it out"),
        (("--live", "--scale", "pyramid"), "one scale"),
        (("--save", "page.html", "--layers", "encoder.stme"), "did you mean 'encoder.stem'"),
        (("--start_ms", "500"), "nothing to show from 500000"),
        (("--model", "nano", "nano"), "names 'nano' twice"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(capsys, place, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    model = () if "--model" in words else ("--model", str(place / "one.safetensors"))
    assert main(["view", str(place / "noise_td.dat"), *model, *words]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_names_in_a_page_are_text(place, tmp_path, browser):
    evil = "</script><img src=x onerror=document.title='owned'>"
    model = weights.load(place / "one.safetensors")
    path = write_page(Clip({evil: model}, open(place / "noise_td.dat"), stop_us=100_000), tmp_path / "page.html")
    with browser.page(f"file://{path}") as tab:
        tab.wait(LAST)
        assert tab.get("document.title") == "noise_td.dat"
        assert tab.get("document.querySelector('.panel .name').textContent") == evil
        assert tab.get("document.images.length") == 0


def test_a_clip_says_what_it_cannot_show(place):
    recording = open(place / "noise_td.dat")
    with pytest.raises(ConfigError, match="no detector"):
        Clip({}, recording)
    clip = Clip({"one": weights.load(place / "one.safetensors")}, recording, start_us=100_000, stop_us=220_000)
    assert list(clip.stops_us) == [150_000, 200_000, 250_000]
    with pytest.raises(WindowError, match="no frame 3"):
        clip.frame(3)
