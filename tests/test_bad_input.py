"""Damaged, hostile and absurd input ends in a result or in an error of the package.

The fuzzer damages valid files at random, 200 inputs a target; ``make fuzz`` runs 200,000. Below it stands every input
that once ended in something else.
"""

import io
import json
import pickle
import struct

import fuzz
import fuzz_targets
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from spiking_centernet.data import open as open_recording
from spiking_centernet.data import read_boxes, voxelize
from spiking_centernet.errors import BoxFileError, ConfigError, DatasetError, EventFileError, WeightsError, WindowError
from spiking_centernet.model import weights
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE, VoxelSpec
from spiking_centernet.training.config import read_recipe
from spiking_centernet.training.run_dir import RunFolder, read_metrics

INPUTS = 200


@pytest.mark.slow
@pytest.mark.parametrize("name", list(fuzz_targets.TARGETS))
def test_damaged_input_ends_in_a_result_or_in_our_own_error(name):
    seen = {True: 0, False: 0}

    @settings(
        max_examples=INPUTS, deadline=None, database=None, derandomize=True,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    # One drawn number decides everything: drawing every damage on its own would take most of the time.
    @given(seed=st.integers(0, 2**63))
    def feed(seed):
        rng = np.random.default_rng(seed)
        valid = fuzz_targets.seeds(name)
        data = (
            rng.bytes(int(rng.integers(0, 200)))
            if seed % 16 == 0
            else fuzz.damage(valid[rng.integers(len(valid))], rng)
        )
        seen[fuzz_targets.run(name, data)] += 1

    feed()
    # Damaged metrics lose rows instead.
    assert seen[True] > 10 or name == "metrics", "hardly anything was refused: the fuzzer does not reach the checks"


def npy(array, **header):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npy_saying(header: str, body: bytes = b"") -> bytes:
    text = header.encode().ljust(118 - 10 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


FIELDS = "[('ts', '<u8'), ('x', '<f4'), ('y', '<f4'), ('w', '<f4'), ('h', '<f4'), ('class_id', 'u1')]"


def boxes_with(dtype=BOX_DTYPE, **values):
    rows = np.zeros(2, dtype)
    rows["w"] = rows["h"] = 8
    for name, value in values.items():
        rows[name] = value
    return npy(rows)


WIDE = np.dtype([(n, "<f8" if n != "track_id" else "<i8") for n in BOX_DTYPE.names])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (npy_saying(f"{{'descr': {FIELDS}, 'fortran_order': False, 'shape': (1000000000000,), }}"), "bytes"),
        (npy_saying("{'descr': [('ts', '<u8')], 'fortran_order': False, 'shape': (-1,), }", b"\0" * 8), "npy"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + b"{" * 100, "npy"),
        (b"PK\x03\x04" + b"\0" * 60, "npy"),
        (pickle.dumps({"a": 1}), "npy"),
        (npy(np.array([{"a": 1}], dtype=object)), "npy"),
        (boxes_with(ts=np.uint64(2**63 + 5)), "ts"),
        (boxes_with(WIDE, ts=1e30), "ts"),
        (boxes_with(WIDE, x=1e200), "x"),
        (boxes_with(WIDE, w=1e39), "w"),
        (boxes_with(WIDE, class_id=0.5), "class_id"),
        (boxes_with(WIDE, track_id=-1), "track_id"),
        (boxes_with(np.dtype([*BOX_DTYPE.descr[:1], ("x", "<f4", (2,)), *BOX_DTYPE.descr[2:]])), "x"),
    ],
)  # fmt: skip
def test_box_files_that_once_slipped_through(tmp_path, data, words):
    path = tmp_path / "a_bbox.npy"
    path.write_bytes(data)
    with pytest.raises(BoxFileError, match=words):
        read_boxes(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack("<II", 5, 0x3FFF | 0x3FFF << 14), "larger than"),
        (b"% Height 16384\n% Width 16384\n\x00\x08" + bytes(8), "larger than"),
        (b"% a b\n" * 200_000 + b"\x00\x08" + bytes(8), "header"),
        (b"% Height " + b"9" * 3000 + b"\n% Width 4\n\x00\x08" + bytes(8), "height"),
    ],
)
def test_recordings_that_once_slipped_through(tmp_path, data, words):
    path = tmp_path / "a_td.dat"
    path.write_bytes(data)
    with pytest.raises(EventFileError, match=words):
        open_recording(path)


