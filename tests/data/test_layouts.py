"""Data sets in their published layouts, each as a small folder written here."""

import numpy as np
import pytest

from spiking_centernet.data import LAYOUTS, FolderDataset, write_dat
from spiking_centernet.data import open as open_recording
from spiking_centernet.errors import BoxFileError, ConfigError, DatasetError, EventFileError
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE

PROPHESEE = [("t", "<i8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("class_id", "<u4"),
             ("track_id", "<u4"), ("class_confidence", "<f4")]  # fmt: skip
DSEC = [("t", "<u8"), ("x", "<f8"), ("y", "<f8"), ("h", "<f8"), ("w", "<f8"), ("class_id", "u1"), ("track_id", "<u4"),
        ("class_confidence", "<f8")]  # fmt: skip
OFFSET_US = 49_599_300_523


def events(size_hw, num=2000, stop_us=300_000):
    rng = np.random.default_rng(num)
    found = np.zeros(num, EVENT_DTYPE)
    found["t"] = np.sort(rng.integers(0, stop_us, num))
    found["t"][-1] = stop_us - 1
    found["x"], found["y"] = rng.integers(0, size_hw[1], num), rng.integers(0, size_hw[0], num)
    found["p"] = rng.integers(0, 2, num)
    return found


def write_boxes(path, dtype, class_ids, t_us=200_000):
    """Write a box of 40 x 30 pixels for each class id."""
    boxes = np.zeros(len(class_ids), dtype)
    boxes["t"], boxes["w"], boxes["h"] = t_us, 40, 30
    boxes["x"] = 50 * np.arange(len(class_ids))
    boxes["class_id"], boxes["track_id"] = class_ids, np.arange(len(class_ids))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, boxes)


def reads(suffix):
    try:
        open_recording(f"nowhere{suffix}")
    except EventFileError as error:
        return "unknown kind" not in str(error)
    return True


needs_hdf5 = pytest.mark.skipif(not reads(".h5"), reason="no reader of HDF5")
needs_npy = pytest.mark.skipif(not reads(".npy"), reason="no reader of NumPy recordings")


@pytest.fixture
def megapixel(tmp_path):
    write_dat(tmp_path / "train" / "moorea_000_td.dat", events((720, 1280)), (720, 1280))
    write_boxes(tmp_path / "train" / "moorea_000_bbox.npy", PROPHESEE, range(7))
    return tmp_path


def test_one_megapixel_scores_three_of_its_seven_classes(megapixel):
    dataset = FolderDataset(megapixel, "train", layout="1mpx")
    assert dataset.classes == ("pedestrian", "two wheeler", "car")
    (sample,) = dataset
    assert sample.cube.shape == (5, 4, 720, 1280)
    assert sample.boxes.labels.tolist() == [0, 1, 2]
    assert sample.boxes.xyxy[:, 0].tolist() == [0, 50, 100]
    (named,) = FolderDataset(f"1mpx:{megapixel}", "train")
    assert (named.boxes.xyxy == sample.boxes.xyxy).all()


def test_a_network_of_other_classes_gets_its_own_by_name(megapixel):
    (sample,) = FolderDataset(f"1mpx:{megapixel}", "train", classes=("car", "pedestrian"))
    assert sorted(zip(sample.boxes.labels.tolist(), sample.boxes.xyxy[:, 0].tolist(), strict=True)) == [
        (0, 100),
        (1, 0),
    ]
    with pytest.raises(ConfigError, match="1mpx has no class 'cars'; did you mean 'car'"):
        FolderDataset(f"1mpx:{megapixel}", "train", classes=("cars",))
    with pytest.raises(BoxFileError, match="class_id"):  # GEN1's ids are another data set's here
        FolderDataset(megapixel, "train")


def test_layouts_are_found_by_name(megapixel):
    with pytest.raises(ConfigError, match="did you mean 'dsec-det'"):
        FolderDataset(megapixel, "train", layout="dsec")
    with pytest.raises(DatasetError, match="no such folder"):
        FolderDataset("1mpx:/nowhere/at/all", "train")
    boxes, classes = {"folder", "gen1", "1mpx", "dsec-det", "etram", "pedro"}, {"ncars", "dvs-gesture"}
    assert set(LAYOUTS) == boxes | classes | {"coco", "yolo", "voc", "kitti"}


def write_h5(path, found, **scalars):
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = found[name]
        for name, value in scalars.items():
            file[name] = value


def write_dsec(root, t_us=OFFSET_US + 200_000):
    sequence = root / "train" / "zurich_city_00_a"
    write_h5(sequence / "events" / "left" / "events.h5", events((480, 640)), t_offset=np.int64(OFFSET_US))
    write_boxes(sequence / "object_detections" / "left" / "tracks.npy", DSEC, range(8), t_us)
    return root


