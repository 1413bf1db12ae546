"""Pictures into cubes: reading, letterbox, the three codings, pictures of a recording."""

import numpy as np
import pytest
import torch
from PIL import Image

from spiking_centernet.calibration import Calibration
from spiking_centernet.data.frames import (
    CONTRAST,
    FILL,
    FrameSource,
    Letterbox,
    encode,
    image_paths,
    image_size,
    letterboxed,
    read_image,
)
from spiking_centernet.errors import ConfigError, EventFileError
from spiking_centernet.structures import Boxes, Detections, VoxelSpec

DIRECT = VoxelSpec(mode="direct", num_steps=4, frame_hw=(24, 32))


@pytest.mark.parametrize("source_hw", [(24, 32), (512, 768), (543, 768), (100, 37), (3, 500)])
def test_boxes_come_back_to_the_picture_s_pixels(source_hw):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 1, (50, 2, 2)), axis=1).reshape(50, 4) * np.tile(source_hw[::-1], 2)
    boxes = Boxes(corners.astype(np.float32), np.zeros(50, np.int64))
    lies = Letterbox(source_hw, (240, 304))
    there = lies.to_frame(boxes)
    assert (there.xyxy <= np.tile(lies.inner_hw[::-1], 2) + 1e-3).all()
    assert np.abs(lies.to_source(there).xyxy - boxes.xyxy).max() < 0.01


def test_a_picture_lies_at_the_top_left_as_large_as_fits():
    lies = Letterbox((50, 100), (24, 32))
    assert lies.inner_hw == (16, 32)
    image = np.full((50, 100, 3), 200, np.uint8)
    frame = letterboxed(image, DIRECT)
    assert frame.shape == (3, 24, 32)
    assert (frame[:, :16] == 200).all()
    assert (frame[:, 16:] == FILL).all()
    assert lies.camera(Calibration([100, 100], [50, 25])).center.tolist() == [16, 8]