def test_names_that_are_no_names(tmp_path):
    for read, error in (
        (lambda: open_recording("a\0_td.dat"), EventFileError),
        (lambda: read_boxes("a\0_bbox.npy"), BoxFileError),
        (lambda: weights.load("a\0.safetensors"), WeightsError),
        (lambda: read_recipe("a\0.yaml"), ConfigError),
        (lambda: open_recording(tmp_path / ("x" * 5000 + "_td.dat")), EventFileError),
        (lambda: weights.load(str(tmp_path / ("x" * 5000))), WeightsError),
    ):
        with pytest.raises(error):
            read()


@pytest.mark.parametrize(
    "window",
    [(-(2**63), 2**62), (0, 2**62), (-(10**30), 10**30), (2**62, 2**63 - 1), (0, 10**18)],
)
def test_windows_beyond_any_clock_are_refused(window, tmp_path):
    events = np.array([(5, 0, 0, 1), (-(2**62), 0, 0, 1), (2**62 - 1, 0, 0, 1)], EVENT_DTYPE)
    spec = VoxelSpec(window[1] - window[0])
    with pytest.raises(WindowError):
        voxelize(events, stop_us=window[1], size_hw=(4, 4), spec=spec)
    (tmp_path / "a_td.dat").write_bytes(b"% Height 4\n% Width 4\n\x00\x08" + bytes(8))
    recording = open_recording(tmp_path / "a_td.dat")
    with pytest.raises(WindowError):
        recording.cube(window[1], spec)
    if window[0] <= 0:
        assert len(recording.read(*window)) == 1


def test_a_cube_that_fits_no_memory_is_refused():
    with pytest.raises(ConfigError, match="GiB"):
        voxelize(np.zeros(0, EVENT_DTYPE), stop_us=10, size_hw=(16384, 16384), spec=VoxelSpec(num_steps=1000))


@pytest.fixture(scope="module")
def tiny():
    return fuzz_targets.seeds("weight_file")[0]


def with_header(data: bytes, **metadata) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] |= metadata
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def config(**changes) -> str:
    values = {"encoder.widths": [2, 2], "decoder.num_blocks": 1, "encoder.convs_per_stage": 1, "head.width": 2}
    return json.dumps(values | changes)


def renamed(data: bytes, old: str, new: str) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header = {new if k == old else k: v for k, v in json.loads(data[8 : 8 + length]).items()}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda tiny: pickle.dumps({"state_dict": {}}), "pickled checkpoints .* are refused"),
        (lambda tiny: b"PK\x03\x04" + bytes(100), "pickled checkpoints .* are refused"),
        (lambda tiny: struct.pack("<Q", 1 << 60) + b"{}", "does not begin as safetensors do"),
        (lambda tiny: struct.pack("<Q", 90 << 20) + b"{" + b" " * (91 << 20), "does not begin as safetensors do"),
        (lambda tiny: b"", "not a safetensors file"),
        (lambda tiny: with_header(tiny, config=config(encoder={"widths": [2**40, 2**40]})), "widths"),
        (lambda tiny: with_header(tiny, config=config(encoder={"convs_per_stage": 10**9})), "convs_per_stage"),
        (
            lambda tiny: with_header(tiny, config=config(head={"width": 8000}, encoder={"widths": [8000] * 4})),
            "says|lacks",
        ),
        (lambda tiny: with_header(tiny, config=config(voxels={"num_steps": 10**12})), "num_steps"),
        (lambda tiny: with_header(tiny, config=config(voxels={"bins": 0})), "bins"),
        (lambda tiny: with_header(tiny, config=config(neuron={"tau": 0.5})), "tau"),
        (lambda tiny: with_header(tiny, config=config(neuron={"threshold": 1e999})), "threshold"),
        (lambda tiny: with_header(tiny, config="[" * 100_000), "header is damaged"),
        (lambda tiny: with_header(tiny, config="[1, 2]"), "must be a mapping"),
        (lambda tiny: with_header(tiny, notes="{"), "header is damaged"),
        (lambda tiny: renamed(tiny, "heads.wh.out.bias", "../../etc/passwd"), "lacks|unknown tensor"),
        (lambda tiny: tiny[:-40] + b"\xff" * 40, "not finite"),
    ],
)
def test_weight_files_are_refused_with_a_reason(tmp_path, tiny, make, words):
    path = tmp_path / "a.safetensors"
    path.write_bytes(make(tiny))
    with pytest.raises(WeightsError, match=words):
        weights.load(path)