@needs_hdf5
def test_dsec_has_a_clock_of_its_own(tmp_path):
    (sample,) = FolderDataset(write_dsec(tmp_path), "train", layout="dsec-det")
    assert (sample.recording, sample.t_us) == ("zurich_city_00_a", 200_000)
    assert sample.cube.shape[-2:] == (480, 640)
    assert sample.cube.any()
    assert sorted(zip(sample.boxes.labels.tolist(), sample.boxes.xyxy[:, 0].tolist(), strict=True)) == [
        (0, 100),
        (1, 0),
    ]


@needs_hdf5
def test_dsec_boxes_before_the_events_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="before the events begin"):
        FolderDataset(write_dsec(tmp_path, t_us=200_000), "train", layout="dsec-det")


def test_dsec_without_sequences_or_boxes_is_refused(tmp_path):
    (tmp_path / "train" / "zurich").mkdir(parents=True)
    with pytest.raises(DatasetError, match="holds no sequence"):
        FolderDataset(tmp_path, "train", layout="dsec-det")
    events_path = tmp_path / "train" / "zurich" / "events" / "left" / "events.h5"
    events_path.parent.mkdir(parents=True)
    events_path.touch()
    with pytest.raises(DatasetError, match=r"tracks\.npy is missing next to"):
        FolderDataset(tmp_path, "train", layout="dsec-det")


@needs_hdf5
def test_etram_lies_in_numbered_parts(tmp_path):
    for part, name in (("train_h5_1", "train_day_0001"), ("train_h5_2", "train_night_0040")):
        found = events((720, 1280))
        write_h5(tmp_path / part / f"{name}_td.h5", found, **{"events/height": 720, "events/width": 1280})
        write_boxes(tmp_path / part / f"{name}_bbox.npy", PROPHESEE, (0, 1, 2))
    dataset = FolderDataset(tmp_path, "train", layout="etram")
    assert [r.name for r in dataset.recordings] == ["train_day_0001", "train_night_0040"]
    assert dataset.classes == ("pedestrian", "vehicle", "micro-mobility")
    assert dataset[1].cube.shape[-2:] == (720, 1280)
    assert dataset[1].boxes.labels.tolist() == [0, 1, 2]


VOC = """<annotation><object><name>{name}</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>{right}</xmax>
<ymax>90</ymax></bndbox></object></annotation>"""


def write_pedro(root, name="person", right="50"):
    for part in ("numpy", "xml"):
        (root / part / "val").mkdir(parents=True, exist_ok=True)
    found = events((260, 346), stop_us=40_000)
    np.save(root / "numpy" / "val" / "rec_1.npy", np.stack([found[c].astype(np.int64) for c in "txyp"], axis=1))
    (root / "xml" / "val" / "rec_1.xml").write_text(VOC.format(name=name, right=right))
    return root


@needs_npy
def test_pedro_is_a_picture_of_40_ms_a_recording(tmp_path):
    (sample,) = FolderDataset(write_pedro(tmp_path), "val", layout="pedro")
    assert sample.t_us == 40_000
    assert sample.cube.shape[-2:] == (260, 346)
    assert sample.cube.any()
    assert sample.boxes.xyxy.tolist() == [[10, 20, 50, 90]]


@pytest.mark.parametrize(
    ("wrong", "told"), [({"name": "dog"}, "'dog'"), ({"right": "5"}, "5.0"), ({"right": "x"}, "VOC")]
)
def test_damaged_pedro_boxes_are_refused(tmp_path, wrong, told):
    with pytest.raises(BoxFileError, match=told):
        FolderDataset(write_pedro(tmp_path, **wrong), "val", layout="pedro")


def gen1_folder(root, class_id=0):
    write_dat(root / "val" / "a_td.dat", np.zeros(3, EVENT_DTYPE), (24, 40))
    boxes = np.zeros(1, BOX_DTYPE)
    boxes["w"], boxes["h"], boxes["class_id"] = 20, 20, class_id
    np.save(root / "val" / "a_bbox.npy", boxes)
    return root


def first_class(root, classes):
    dataset = FolderDataset(root, "val", classes=classes)
    return dataset.classes[dataset[0].boxes.labels[0]]


def test_gen1s_classes_go_by_name(tmp_path):
    assert first_class(f"gen1:{gen1_folder(tmp_path)}", ("pedestrian", "two wheeler", "car")) == "car"
    assert first_class(f"gen1:{tmp_path}", ("vehicle", "person")) == "vehicle"


def test_a_folder_without_names_is_refused_where_numbers_would_mislead(tmp_path):
    root = gen1_folder(tmp_path)
    assert first_class(root, ("car", "pedestrian")) == "car"
    assert first_class(root, ("tram", "bus")) == "tram"
    with pytest.raises(DatasetError, match=r"classes\.txt"):
        first_class(root, ("pedestrian", "two wheeler", "car"))


def test_a_folder_that_names_its_classes_is_read_by_them(tmp_path):
    root = gen1_folder(tmp_path, class_id=1)
    (root / "classes.txt").write_text("bus\nperson\n", encoding="utf-8")
    assert first_class(root, ("car", "pedestrian")) == "pedestrian"
    assert first_class(root, ("person", "bus")) == "person"
    with pytest.raises(ConfigError, match="no class 'tram'"):
        first_class(root, ("tram",))