def test_resizing_averages_over_all_pixels():
    stripes = np.zeros((48, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(letterboxed(stripes, DIRECT)[:, :, 1:-1].astype(int) - 128).max() <= 2


def test_gray_is_the_luminance():
    image = np.zeros((24, 32, 3), np.uint8)
    image[..., 1] = 100
    gray = letterboxed(image, VoxelSpec(mode="direct", colors=1, frame_hw=(24, 32)))
    assert gray.shape == (1, 24, 32)
    assert (gray == 59).all()  # 0.587 * 100


def test_detections_are_clipped_to_the_picture():
    found = Detections(np.array([[0, 0, 32, 24]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), 0)
    assert Letterbox((50, 100), (24, 32)).to_source(found).xyxy.tolist() == [[0, 0, 100, 50]]


def test_direct_is_the_picture_once():
    frames = np.random.default_rng(0).integers(0, 256, (1, 3, 24, 32)).astype(np.uint8)
    assert torch.equal(encode(frames, DIRECT), torch.from_numpy(frames))


def test_rate_fires_as_often_as_the_picture_is_bright():
    spec = VoxelSpec(mode="rate", num_steps=1000, frame_hw=(2, 3))
    frames = np.array([0, 255, 128, 30, 200, 77], np.uint8).reshape(1, 1, 2, 3).repeat(3, axis=1)
    cube = encode(frames, spec, np.random.default_rng(5))
    assert cube.shape == (1000, 3, 2, 3)
    assert set(cube.unique().tolist()) == {0, 1}
    assert torch.equal(cube, encode(frames, spec, np.random.default_rng(5)))
    share = frames[0] / 255
    assert (np.abs(cube.float().mean(0).numpy() - share) <= 4 * np.sqrt(share * (1 - share) / 1000)).all()


def test_difference_marks_what_changed():
    spec = VoxelSpec(mode="difference", num_steps=2, colors=1, frame_hw=(1, 4))
    before = np.array([50, 50, 50, 0], np.uint8)
    after = np.array([50, 60, 40, 1], np.uint8)  # ln 61/51 = 0.179, ln 41/51 = -0.218, ln 2/1 = 0.69
    frames = np.stack([before, before, after]).reshape(3, 1, 1, 4)
    cube = encode(frames, spec)
    assert cube.shape == (2, 2, 1, 4)
    assert not cube[0].any()
    assert cube[1, :, 0].tolist() == [[0, 0, 1, 0], [0, 1, 0, 1]]
    assert np.log(61 / 51) > CONTRAST > np.log(58 / 51)
    with pytest.raises(ConfigError, match="takes 3 pictures, got 2"):
        encode(frames[:2], spec)


def test_pictures_are_read_upright(tmp_path):
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter: rows are columns
    Image.fromarray(image).save(tmp_path / "turned.jpg", exif=exif, quality=100)
    read = read_image(tmp_path / "turned.jpg")
    assert read.shape == (20, 10, 3)
    assert image_size(tmp_path / "turned.jpg") == (20, 10)
    assert read[:10].mean() > 200 > 50 > read[10:].mean()


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_damaged_pictures_are_refused(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(EventFileError, match=r"x\.png: is no picture that can be read"):
        read_image(path)
    with pytest.raises(EventFileError, match=r"x\.png"):
        FrameSource(path)


def test_a_cut_picture_is_refused(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3)).astype(np.uint8)).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EventFileError, match="is no picture that can be read"):
        read_image(tmp_path / "x.png")


def test_deep_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(EventFileError, match="more than 8 bits"):
        read_image(tmp_path / "deep.png")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "clip_frames"
    path.mkdir()
    for k, t_us in enumerate((0, 50_000, 100_000, 150_000)):
        Image.fromarray(np.full((24, 32, 3), 40 * k, np.uint8)).save(path / f"{t_us}.png")
    return path


def test_frames_of_a_recording_are_found_by_time(folder):
    source = FrameSource(folder)
    assert source.size_hw == (24, 32)
    assert source.times_us.tolist() == [0, 50_000, 100_000, 150_000]
    assert (source.cube(100_000, DIRECT) == 80).all()
    with pytest.raises(EventFileError, match="no picture at 99999 us"):
        source.cube(99_999, DIRECT)
    two = VoxelSpec(mode="difference", num_steps=2, window_us=100_000, colors=1, frame_hw=(24, 32))
    cube = source.cube(150_000, two)
    assert cube[:, 1].all()
    assert not cube[:, 0].any()
    # Before the first picture nothing changes.
    assert not source.cube(50_000, two)[0].any()
    with pytest.raises(EventFileError, match="frames_per_window"):
        source.cube(150_000, VoxelSpec(mode="difference", num_steps=4, colors=1, frame_hw=(24, 32)))


def test_rate_draws_by_recording_and_time(folder):
    spec = VoxelSpec(mode="rate", num_steps=4, frame_hw=(24, 32))
    source = FrameSource(folder)
    assert torch.equal(source.cube(100_000, spec), FrameSource(folder).cube(100_000, spec))
    assert not torch.equal(source.cube(100_000, spec), source.cube(100_000, spec, seed=[1]))


def test_one_picture_has_no_difference(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(EventFileError, match="here is one"):
        FrameSource(tmp_path / "x.png").cube(0, VoxelSpec(mode="difference"))


def test_folders_and_files_that_are_no_pictures(tmp_path):
    with pytest.raises(EventFileError, match="holds no picture"):
        image_paths(tmp_path)
    with pytest.raises(EventFileError, match="no such file"):
        image_paths(tmp_path / "x.png")
    (tmp_path / "x_td.dat").touch()
    with pytest.raises(EventFileError, match="this network sees pictures"):
        image_paths(tmp_path / "x_td.dat")
    (tmp_path / "f").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "f" / "first.png")
    with pytest.raises(EventFileError, match="must be its time in microseconds"):
        FrameSource(tmp_path / "f")