@pytest.mark.parametrize("start", [b"PK", b"\x80\x02"])
def test_a_huge_header_that_begins_like_a_pickle_is_not_read(tmp_path, monkeypatch, start):
    monkeypatch.setattr("safetensors.safe_open", None)
    (tmp_path / "a.safetensors").write_bytes(start + struct.pack("<IH", 90 << 4, 0) + b"{}")  # 90 MiB and more
    with pytest.raises(WeightsError, match="pickled checkpoints"):
        weights.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("heads.wh.out.bias", lambda t: torch.full_like(t, 1e300, dtype=torch.float64), "bias is not finite"),
        ("encoder.stem.norm.running_var", lambda t: -torch.ones_like(t), "negative variance"),
    ],
)
def test_weights_that_give_no_numbers_are_refused(tmp_path, tiny, name, change, words):
    (tmp_path / "a.safetensors").write_bytes(tiny)
    tensors, values, notes = weights.read_tensors(tmp_path / "a.safetensors")
    path = weights.save_tensors(tensors | {name: change(tensors[name])}, tmp_path / "b", values, notes)
    with pytest.raises(WeightsError, match=words):
        weights.load(path)


def test_weights_in_eight_bits_load(tmp_path, tiny):
    (tmp_path / "a.safetensors").write_bytes(tiny)
    tensors, values, notes = weights.read_tensors(tmp_path / "a.safetensors")
    name = "heads.wh.out.bias"
    small = tensors[name].to(torch.float8_e4m3fn)
    path = weights.save_tensors(tensors | {name: small}, tmp_path / "b", values, notes)
    assert (weights.load(path).state_dict()[name] == small.float()).all()


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", "../x", "/etc/passwd", "user/../x", "a/b/c", "~/x", "", "."]
)
def test_a_name_of_weights_never_leads_elsewhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError):
        weights.load(name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 5000, "YAML"),
        ("seed: " + "9" * 5000, "YAML"),
        ("seed: 2020-99-99", "YAML"),
        ("? [a]\n: 1", "YAML|field"),
        ("network: &a {widths: *a}", "YAML|network|widths"),
        ("learning_rate: .inf", "learning_rate"),
        ("weight_decay: .nan", "weight_decay"),
        ("\0", "YAML"),
    ],
)
def test_recipes_that_once_slipped_through(tmp_path, text, words):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_recipe(path)


@pytest.mark.parametrize("text", ["{", "[]", "3", "\0"])
def test_a_damaged_run_folder_is_named(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        RunFolder(tmp_path, {"seed": 0}, resume=True)


def test_damaged_metrics_lose_their_damaged_rows_alone(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"step,loss\r\n1,0.5\r\n2,x\xff\r\n3,0.25\r\n4\r\n5,0.1,7\r\n")
    assert read_metrics(path) == [{"step": 1.0, "loss": 0.5}, {"step": 3.0, "loss": 0.25}]


@pytest.mark.parametrize("text", ["{", "[]", "3", "[" * 5000, '{"seed": '])
def test_a_damaged_description_of_a_simulation_is_named(tmp_path, text):
    from spiking_centernet.simulate.dataset import Clips, simulate

    (tmp_path / "simulation.json").write_text(text)
    with pytest.raises(DatasetError, match=r"simulation\.json"):
        simulate(tmp_path, clips=Clips(train=0, val=0, test=0))


@pytest.mark.parametrize(
    "text", ["penalty: {target: 0.05, weight: }", "augmentation: {flip: }", "distillation: {heads: }", "epochs:"]
)
def test_settings_without_a_value_are_refused(tmp_path, text):
    (tmp_path / "a.yaml").write_text(f"{text}\n")
    with pytest.raises(ConfigError, match="is empty; give a value"):
        read_recipe(tmp_path / "a.yaml")
