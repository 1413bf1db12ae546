import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_centernet.data import boxes_at, clean_boxes, label_timestamps, read_boxes, write_boxes
from spiking_centernet.data.box_files import with_areas
from spiking_centernet.errors import BoxFileError
from spiking_centernet.structures import BOX_DTYPE

TOOLBOX_DTYPE = np.dtype(
    {
        "names": ["t", *"xywh", "class_id", "track_id", "class_confidence"],
        "formats": ["<i8", *["<f4"] * 4, "<u4", "<u4", "<f4"],
    }
)


def box(ts=1000, x=1.0, y=2.0, w=3.0, h=4.0, class_id=0, confidence=1.0, track_id=0):
    return ts, x, y, w, h, class_id, confidence, track_id


def boxes_of(*rows):
    return np.array(list(rows), BOX_DTYPE)


@pytest.mark.parametrize("index", range(4))
def test_golden_boxes_of_both_layouts(golden_dir, index):
    for kind in ("bbox", "detections_bbox"):
        stored = np.load(golden_dir / f"rec{index}_{kind}.npy")
        time, confidence = stored.dtype.names[0], next(name for name in stored.dtype.names if "confidence" in name)
        boxes = read_boxes(golden_dir / f"rec{index}_{kind}.npy")
        assert boxes.dtype == BOX_DTYPE
        assert len(boxes) == len(stored) > 70
        pairs = [("ts", time), ("confidence", confidence), *((name, name) for name in ("x", "y", "w", "h", "class_id"))]
        for ours, theirs in pairs:
            assert (boxes[ours] == stored[theirs]).all()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            box,
            ts=st.integers(0, 2**53),
            x=st.floats(-400, 400, width=32),
            y=st.floats(-400, 400, width=32),
            w=st.floats(0, 400, width=32),
            h=st.floats(0, 400, width=32),
            class_id=st.integers(0, 1),
            confidence=st.floats(0, 1, width=32),
            track_id=st.integers(0, 2**32 - 1),
        ),
        max_size=20,
    )
)
def test_write_then_read_is_the_identity_up_to_the_order_of_time(tmp_path_factory, rows):
    boxes = boxes_of(*rows)
    path = tmp_path_factory.mktemp("boxes") / "clip_bbox.npy"
    write_boxes(path, boxes)
    assert np.load(path).dtype.itemsize == 33
    assert read_boxes(path).tolist() == sorted(boxes.tolist(), key=lambda row: row[0])


def test_fields_are_found_by_name(tmp_path):
    bare = np.dtype([("h", "<f8"), ("w", "<f8"), ("y", "<f8"), ("x", "<f8"), ("class_id", "<i4"), ("t", "<i8")])
    np.save(tmp_path / "a_bbox.npy", np.array([(4, 3, 2, 1, 1, 7), (4, 3, 2, 1, 0, 5)], bare))
    assert read_boxes(tmp_path / "a_bbox.npy").tolist() == [box(5, track_id=1), box(7, class_id=1)]


# --- bad input -------------------------------------------------------------------------------------------------------


def test_missing_box_file(tmp_path):
    with pytest.raises(BoxFileError, match=r"none_bbox\.npy: no such box file"):
        read_boxes(tmp_path / "none_bbox.npy")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01", b"label,x,y\n1,2,3\n"])
def test_damaged_box_file(tmp_path, content):
    (tmp_path / "a_bbox.npy").write_bytes(content)
    with pytest.raises(BoxFileError, match="is no readable"):
        read_boxes(tmp_path / "a_bbox.npy")


def test_a_pickle_is_never_loaded(tmp_path):
    np.save(tmp_path / "a_bbox.npy", np.array([{"x": 1}], object), allow_pickle=True)
    with pytest.raises(BoxFileError, match="is no readable"):
        read_boxes(tmp_path / "a_bbox.npy")


def test_an_array_without_the_fields(tmp_path):
    np.save(tmp_path / "a_bbox.npy", np.zeros((3, 5)))
    with pytest.raises(BoxFileError, match="flat structured array"):
        read_boxes(tmp_path / "a_bbox.npy")
    np.save(tmp_path / "a_bbox.npy", boxes_of(box())[["ts", "x", "y", "w", "class_id"]])
    with pytest.raises(BoxFileError, match=r"lacks the fields \['h'\]"):
        read_boxes(tmp_path / "a_bbox.npy")
    np.save(tmp_path / "a_bbox.npy", np.array([("a", 0, 0, 0, 0, 0)], "U3,f4,f4,f4,f4,u1").view(
        [("t", "U3"), ("x", "f4"), ("y", "f4"), ("w", "f4"), ("h", "f4"), ("class_id", "u1")]))  # fmt: skip
    with pytest.raises(BoxFileError, match="field ts has type <U3"):
        read_boxes(tmp_path / "a_bbox.npy")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ((-1, 1, 2, 3, 4, 0, 0, 1), "box 1 has ts -1, which is negative"),
        ((1, np.nan, 2, 3, 4, 0, 0, 1), "box 1 has x nan"),
        ((1, 1, np.inf, 3, 4, 0, 0, 1), "box 1 has y inf"),
        ((1, 1, 2, 3, 4, 0, 0, np.nan), "box 1 has confidence nan"),
        ((1, 1, 2, -3, 4, 0, 0, 1), r"box 1 has w -3\.0, which is negative"),
        ((1, 1, 2, 3, -4, 0, 0, 1), r"box 1 has h -4\.0, which is negative"),
        ((1, 1, 2, 3, 4, 2, 0, 1), "box 1 has class_id 2, known: 0 car, 1 pedestrian"),
        ((1, 1, 2, 3, 4, 256, 0, 1), "box 1 has class_id 256, known"),
    ],
)
def test_impossible_boxes(tmp_path, row, told):
    path = tmp_path / "a_bbox.npy"
    np.save(path, np.array([(1, 1, 2, 3, 4, 0, 0, 1), row], TOOLBOX_DTYPE))
    with pytest.raises(BoxFileError, match=told):
        read_boxes(path)


