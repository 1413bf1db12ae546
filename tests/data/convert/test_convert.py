"""Labels survive the way there and back, as far as the format can hold them; what it cannot hold is said."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from spiking_centernet.data import read_boxes, write_boxes, write_dat
from spiking_centernet.data.convert import Labels, coco, convert_file, mot, prophesee, yolo
from spiking_centernet.errors import BoxFileError, ConfigError
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE

SIZE_HW = (240, 304)
CLASSES = ("car", "pedestrian")
TARGETS = {"gen1": "b.npy", "1mpx": "b.npy", "coco": "b.json", "yolo": "b", "mot": "b.csv"}


def some_boxes(num=20, *, scores=False, step_us=250_000):
    rng = np.random.default_rng(0)
    boxes = np.zeros(num, BOX_DTYPE)
    boxes["ts"] = step_us * (1 + np.arange(num) // 3)
    boxes["x"], boxes["y"] = rng.uniform(0, 250, num), rng.uniform(0, 180, num)
    boxes["w"], boxes["h"] = rng.uniform(1, 50, num), rng.uniform(1, 50, num)
    boxes["class_id"], boxes["track_id"] = rng.integers(0, 2, num), rng.permutation(num)
    boxes["confidence"] = rng.uniform(0, 1, num) if scores else 1
    return boxes


@pytest.fixture
def box_file(tmp_path):
    write_boxes(tmp_path / "a_bbox.npy", some_boxes())
    return tmp_path / "a_bbox.npy"


def same(found, wanted, *, but=()):
    assert len(found) == len(wanted)
    for name in BOX_DTYPE.names:
        if name not in but:
            np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


@pytest.mark.parametrize("to", TARGETS)
def test_no_boxes_at_all(tmp_path, to):
    write_boxes(tmp_path / "a_bbox.npy", np.zeros(0, BOX_DTYPE))
    done = convert_file(tmp_path / "a_bbox.npy", tmp_path / TARGETS[to], to=to, size_hw=SIZE_HW)
    assert done.lost == ()
    if to == "yolo":
        with pytest.raises(BoxFileError, match="holds no text files"):
            convert_file(done.path, tmp_path / "c.npy", size_hw=SIZE_HW)
    else:
        convert_file(done.path, tmp_path / "c.npy", size_hw=SIZE_HW)
        assert len(read_boxes(tmp_path / "c.npy")) == 0


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("scores", [False, True])
def test_there_and_back(tmp_path, to, scores):
    boxes = some_boxes(scores=scores)
    write_boxes(tmp_path / "a_bbox.npy", boxes)
    there = convert_file(tmp_path / "a_bbox.npy", tmp_path / TARGETS[to], to=to, size_hw=SIZE_HW)
    convert_file(there.path, tmp_path / "c.npy", size_hw=SIZE_HW)
    found = read_boxes(tmp_path / "c.npy")
    if to != "yolo":
        assert there.lost == ()
        same(found, boxes)
        return
    # Shares of the picture are rounded, and labels (not detections) have no place for tracks.
    assert there.lost == (() if scores else ("track ids (YOLO's labels have none)",))
    same(found, boxes, but={"x", "y", "w", "h"} | (set() if scores else {"track_id"}))
    for name in "xywh":
        np.testing.assert_allclose(found[name], boxes[name], atol=1e-6)


rows = st_numpy.arrays(
    BOX_DTYPE,
    st.integers(0, 12),
    elements=st.tuples(
        st.integers(0, 50).map(lambda k: k * 5000),
        *(st.floats(0, 1000, width=32) for _ in range(4)),
        st.integers(0, 1),
        st.floats(0, 1, width=32),
        st.integers(0, 2**32 - 1),
    ),
    fill=st.nothing(),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows)
def test_coco_mot_and_both_of_prophesee_lose_no_bit(tmp_path, boxes):
    boxes = boxes[np.argsort(boxes["ts"], kind="stable")]
    labels = Labels(boxes, CLASSES, SIZE_HW)
    coco.write(tmp_path / "a.json", labels, stem="a")
    same(coco.read(tmp_path / "a.json").boxes, boxes)
    prophesee.write(tmp_path / "a.npy", labels, layout="1mpx")
    same(prophesee.read(tmp_path / "a.npy", classes=CLASSES).boxes, boxes)
    assert not mot.write(tmp_path / "a.csv", labels)
    same(mot.read(tmp_path / "a.csv", classes=CLASSES, every_us=None).boxes, boxes)


def test_the_layout_of_1_mpx_is_that_of_the_toolbox(tmp_path, box_file):
    convert_file(box_file, tmp_path / "b.npy", to="1mpx")
    stored = np.load(tmp_path / "b.npy")
    assert stored.dtype.itemsize == 40
    assert stored.dtype.names == ("t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence")


def test_coco_is_what_its_own_tools_read(tmp_path, box_file):
    from pycocotools.coco import COCO

    convert_file(box_file, tmp_path / "b.json", size_hw=SIZE_HW)
    truth = COCO(str(tmp_path / "b.json"))
    assert [truth.cats[k]["name"] for k in sorted(truth.cats)] == ["car", "pedestrian"]
    assert min(truth.anns) == 1
    assert (truth.imgs[1]["width"], truth.imgs[1]["height"], truth.imgs[1]["file_name"]) == (304, 240, "a_250000us.png")
    assert len(truth.getAnnIds(imgIds=[1])) == 3


def test_mot_is_what_an_independent_reader_reads(tmp_path, box_file):
    reader = pytest.importorskip("trackers").load_mot_file
    convert_file(box_file, tmp_path / "b.csv", size_hw=SIZE_HW)
    frames = reader(tmp_path / "b.csv")
    boxes = some_boxes()
    assert sorted(frames) == list(range(1, 8))
    np.testing.assert_array_equal(frames[2].ids, boxes["track_id"][3:6])
    np.testing.assert_allclose(frames[2].boxes[:, 2], boxes["w"][3:6], rtol=1e-6)
    np.testing.assert_array_equal(frames[2].classes, boxes["class_id"][3:6] + 1)
    text = (tmp_path / "b.seqinfo.ini").read_text()
    assert all(word in text for word in ("frameRate=4\n", "seqLength=7\n", "imWidth=304\n", "imHeight=240\n"))


def test_yolo_has_a_file_for_every_timestamp(tmp_path):
    boxes = np.array([(9, 10, 20, 40, 60, 1, 1, 5)], BOX_DTYPE)
    lost = yolo.write(tmp_path / "b", Labels(boxes, CLASSES, (200, 100), np.array([9, 12])), stem="a")
    assert lost == ["track ids (YOLO's labels have none)"]
    assert (tmp_path / "b" / "a_09us.txt").read_text() == "1 0.3 0.25 0.4 0.3\n"
    assert (tmp_path / "b" / "a_12us.txt").read_text() == ""
    assert (tmp_path / "b" / "classes.txt").read_text() == "car\npedestrian\n"
    assert yolo.read(tmp_path / "b", size_hw=(200, 100), classes=()).timestamps_us.tolist() == [9, 12]
    with pytest.raises(BoxFileError, match="holds text files already"):
        yolo.write(tmp_path / "b", Labels(boxes, CLASSES, (200, 100)), stem="a")


def test_boxes_beyond_the_border_are_kept_where_yolo_can_hold_them_and_cut_where_not(tmp_path):
    """Ultralytics passes over a whole picture that has one share outside 0 to 1."""
    boxes = np.array(
        [
            (9, -10, 20, 40, 60, 0, 1, 0),  # the center is within
            (9, -30, 20, 40, 60, 0, 1, 1),  # it is not
            (9, 90, 20, 40, 500, 0, 1, 2),
            (9, 100, 20, 40, 60, 0, 1, 3),  # nothing is within
        ],
        BOX_DTYPE,
    )
    lost = yolo.write(tmp_path / "b", Labels(boxes, CLASSES, (200, 100)), stem="a")
    assert lost[1:] == [
        "the part beyond the border of 2 boxes (YOLO's tools refuse shares of a picture outside 0 to 1)",
        "1 box beyond the border",
    ]
    shares = np.loadtxt(tmp_path / "b" / "a_9us.txt")[:, 1:]
    assert shares.min() >= 0
    assert shares.max() <= 1
    found = yolo.read(tmp_path / "b", size_hw=(200, 100), classes=()).boxes
    wanted = [(-10, 20, 40, 60), (0, 20, 10, 60), (90, 20, 10, 180)]
    np.testing.assert_allclose([box.tolist() for box in found[["x", "y", "w", "h"]]], wanted, atol=1e-4)


def test_pictures_without_times_count_by_the_numbers_in_their_names(tmp_path):
    names = ("a_9", "a_10", "a_100")
    document = {
        "categories": [{"id": 1, "name": "car"}],
        "images": [{"id": k, "file_name": f"{name}.png", "width": 8, "height": 6} for k, name in enumerate(names)],
        "annotations": [{"id": k, "image_id": k, "category_id": 1, "bbox": [k, 2, 3, 4]} for k in range(3)],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert coco.read(tmp_path / "a.json", every_us=40).boxes["x"].tolist() == [0, 1, 2]
    (tmp_path / "y").mkdir()
    for k, name in enumerate(names):
        (tmp_path / "y" / f"{name}.txt").write_text(f"{k} 0.5 0.5 0.5 0.5\n")
    found = yolo.read(tmp_path / "y", size_hw=(6, 8), classes=("a", "b", "c"), every_us=40)
    assert (found.boxes["class_id"].tolist(), found.boxes["ts"].tolist()) == ([0, 1, 2], [40, 80, 120])


def test_timestamps_without_a_box_are_kept_or_said_to_be_lost(tmp_path):
    labels = Labels(some_boxes(3), CLASSES, SIZE_HW, np.array([250_000, 500_000, 750_000]))
    coco.write(tmp_path / "a.json", labels, stem="a")
    assert coco.read(tmp_path / "a.json").timestamps_us.tolist() == [250_000, 500_000, 750_000]
    for target in ("b.npy", "b.csv"):
        assert convert_file(tmp_path / "a.json", tmp_path / target).lost == ("2 labeled frames without a box",)


def test_times_without_a_common_step_are_said_to_be_lost_by_mot(tmp_path):
    boxes = some_boxes(6)
    boxes["ts"] = [1_001, 1_001, 2_500, 2_500, 77_777, 77_777]
    assert mot.write(tmp_path / "a.csv", Labels(boxes, CLASSES))[0].startswith("times")
    with pytest.raises(BoxFileError, match="--every_ms"):
        convert_file(tmp_path / "a.csv", tmp_path / "b.npy")
    convert_file(tmp_path / "a.csv", tmp_path / "b.npy", every_us=1000)
    assert read_boxes(tmp_path / "b.npy")["ts"].tolist() == [1000, 1000, 2000, 2000, 3000, 3000]


def test_the_size_is_that_of_the_recording_beside(tmp_path, box_file):
    with pytest.raises(BoxFileError, match="give --size WIDTHxHEIGHT"):
        convert_file(box_file, tmp_path / "b.json")
    write_dat(tmp_path / "a_td.dat", np.zeros(1, EVENT_DTYPE), SIZE_HW)
    convert_file(box_file, tmp_path / "b.json")
    assert coco.read(tmp_path / "b.json").size_hw == SIZE_HW


def test_classes_of_a_data_set_of_its_own(tmp_path):
    boxes = some_boxes()
    boxes["class_id"] = np.arange(20) % 3
    names = ("walker", "cyclist", "tram")
    write_boxes(tmp_path / "a.npy", boxes, classes=names)
    with pytest.raises(BoxFileError, match="known: 0 car, 1 pedestrian"):
        convert_file(tmp_path / "a.npy", tmp_path / "b.json", size_hw=SIZE_HW)
    convert_file(tmp_path / "a.npy", tmp_path / "b.json", size_hw=SIZE_HW, classes=names)
    assert coco.read(tmp_path / "b.json").classes == names
    for folder in ("new/train", "old/train", "named/train"):
        (tmp_path / folder).mkdir(parents=True)
    assert convert_file(tmp_path / "b.json", tmp_path / "new" / "train" / "c_bbox.npy").lost == ()
    assert (tmp_path / "new" / "train" / "classes.txt").read_text().split() == list(names)
    write_boxes(tmp_path / "old" / "train" / "x_bbox.npy", boxes[:0])  # counts through GEN1's classes
    convert_file(tmp_path / "b.json", tmp_path / "old" / "train" / "d_bbox.npy")
    assert (tmp_path / "old" / "train" / "classes.txt").read_text().split() == ["car", "pedestrian", *names]
    (tmp_path / "named" / "classes.txt").write_text("bus\ncyclist\n")
    convert_file(tmp_path / "b.json", tmp_path / "named" / "train" / "e_bbox.npy")
    assert (tmp_path / "named" / "classes.txt").read_text().split() == ["bus", "cyclist", "walker", "tram"]
    ids = read_boxes(tmp_path / "a.npy", classes=names)["class_id"]
    for path, place in (("new/train/c", [0, 1, 2]), ("old/train/d", [2, 3, 4]), ("named/train/e", [2, 1, 3])):
        stored = read_boxes(tmp_path / f"{path}_bbox.npy", classes="abcde")["class_id"]
        assert stored.tolist() == np.array(place)[ids].tolist()
    convert_file(tmp_path / "named" / "train" / "e_bbox.npy", tmp_path / "e.json", size_hw=SIZE_HW)
    assert coco.read(tmp_path / "e.json").classes == ("bus", "cyclist", "walker", "tram")
    assert convert_file(tmp_path / "b.json", tmp_path / "c.csv").lost == ()
    assert mot.read(tmp_path / "c.csv", classes=()).classes == names


def test_files_of_other_tools(tmp_path):
    """COCO with ids of its own and no times, YOLO in a folder labels, MOT with -1 for what is not known."""
    document = {
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        "images": [{"id": 7, "file_name": "b.png", "width": 8, "height": 6},
                   {"id": 9, "file_name": "a.png", "width": 8, "height": 6}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 2, 3, 4]}],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(BoxFileError, match="no t_us; give the time between pictures with --every_ms"):
        coco.read(tmp_path / "a.json")
    found = coco.read(tmp_path / "a.json", every_us=40_000)
    assert (found.classes, found.size_hw) == (("car", "dog"), (6, 8))
    assert found.boxes.tolist() == [(80_000, 1, 2, 3, 4, 1, 1, 0)]
    assert found.timestamps_us.tolist() == [40_000, 80_000]
    (tmp_path / "y" / "labels").mkdir(parents=True)
    (tmp_path / "y" / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n\n")
    with pytest.raises(BoxFileError, match="its name has no time"):
        yolo.read(tmp_path / "y", size_hw=(6, 8), classes=CLASSES)
    found = yolo.read(tmp_path / "y", size_hw=(6, 8), classes=CLASSES, every_us=40_000)
    assert found.boxes.tolist() == [(40_000, 2, 1.5, 4, 3, 0, 1, 0)]
    (tmp_path / "m.txt").write_text("1,-1,10,20,30,40,0.5,-1,-1,-1\n1,-1,1,2,3,4,0.25,-1,-1,-1\n")
    found = mot.read(tmp_path / "m.txt", classes=CLASSES, every_us=40_000)
    assert found.boxes.tolist() == [(40_000, 10, 20, 30, 40, 0, 0.5, 0), (40_000, 1, 2, 3, 4, 0, 0.25, 1)]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", '{"images": [}', "is no JSON at byte 12"),
        ("a.json", "[]", "is no COCO ground truth"),
        ("a.json", '{"images": [], "categories": []}', "no COCO ground truth .KeyError: 'annotations'"),
        ("a.csv", "1,2,3,4,5,6,seven\n", "line 1 is '1,2,3,4,5,6,seven'"),
        ("a.csv", "1,2,3,4,5,6,1,1\n1,2,3\n", "line 2 is '1,2,3', must be: frame,track"),
        ("a.csv", "1,2,3,4,-5,6,1,1\n", "box 0 has time 1000 us, place and size .*; correct or remove it"),
        ("a.csv", "1,2,3,4,5,6,1,9\n", "class 8, known: 0 car, 1 pedestrian"),
        ("y/a_1us.txt", "0 0.5 0.5 0.5\n", "line 1 is '0 0.5 0.5 0.5', must be: class cx cy w h"),
        ("y/a_1us.txt", "car 0.5 0.5 0.5 0.5\n", "line 1 is 'car"),
        ("y/a_1us.txt", "0 nan 0.5 0.5 0.5\n", "box 0 has time 1 us"),
    ],
)
def test_damaged_labels(tmp_path, name, content, words):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    source = path.parent if name.startswith("y") else path
    with pytest.raises(ValueError, match=words):
        convert_file(source, tmp_path / "b.npy", size_hw=SIZE_HW, every_us=None if name.startswith("y") else 1000)
    assert not (tmp_path / "b.npy").exists()


def test_what_cannot_be_converted(tmp_path, box_file):
    with pytest.raises(ConfigError, match=r"did you mean '\.json'"):
        convert_file(box_file, tmp_path / "b.jsn")
    with pytest.raises(ConfigError, match="did you mean 'yolo'"):
        convert_file(box_file, tmp_path / "b", to="yolov")
    with pytest.raises(ConfigError, match="holds labels, which DAT cannot hold"):
        convert_file(box_file, tmp_path / "b.dat")
    write_dat(tmp_path / "a_td.dat", np.zeros(1, EVENT_DTYPE), SIZE_HW)
    with pytest.raises(ConfigError, match="is a recording, which is written as DAT"):
        convert_file(tmp_path / "a_td.dat", tmp_path / "b.npy")
    (tmp_path / "film.avi").touch()
    with pytest.raises(BoxFileError, match=r"is neither labels .* nor a recording"):
        convert_file(tmp_path / "film.avi", tmp_path / "b.npy")
    for name in ("none_bbox.npy", "none.csv", "none.txt", "none.json", "none"):
        with pytest.raises(BoxFileError, match=f"{name}: no such file or folder"):
            convert_file(tmp_path / name, tmp_path / "b.json")


def test_a_recording_becomes_dat(tmp_path):
    from spiking_centernet import data as scn_events

    stored = np.zeros(5, EVENT_DTYPE)
    stored["t"], stored["x"] = [10_000_000_000, 10_000_000_005, 10_000_000_003, 10_000_000_009, 10_050_000_000], 7
    np.save(tmp_path / "a.npy", stored)
    with pytest.warns(UserWarning, match="1 of 5"):
        done = convert_file(tmp_path / "a.npy", tmp_path / "b_td.dat", size_hw=SIZE_HW)
    assert done.lost == ("own times of 1 event out of order", "the clock's start (10000000000 us is 0 now)")
    found = scn_events.open(tmp_path / "b_td.dat")
    assert found.size_hw == SIZE_HW
    assert found.read()["t"].tolist() == [0, 5, 5, 9, 50_000_000]


# --- what other tools write ------------------------------------------------------------------------------------------


def coco_file(path, annotations, **image):
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 304, "height": 240, "t_us": 500_000, **image}],
        "categories": [{"id": 7, "name": "pedestrian"}, {"id": 3, "name": "Fu\u00dfg\u00e4nger"}],
        "annotations": [{"id": k, "image_id": 1, "category_id": 3, **a} for k, a in enumerate(annotations)],
    }
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8-sig")
    return path


def test_coco_boxes_without_a_track_get_numbers_of_their_own(tmp_path):
    boxes = [{"bbox": [x, 40, 60, 50]} for x in (10, 100, 200)]
    found = coco.read(coco_file(tmp_path / "a.json", [boxes[0] | {"track_id": 1}, boxes[1], boxes[2]])).boxes
    assert found["track_id"][0] == 1
    assert len(set(found["track_id"].tolist())) == 3


@pytest.mark.parametrize("flag", [{"iscrowd": 1}, {"ignore": 1}])
def test_crowds_of_coco_go_with_the_boxes(tmp_path, flag):
    path = coco_file(tmp_path / "a.json", [{"bbox": [0, 0, 9, 9]}, {"bbox": [0, 0, 304, 240], **flag}])
    labels = coco.read(path)
    assert (len(labels.boxes), len(labels.crowds), labels.left_out) == (1, 1, ())
    target = tmp_path / "a_bbox.npy"
    assert convert_file(path, target).lost == ()
    crowds = read_boxes(tmp_path / "a_crowds.npy", classes=labels.classes)
    assert crowds.tolist() == labels.crowds.tolist()
    convert_file(target, tmp_path / "b.json", size_hw=SIZE_HW)
    again = coco.read(tmp_path / "b.json")
    assert (again.boxes.tolist(), again.crowds.tolist()) == (labels.boxes.tolist(), labels.crowds.tolist())
    for name in ("yolo", "b.csv"):
        assert "1 region of crowds or to be ignored" in convert_file(path, tmp_path / name).lost
    convert_file(coco_file(tmp_path / "c.json", [{"bbox": [0, 0, 9, 9]}]), target)
    assert not (tmp_path / "a_crowds.npy").exists()
    assert labels.classes == ("Fu\u00dfg\u00e4nger", "pedestrian")


def yolo_folder(folder, lines, name="a_500000", **files):
    folder.mkdir()
    (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for file, text in files.items():
        (folder / file.replace("_", ".")).write_text(text, encoding="utf-8-sig")
    return yolo.read(folder, size_hw=(240, 304), classes=None)


@pytest.mark.parametrize(
    ("last", "confidences", "tracks"),
    [
        (("5", "12"), [1, 1], [5, 12]),
        (("1", "1"), [1, 1], [1, 1]),
        (("0.5", "0.25"), [0.5, 0.25], [0, 1]),
        (("0.5", "1"), [0.5, 1], [0, 1]),
        (("0.5 3", "0.25 4"), [0.5, 0.25], [3, 4]),
    ],
    ids=["tracks", "one track", "confidences", "sure", "both"],
)
def test_what_follows_a_box_of_yolo_is_a_confidence_or_a_track(tmp_path, last, confidences, tracks):
    found = yolo_folder(tmp_path / "y", [f"0 0.5 0.5 0.1 0.2 {word}" for word in last]).boxes
    assert found["confidence"].tolist() == confidences
    assert found["track_id"].tolist() == tracks


def test_a_track_among_confidences_is_refused(tmp_path):
    with pytest.raises(BoxFileError, match="line 2 ends in 12, a track, where other lines end in a confidence"):
        yolo_folder(tmp_path / "y", ["0 0.5 0.5 0.1 0.2 0.75", "0 0.5 0.5 0.1 0.2 12"])


@pytest.mark.parametrize("line", ["0 150 120 30 40", "0 0.5 0.5 30 0.1", "0 0.5 0.5 0.1 0.1 1.5 3"])
def test_pixels_and_impossible_confidences_of_yolo_are_refused(tmp_path, line):
    with pytest.raises(BoxFileError, match="must be shares of the picture"):
        yolo_folder(tmp_path / "y", [line])


@pytest.mark.parametrize("name", ["frame_000010", "a_10", "img-1000", "000010", "frame_2000000"])
def test_numbers_that_may_count_pictures_are_no_times(tmp_path, name):
    with pytest.raises(BoxFileError, match="--every_ms, or --fps"):
        yolo_folder(tmp_path / "y", ["0 0.5 0.5 0.1 0.1"], name)


def test_names_of_yolo_come_from_the_data_set(tmp_path):
    line = ["1 0.5 0.5 0.1 0.1"]
    assert yolo_folder(tmp_path / "a", line, classes_txt="F\u00fc\u00dfe\n\u81ea\u8ee2\u8eca\n").classes == (
        "F\u00fc\u00dfe",
        "\u81ea\u8ee2\u8eca",
    )
    assert yolo_folder(tmp_path / "b", line, data_yaml="names: [bus, tram]\n").classes == ("bus", "tram")
    assert yolo_folder(tmp_path / "c", line, data_yaml="names: {0: bus, 1: tram}\n").classes == ("bus", "tram")
    unnamed = yolo_folder(tmp_path / "d", line)
    assert unnamed.classes == ("car", "pedestrian")
    assert "give --classes" in unnamed.left_out[0]


def test_rows_that_motchallenge_does_not_consider_are_left_out_and_said(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text("1,1,11,21,30,40,1,1,1\n1,2,50,60,30,40,0,1,0.3\n", encoding="utf-8")
    labels = mot.read(path, classes=("pedestrian",), every_us=50_000)
    assert labels.boxes["track_id"].tolist() == [1]
    assert labels.left_out == ("1 row flagged 0 (not to be considered)",)


def test_detections_of_confidence_zero_stay(tmp_path):
    path = tmp_path / "det.txt"
    path.write_text("1,-1,11,21,30,40,0,-1,-1,-1\n", encoding="utf-8")
    assert mot.read(path, classes=("pedestrian",), every_us=50_000).boxes["confidence"].tolist() == [0]


@pytest.mark.parametrize(
    ("rate", "frame", "t_us"),
    [("30", 900, 30_000_000), ("29.97", 2997, 100_000_000), ("30000/1001", 30000, 1_001_000_000)],
)
def test_frame_times_do_not_drift(tmp_path, rate, frame, t_us):
    path = tmp_path / "gt.txt"
    path.write_text(f"{frame},1,11,21,30,40,1,1,1\n", encoding="utf-8")
    mot.beside(path).write_text(f"[Sequence]\nframeRate={rate}\n", encoding="utf-8")
    assert mot.read(path, classes=("car",)).boxes["ts"].tolist() == [t_us]


def test_frames_a_second_are_as_good_as_the_time_between_them(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text("900,1,11,21,30,40,1,1,1\n", encoding="utf-8")
    convert_file(path, tmp_path / "a_bbox.npy", fps=30, classes=("car",))
    assert read_boxes(tmp_path / "a_bbox.npy")["ts"].tolist() == [30_000_000]
    with pytest.raises(ConfigError, match="not both"):
        convert_file(path, tmp_path / "a_bbox.npy", fps=30, every_us=10)


def test_the_json_of_detect_is_read(tmp_path):
    box = {"class": "tram", "label": 1, "score": 0.5, "xyxy": [1, 2, 4, 6], "track_id": 3}
    document = {
        "recording": "a_td.dat", "size_hw": [6, 8], "classes": ["car", "tram"], "every_us": 50_000,
        "instants": [{"t_us": 50_000, "boxes": []}, {"t_us": 100_000, "boxes": [box]}],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(document))
    convert_file(tmp_path / "a.json", tmp_path / "b.json", to="coco")
    found = coco.read(tmp_path / "b.json")
    assert (found.classes, found.size_hw, found.timestamps_us.tolist()) == (("car", "tram"), (6, 8), [50_000, 100_000])
    assert found.boxes.tolist() == [(100_000, 1.0, 2.0, 3.0, 4.0, 1, 0.5, 3)]
    del box["score"]
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(BoxFileError, match=r"is no JSON of scn detect \(KeyError: 'score'"):
        convert_file(tmp_path / "a.json", tmp_path / "b.npy")


def test_an_unknown_ending_is_told_the_known_ones(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"known: \.csv, .*\.txt, or no ending for a folder \(YOLO\)"):
        convert_file(tmp_path / "a.json", tmp_path / "b.xml")
