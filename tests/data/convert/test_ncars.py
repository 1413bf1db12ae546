"""Cut-outs of cars and of empty places in N-CARS' own files."""

import numpy as np
import pytest
import toy_roads

from spiking_centernet.data import FolderDataset, convert, write_boxes, write_dat
from spiking_centernet.data import open as open_recording
from spiking_centernet.data.class_layouts import NCARS_HW, NCARS_US
from spiking_centernet.errors import ConfigError, DatasetError
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE

SIZE_HW = (60, 200)
BOX = (20, 10, 30, 24)


@pytest.fixture
def road(tmp_path):
    """One car of 30 x 24 pixels that is all events, and thin noise around; labels at 100 and 200 ms."""
    rng = np.random.default_rng(0)
    events = np.zeros(30_000, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, 200_000, len(events)))
    on_car = rng.random(len(events)) < 0.3
    left, top, width, height = BOX
    events["x"] = np.where(on_car, rng.integers(left, left + width, len(events)), rng.integers(0, 200, len(events)))
    events["y"] = np.where(on_car, rng.integers(top, top + height, len(events)), rng.integers(0, 60, len(events)))
    folder = tmp_path / "roads" / "train"
    folder.mkdir(parents=True)
    write_dat(folder / "a_td.dat", events, SIZE_HW)
    boxes = np.zeros(2, BOX_DTYPE)
    boxes["ts"], boxes["confidence"] = (100_000, 200_000), 1
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = BOX
    write_boxes(folder / "a_bbox.npy", boxes)
    return folder, events


def test_cut_outs_hold_the_events_of_the_box(road, tmp_path):
    folder, events = road
    conversion = convert.convert_file(folder, tmp_path / "cars", to="ncars")
    assert conversion.path == tmp_path / "cars" / "n-cars_train"
    assert "2 cars and 2 places" in conversion.found
    left, top, width, height = BOX
    inside = (events["x"] >= left) & (events["x"] < left + width) & (events["y"] >= top) & (events["y"] < top + height)
    wanted = events[inside & (events["t"] < NCARS_US)]
    cut = open_recording(conversion.path / "cars" / "obj_000000_td.dat")
    assert cut.size_hw == (height, width)
    read = cut.read(0, NCARS_US)
    for name, start in (("t", 0), ("x", left), ("y", top), ("p", 0)):
        np.testing.assert_array_equal(read[name], wanted[name] - start)
    empty = open_recording(conversion.path / "background" / "obj_000001_td.dat")
    assert 50 <= empty.num_events < cut.num_events
    data = FolderDataset(f"ncars:{tmp_path / 'cars'}", "train")
    assert sorted(int(sample.boxes.labels[0]) for sample in data) == [0, 0, 1, 1]
    assert data[0].cube.shape[-2:] == NCARS_HW


def test_the_same_seed_cuts_the_same(road, tmp_path):
    folder, _ = road
    for name in ("a", "b"):
        convert.convert_file(folder, tmp_path / name, to="ncars")
    files = sorted((tmp_path / "a").rglob("*_td.dat"))
    assert len(files) == 4
    for path in files:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    with pytest.raises(ConfigError, match="holds cut-outs already"):
        convert.convert_file(folder, tmp_path / "a", to="ncars")


def test_a_split_without_large_cars_is_refused(tmp_path):
    data = toy_roads.write_folder(tmp_path / "toy")
    with pytest.raises(DatasetError, match="shows no car of 16 px or more"):
        convert.convert_file(data / "train", tmp_path / "cars", to="ncars")
