import math

import numpy as np
import pytest

from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.metrics import evaluate_boxes
from spiking_centernet.evaluation.plots import pr_plot
from spiking_centernet.structures import EVENT_DTYPE, Boxes, Detections
from spiking_centernet.visualize.draw import (
    CAPTION_PX,
    CLASS_COLORS,
    THEMES,
    default_scale,
    draw_boxes,
    events_image,
    mosaic,
    save_png,
)
from spiking_centernet.visualize.plots import curves_plot
from spiking_centernet.visualize.video import VideoWriter

BLACK = np.zeros((240, 304, 3), np.uint8)


def events(*rows) -> np.ndarray:
    return np.array(list(rows), EVENT_DTYPE)


def detections(*rows) -> Detections:
    """Rows of left, top, right, bottom, label, score."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 5], table[:, 4].astype(np.int64), 0)


def truth(*rows) -> Boxes:
    return Boxes(np.array(rows, np.float32).reshape(-1, 4), np.zeros(len(rows), np.int64))


def decoded(path):
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream, [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


@pytest.mark.parametrize("theme", THEMES)
def test_no_events_give_the_background(theme):
    image = events_image(events(), (3, 5), theme=theme)
    assert image.shape == (3, 5, 3)
    assert image.dtype == np.uint8
    assert (image == THEMES[theme].background).all()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("polarity", "color"), [(1, "on"), (0, "off")])
def test_polarities_have_their_colors(theme, polarity, color):
    image = events_image(events(*[(t, 4, 2, polarity) for t in range(3)]), (3, 5), theme=theme)
    assert tuple(image[2, 4]) == getattr(THEMES[theme], color)
    image[2, 4] = THEMES[theme].background
    assert (image == THEMES[theme].background).all()


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_polarities_differ_in_lightness(theme):
    def lightness(color):
        return np.dot(color, (0.299, 0.587, 0.114))

    assert lightness(theme.on) - lightness(theme.off) > 80


def test_the_last_event_gives_the_hue_and_the_count_the_strength():
    image = events_image(events((0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 1), (3, 1, 0, 1)), (1, 2)).astype(int)
    assert tuple(image[0, 0]) == THEMES["dark"].on
    background, on = np.array(THEMES["dark"].background), np.array(THEMES["dark"].on)
    np.testing.assert_allclose(image[0, 1], background + 0.65 * (on - background), atol=0.5)


@pytest.mark.parametrize(("x", "y"), [(5, 0), (0, 3), (65535, 65535)])
def test_an_event_outside_the_sensor_is_named(x, y):
    with pytest.raises(ConfigError, match=f"event 1 at x={x}, y={y} lies outside the 5 x 3 sensor"):
        events_image(events((0, 0, 0, 1), (1, x, y, 1)), (3, 5))


def test_an_unknown_theme_gets_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'dark'"):
        events_image(events(), (3, 5), theme="darc")


@pytest.mark.parametrize(("width", "scale"), [(304, 3), (346, 3), (640, 2), (1280, 1), (4000, 1), (16, 3)])
def test_default_scale(width, scale):
    assert default_scale((100, width)) == scale


@pytest.mark.parametrize("nothing", [{}, {"detections": detections()}, {"truth": Boxes.empty()}])
def test_without_boxes_the_picture_is_only_enlarged(nothing):
    image = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    before = image.copy()
    out = draw_boxes(image, **nothing, scale=2)
    np.testing.assert_array_equal(out, image.repeat(2, axis=0).repeat(2, axis=1))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("label", [0, 1, len(CLASS_COLORS)])
def test_a_detection_has_the_color_of_its_class_on_its_edge(label):
    out = draw_boxes(BLACK, detections((100, 80, 140, 120, label, 0.9)), scale=2)
    color = CLASS_COLORS[label % len(CLASS_COLORS)]
    assert out.shape == (480, 608, 3)
    for edge in (out[160, 200:280], out[239, 200:280], out[160:240, 200], out[160:240, 279]):
        assert (edge == color).all()
    assert (out[162:238, 202:278] == 0).all()
    assert (out[160:240, 280] == 0).all()
    assert (out[240] == 0).all()


def test_text_stands_above_the_box_or_below_it():
    high = draw_boxes(BLACK, detections((100, 2, 140, 40, 0, 0.9)), scale=1)
    low = draw_boxes(BLACK, detections((100, 60, 140, 100, 0, 0.9)), scale=1)
    for out in (high, low):
        ground = out[41:59, 100:140].reshape(-1, 3)
        assert (ground == CLASS_COLORS[0]).all(axis=1).mean() > 0.5
        assert (ground == 0).all(axis=1).any()
    assert (high[:2] == 0).all()
    assert (low[101:] == 0).all()


def test_different_names_and_scores_read_differently():
    texts = [(0, 0.9), (0, 0.8), (1, 0.9), (9, 0.9)]
    pictures = [draw_boxes(BLACK, detections((50, 50, 250, 200, 0, s)), class_names=("a", "b"), scale=1)
                if label == 0 else draw_boxes(BLACK, detections((50, 50, 250, 200, label, s)), scale=1)
                for label, s in texts]  # fmt: skip
    assert len({p.tobytes() for p in pictures}) == len(texts)


def test_truth_is_dashed_in_black_and_white():
    gray = np.full((100, 100, 3), 128, np.uint8)
    out = draw_boxes(gray, detections(), truth((20, 30, 80, 90)), scale=1)
    top = out[30, 20:80]
    assert (top[:6] == 255).all()
    assert (top[6:12] == 0).all()
    assert set(np.unique(top)) == {0, 255}
    assert (out[32:88, 22:78] == 128).all()  # with detections given, truth carries no text
    named = draw_boxes(gray, None, truth((20, 30, 80, 90)), scale=1)
    assert (named[12:29, 21:45] != 128).any(axis=2).all()


@pytest.mark.parametrize(
    "box", [(-50, -50, 400, 400), (303.5, 239.5, 304, 240), (350, 300, 360, 310), (10, 10, 10, 10)]
)
def test_boxes_at_and_beyond_the_border_leave_the_size_alone(box):
    out = draw_boxes(BLACK, detections((*box, 0, 0.5)), truth(box), scale=2, caption="0.100 s")
    assert out.shape == (480 + CAPTION_PX, 608, 3)
    bare = draw_boxes(BLACK, detections((*box, 0, 0.5)), truth(box), scale=2)
    assert (out[:480] == bare).all()  # the caption hides nothing
    assert (out[480:] == 235).any()
    assert (out == CLASS_COLORS[0]).all(axis=2).any()


def test_the_best_detection_lies_on_top():
    out = draw_boxes(BLACK, detections((100, 80, 140, 120, 0, 0.9), (100, 80, 140, 120, 1, 0.4)), scale=1)
    assert (out[80, 100:140] == CLASS_COLORS[0]).all()


@pytest.mark.parametrize(
    ("image", "scale", "message"),
    [
        (np.zeros((4, 4), np.uint8), None, r"must be uint8 \[H, W, 3\], got uint8 \[4, 4\]"),
        (np.zeros((4, 4, 3)), None, "got float64"),
        (np.zeros((4, 4, 3), np.uint8), 0, "scale must be 1 or more, got 0"),
    ],
)
def test_what_cannot_be_drawn_says_why(image, scale, message):
    with pytest.raises(ConfigError, match=message):
        draw_boxes(image, scale=scale)


def test_mosaic_places_row_by_row():
    pictures = [np.full((2, 3, 3), k, np.uint8) for k in (10, 20, 30)]
    out = mosaic(pictures, 2, gap_px=1, ground=(255, 255, 255))
    w = 255
    expected = [[10] * 3 + [w] + [20] * 3] * 2 + [[w] * 7] + [[30] * 3 + [w] * 4] * 2
    np.testing.assert_array_equal(out[..., 0], expected)
    np.testing.assert_array_equal(mosaic(pictures[:1], 5), pictures[0])
    with pytest.raises(ConfigError, match="at least one picture"):
        mosaic([], 2)


def test_png_is_lossless(tmp_path):
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 255, (7, 9, 3)).astype(np.uint8)
    save_png(image, tmp_path / "new" / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), image)


@pytest.mark.parametrize("size_hw", [(48, 64), (47, 63)])
def test_video_comes_back_with_all_frames_at_even_size(tmp_path, size_hw):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, size_hw, 12.5) as video:
        for k in range(10):
            video.write(np.full((*size_hw, 3), 20 * k, np.uint8))
        assert not path.exists()
    stream, frames = decoded(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert len(frames) == 10
    assert stream.average_rate == 12.5
    assert stream.pix_fmt == "yuv420p"
    for k, frame in enumerate(frames):
        assert frame.shape == (48, 64, 3)
        assert np.abs(frame.astype(int) - 20 * k).max() <= 6


def test_a_failed_video_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def film():
        with VideoWriter(path, (48, 64), 10) as video:
            for height in (48, 47):
                video.write(np.zeros((height, 64, 3), np.uint8))

    with pytest.raises(ConfigError, match="picture 1"):
        film()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"old"


def test_what_cannot_be_filmed_says_why(tmp_path):
    with pytest.raises(ConfigError, match="at least one picture"), VideoWriter(tmp_path / "a.mp4", (48, 64), 10):
        pass
    with (
        pytest.raises(ConfigError, match=r"picture 0 is \(10, 64\), but the video is \(48, 64\)"),
        VideoWriter(tmp_path / "a.mp4", (48, 64), 10) as video,
    ):
        video.write(np.zeros((10, 64, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"use \.mp4"), VideoWriter(tmp_path / "a.xyz", (48, 64), 10):
        pass
    with pytest.raises(ConfigError, match="positive size and rate"):
        VideoWriter(tmp_path / "a.mp4", (48, 64), 0)
    assert not list(tmp_path.iterdir())


def test_precision_recall_plot(tmp_path):
    key = ("a", 1_000_000)
    box = np.array([[10, 10, 60, 60]], np.float32)
    one = np.zeros(1, np.int64)
    found = Detections(box, np.full(1, 0.5, np.float32), one, key[1])
    pr_plot(evaluate_boxes({key: Boxes(box, one)}, {key: found}, size_hw=(240, 304)), tmp_path / "pr.svg")
    pr_plot(evaluate_boxes({}, {}, size_hw=(240, 304)), tmp_path / "empty.png")
    assert (tmp_path / "pr.svg").read_text().startswith("<?xml")
    assert (tmp_path / "empty.png").read_bytes().startswith(b"\x89PNG")


def test_curves_plot(tmp_path):
    columns = {"step": [0, 1, 2], "loss": [3.0, 2.0, math.nan], "ap": [None, None, 0.5]}
    curves_plot(columns, tmp_path / "a.png")
    curves_plot(columns, tmp_path / "b.png", panels={"both": ["loss", "ap"]})
    assert (tmp_path / "a.png").read_bytes()[:4] == (tmp_path / "b.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ConfigError, match="no column is called 'los'; did you mean 'loss'"):
        curves_plot(columns, tmp_path / "c.png", panels={"": ["los"]})
    with pytest.raises(ConfigError, match="'ap' has 1 rows, 'step' has 2"):
        curves_plot({"step": [0, 1], "ap": [1]}, tmp_path / "c.png")
    with pytest.raises(ConfigError, match="nothing to plot"):
        curves_plot({"step": []}, tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()
