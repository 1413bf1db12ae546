"""Files of other cameras and tools, each against a writer of our own: AEDAT, Event Stream, MATLAB, ROS bags, HDF5."""

import event_writers as writers
import numpy as np
import pytest

from spiking_centernet import data as scn_events
from spiking_centernet.data.formats.aedat import CAMERAS
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import EVENT_DTYPE

SIZE_HW = (48, 64)
DVS128, DAVIS240, DAVIS346, _ = CAMERAS.values()


def with_times(events, offset_us=0):
    """The events as a recording gives them back whose clock is moved to 0 at the first."""
    moved = events.copy()
    moved["t"] += offset_us - events["t"][0]
    return moved


@pytest.mark.parametrize(
    ("camera", "chip", "between"),
    [
        (DVS128, "ch.unizh.ini.jaer.chip.retina.DVS128", [0x8000]),
        (DAVIS240, "eu.seebetter.ini.chips.davis.DAVIS240C", [0x8000_0000, 0x400]),
        (DAVIS346, "eu.seebetter.ini.chips.davis.Davis346blue", [0xFFFF_FFFF]),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else None,
)
def test_aedat2_is_read_by_the_camera_of_its_header(tmp_path, random_events, camera, chip, between):
    events = random_events(70_000, size_hw=camera.size_hw)
    events["t"] += 5_000_000
    recording = scn_events.open(writers.write_aedat2(tmp_path / "a.aedat", events, camera, chip=chip, between=between))
    assert recording.size_hw == camera.size_hw
    np.testing.assert_array_equal(recording.read(), with_times(events))


def test_an_aedat2_file_that_names_no_camera_asks_for_it(tmp_path, random_events):
    events = random_events(100, size_hw=DAVIS240.size_hw)
    path = writers.write_aedat2(tmp_path / "a.aedat", events, DAVIS240, chip="")
    with pytest.raises(EventFileError, match=r"240x180 \(DAVIS240\)"):
        scn_events.open(path)
    np.testing.assert_array_equal(scn_events.open(path, size_hw=(180, 240)).read(), with_times(events))


def test_an_aedat2_event_outside_the_sensor_is_refused(tmp_path, random_events):
    events = random_events(10, size_hw=DAVIS240.size_hw)
    path = writers.write_aedat2(tmp_path / "a.aedat", events, DAVIS240, chip="DAVIS240C")
    data = bytearray(path.read_bytes())
    data[-8:-4] = (511 << 22).to_bytes(4, "big")  # row 511 of 180
    path.write_bytes(data)
    with pytest.raises(EventFileError, match="outside the 240 x 180 sensor"):
        scn_events.open(path)


@pytest.mark.parametrize("name", ["plain", "invalid", "overflow", "empty_packet", "empty"])
def test_aedat31_matches_the_golden_events(golden_dir, name):
    recording = scn_events.open(golden_dir / "aedat31" / f"{name}.aedat")
    wanted = np.load(golden_dir / "aedat31" / f"{name}_events.npy")
    assert recording.size_hw == (128, 128)
    np.testing.assert_array_equal(recording.read(), wanted)


@pytest.mark.parametrize(
    ("name", "says"), [("cut_event", "byte 105 ends at byte 3333"), ("cut_header", "byte 3333 has 13 of 28 bytes")]
)
def test_a_cut_aedat31_file_names_the_byte(golden_dir, name, says):
    with pytest.raises(EventFileError, match=says):
        scn_events.open(golden_dir / "aedat31" / f"{name}.aedat")


@pytest.mark.parametrize("version", ["1.0", "3.0", "9.9"])
def test_other_versions_of_aedat_are_named(tmp_path, version):
    path = tmp_path / "a.aedat"
    path.write_bytes(f"#!AER-DAT{version}\r\n".encode())
    with pytest.raises(EventFileError, match=f"is AEDAT {version}; known"):
        scn_events.open(path)


@pytest.mark.parametrize("kind", [1, 2])
def test_event_stream_files_are_read(tmp_path, random_events, kind):
    events = random_events(120_000 if kind == 1 else 5000, size_hw=SIZE_HW)
    recording = scn_events.open(writers.write_event_stream(tmp_path / "a.es", events, SIZE_HW, kind=kind))
    assert recording.size_hw == SIZE_HW
    np.testing.assert_array_equal(recording.read(), events)


def test_event_stream_files_without_events_of_brightness_are_refused(tmp_path):
    path = writers.write_event_stream(tmp_path / "a.es", np.zeros(0, EVENT_DTYPE), SIZE_HW, kind=4)
    with pytest.raises(EventFileError, match="color events; known: version 2 with DVS or ATIS"):
        scn_events.open(path)


def test_a_cut_event_stream_file_names_the_byte(tmp_path, random_events):
    path = writers.write_event_stream(tmp_path / "a.es", random_events(10, size_hw=SIZE_HW), SIZE_HW, kind=1)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(EventFileError, match="3 of 5 bytes"):
        scn_events.open(path)


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_variables_and_structs_are_read(tmp_path, random_events, nested, compressed):
    scipy_io = pytest.importorskip("scipy.io")
    events = random_events(2000, size_hw=SIZE_HW)
    columns = {"ts": events["t"], "x": events["x"], "y": events["y"], "pol": events["p"]}
    scipy_io.savemat(tmp_path / "a.mat", {"TD": columns} if nested else columns, do_compression=compressed)
    recording = scn_events.open(tmp_path / "a.mat", size_hw=SIZE_HW)
    np.testing.assert_array_equal(recording.read(), with_times(events))


def test_matlab_73_is_read_as_hdf5(tmp_path, random_events):
    h5py = pytest.importorskip("h5py")
    events = random_events(300, size_hw=SIZE_HW)
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        for name in "txyp":
            file[f"TD/{name}"] = events[name][None]
    with open(tmp_path / "a.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    np.testing.assert_array_equal(scn_events.open(tmp_path / "a.mat", size_hw=SIZE_HW).read(), with_times(events))


def test_a_matlab_file_that_unpacks_a_thousandfold_is_refused(tmp_path, monkeypatch):
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(tmp_path / "a.mat", {"x": np.zeros(2_000_000)}, do_compression=True)
    monkeypatch.setattr("spiking_centernet.data.formats.matlab.MAX_BYTES", 1 << 20)
    with pytest.raises(EventFileError, match="unpack to more than"):
        scn_events.open(tmp_path / "a.mat")


def test_a_matlab_file_without_events_says_what_it_holds(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(tmp_path / "a.mat", {"depth": np.zeros(3)})
    with pytest.raises(EventFileError, match=r"holds \['depth'\], but no struct"):
        scn_events.open(tmp_path / "a.mat")


ARRAY = """std_msgs/Header header
uint32 height
uint32 width
dvs_msgs/Event[] events
"""
EVENT = """uint16 x
uint16 y
time ts
bool polarity
"""
PACKET = """std_msgs/Header header
uint32 height
uint32 width
uint64 seq
uint64 time_base
string encoding
bool is_bigendian
uint8[] events
"""


def ros1_bag(path, events, parts):
    """Write with the library's own serialization."""
    rosbag1 = pytest.importorskip("rosbags.rosbag1")
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg(EVENT, "dvs_msgs/msg/Event"))
    store.register(get_types_from_msg(ARRAY, "dvs_msgs/msg/EventArray"))
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"]
    with rosbag1.Writer(path) as writer:
        connection = writer.add_connection("/dvs/events", "dvs_msgs/msg/EventArray", typestore=store)
        for k, part in enumerate(np.array_split(events, parts)):
            rows = [
                types["dvs_msgs/msg/Event"](x, y, stamp(t // 1_000_000, t % 1_000_000 * 1000), bool(p))
                for t, x, y, p in part.tolist()
            ]
            header = types["std_msgs/msg/Header"](k, stamp(0, 0), "camera")
            message = types["dvs_msgs/msg/EventArray"](header, *SIZE_HW, rows)
            writer.write(connection, k, store.serialize_ros1(message, "dvs_msgs/msg/EventArray"))
    return path


def test_a_ros1_bag_of_event_arrays_is_read(tmp_path, random_events):
    events = random_events(500, size_hw=SIZE_HW)
    recording = scn_events.open(ros1_bag(tmp_path / "a.bag", events, 3))
    assert recording.size_hw == SIZE_HW
    np.testing.assert_array_equal(recording.read(), with_times(events))


@pytest.mark.parametrize("frame_id", ["", "a", "camera"])
def test_a_ros2_bag_of_event_arrays_is_read(tmp_path, random_events, frame_id):
    rosbag2 = pytest.importorskip("rosbags.rosbag2")
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    events = random_events(301, size_hw=SIZE_HW)
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg(EVENT.replace("time", "builtin_interfaces/Time"), "dvs_msgs/msg/Event"))
    store.register(get_types_from_msg(ARRAY, "dvs_msgs/msg/EventArray"))
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"]
    with rosbag2.Writer(tmp_path / "bag", version=8) as writer:
        connection = writer.add_connection("/events", "dvs_msgs/msg/EventArray", typestore=store)
        for k, part in enumerate(np.array_split(events, 2)):
            rows = [
                types["dvs_msgs/msg/Event"](x, y, stamp(t // 1_000_000, t % 1_000_000 * 1000), bool(p))
                for t, x, y, p in part.tolist()
            ]
            message = types["dvs_msgs/msg/EventArray"](
                types["std_msgs/msg/Header"](stamp(0, 0), frame_id), *SIZE_HW, rows
            )
            writer.write(connection, k, store.serialize_cdr(message, "dvs_msgs/msg/EventArray"))
    recording = scn_events.open(tmp_path / "bag")
    assert recording.size_hw == SIZE_HW
    np.testing.assert_array_equal(recording.read(), with_times(events))


def evt3_words(events):
    words = []
    for t, x, y, p in events.tolist():
        words += [8 << 12 | t >> 12 & 4095, 6 << 12 | t & 4095, y, 2 << 12 | p << 11 | x]
    return np.array(words, "<u2").tobytes()


def mono_words(events, base_us):
    t, x, y, p = (events[name].astype(np.uint64) for name in "txyp")
    return (
        (t - np.uint64(base_us)) * np.uint64(1000) | x << np.uint64(32) | y << np.uint64(48) | p << np.uint64(63)
    ).tobytes()


@pytest.mark.parametrize("encoding", ["evt3", "mono", "libcaer"])
def test_a_ros2_bag_of_packets_is_read_or_its_encoding_named(tmp_path, random_events, encoding):
    rosbag2 = pytest.importorskip("rosbags.rosbag2")
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    events = random_events(400, size_hw=SIZE_HW)
    store = get_typestore(Stores.ROS2_HUMBLE)
    name = "event_camera_msgs/msg/EventPacket"
    store.register(get_types_from_msg(PACKET, name))
    types = store.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "cam")
    with rosbag2.Writer(tmp_path / "bag", version=8, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/events", name, typestore=store)
        for k, part in enumerate(np.array_split(events, 3)):
            data = evt3_words(part) if encoding == "evt3" else mono_words(part, 0)
            message = types[name](header, *SIZE_HW, k, 0, encoding, False, np.frombuffer(data, np.uint8))
            writer.write(connection, k, store.serialize_cdr(message, name))
    if encoding == "libcaer":
        with pytest.raises(EventFileError, match="encoded as 'libcaer'; known: evt3, mono"):
            scn_events.open(tmp_path / "bag")
        return
    recording = scn_events.open(next((tmp_path / "bag").glob("*.mcap")))
    assert recording.size_hw == SIZE_HW
    np.testing.assert_array_equal(recording.read(), with_times(events))


@pytest.mark.parametrize("layout", ["root", "rpg_e2vid", "v2e", "mvsec"])
def test_hdf5_layouts_of_other_tools_are_read(tmp_path, random_events, layout):
    h5py = pytest.importorskip("h5py")
    events = random_events(70_000, size_hw=SIZE_HW)
    t, x, y, p = (events[name] for name in "txyp")
    seconds = (t + 1_600_000_000_000_000) * 1e-6
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if layout == "root":
            file.update({"t": t, "x": x, "y": y, "p": p})
        elif layout == "rpg_e2vid":
            file.update({"events/ts": seconds, "events/xs": x, "events/ys": y, "events/ps": p.astype(bool)})
            file.attrs["sensor_resolution"] = SIZE_HW
        elif layout == "v2e":
            file["events"] = np.stack([t, x, y, p], 1).astype(np.uint32)
        else:
            file["davis/left/events"] = np.stack([x, y, seconds, p * 2.0 - 1], 1)
    recording = scn_events.open(tmp_path / "a.h5", size_hw=None if layout == "rpg_e2vid" else SIZE_HW)
    wanted = events if layout in ("root", "v2e") else with_times(events)
    assert recording.size_hw == SIZE_HW
    np.testing.assert_array_equal(recording.read(), wanted)


def test_an_archive_with_places_in_one_array_counts_nanoseconds(tmp_path, random_events):
    events = random_events(300, size_hw=SIZE_HW)
    xy = np.stack([events["x"], events["y"]], 1)
    np.savez(tmp_path / "a.npz", xy=xy, t=events["t"] * 1000, p=events["p"].astype(bool))
    with pytest.warns(UserWarning, match="nanoseconds"):
        recording = scn_events.open(tmp_path / "a.npz", size_hw=SIZE_HW)
    np.testing.assert_array_equal(recording.read(), events)


def test_a_raw_file_without_a_size_takes_that_of_its_camera(tmp_path):
    words = np.array([8 << 28, 1 << 28 | 600 << 11 | 400], "<u4")
    path = tmp_path / "a.raw"
    path.write_bytes(b"% plugin_name hal_plugin_gen3_fx3\n% evt 2.0\n" + words.tobytes())
    recording = scn_events.open(path)
    assert recording.size_hw == (480, 640)
    assert recording.read()[["x", "y", "p"]].tolist() == [(600, 400, 1)]


@pytest.mark.parametrize("name", ["a.dat", "a.raw", "a.h5", "a.aedat4"])
def test_a_pointer_of_git_lfs_is_called_one(tmp_path, name):
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n", encoding="utf-8")
    with pytest.raises(EventFileError, match="pointer of Git LFS"):
        scn_events.open(path)