def test_areas_are_read_where_they_are_asked_for(tmp_path):
    path, boxes = tmp_path / "a_crowds.npy", boxes_of(box(ts=2000), box(ts=1000))
    write_boxes(path, with_areas(boxes, np.array([np.nan, 7.5], np.float32)))
    assert read_boxes(path).dtype == BOX_DTYPE
    rows = read_boxes(path, areas=True)
    np.testing.assert_array_equal(rows["area"], [7.5, np.nan])
    assert boxes_at(clean_boxes(rows, (240, 304)), 1000).areas.tolist() == [7.5]
    assert np.isnan(boxes_at(boxes, 1000).areas).all()
    assert with_areas(boxes, np.full(2, np.nan)).dtype == BOX_DTYPE
    for area in (-1.0, np.inf):
        np.save(path, with_areas(boxes, np.array([1, area])))
        with pytest.raises(BoxFileError, match="has an area that is not 0 to"):
            read_boxes(path, areas=True)


def test_other_data_sets_bring_their_own_classes(tmp_path):
    path = tmp_path / "a_bbox.npy"
    write_boxes(path, boxes_of(box(class_id=2)), classes=("pedestrian", "two-wheeler", "car"))
    assert read_boxes(path, classes=("pedestrian", "two-wheeler", "car"))["class_id"].tolist() == [2]
    with pytest.raises(BoxFileError, match="class_id 2"):
        read_boxes(path)


def test_a_writer_refuses_what_the_reader_would(tmp_path):
    with pytest.raises(BoxFileError, match="box 0 has w -1"):
        write_boxes(tmp_path / "a_bbox.npy", boxes_of(box(w=-1)))
    with pytest.raises(BoxFileError, match="must be flat BOX_DTYPE"):
        write_boxes(tmp_path / "a_bbox.npy", np.zeros(3, TOOLBOX_DTYPE))
    assert not list(tmp_path.iterdir())


# --- cleaning and timestamps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], []),
        ([box()], [box()]),
        ([box(x=4), box(x=5.5), box(x=5)], [box(x=5)]),
        ([box(x=4.5), box(x=5, track_id=1), box(x=5)], [box(x=5, track_id=1), box(x=5)]),
        ([box(x=1), box(x=9), box(x=5)], [box(x=1), box(x=9), box(x=5)]),
        ([box(x=5), box(x=5, class_id=1)], [box(x=5), box(x=5, class_id=1)]),
        ([box(x=1), box(ts=1001, x=9)], [box(x=1), box(ts=1001, x=9)]),
        ([box(x=-1)], [box(x=0, w=2)]),
        ([box(x=30, y=22)], [box(x=30, y=22, w=2, h=2)]),
        ([box(w=0)], []),
        ([box(x=32), box(y=-4, track_id=1), box(x=-40, track_id=2)], []),
    ],
    ids=["none", "one", "last", "last of each", "apart", "classes", "timestamps", "left", "corner", "zero", "outside"],
)
def test_cleaning(given, kept):
    boxes = boxes_of(*given)
    boxes.flags.writeable = False
    assert clean_boxes(boxes, (24, 32)).tolist() == kept


def test_timestamps_and_what_stands_there():
    boxes = boxes_of(box(ts=20, track_id=7), box(ts=20, x=5, class_id=1), box(ts=40))
    assert label_timestamps(boxes).tolist() == [20, 40]
    assert label_timestamps(boxes[:0]).tolist() == []
    here = boxes_at(boxes, 20)
    assert here.xyxy.tolist() == [[1, 2, 4, 6], [5, 2, 8, 6]]
    assert here.labels.tolist() == [0, 1]
    assert here.track_ids.tolist() == [7, 0]
    assert len(boxes_at(boxes, 21)) == len(boxes_at(boxes, -1)) == len(boxes_at(boxes[:0], 20)) == 0
