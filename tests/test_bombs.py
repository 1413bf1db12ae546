"""Small files that claim or unpack to far more than they hold, or lead elsewhere, end in one clear error."""

import io
import json
import os
import struct
import subprocess
import sys
import zipfile

import event_writers as writers
import numpy as np
import pytest
from fuzz_files import some_events
from tiers import thorough

from spiking_centernet import data as scn_events
from spiking_centernet.errors import ConfigError, DatasetError, EventFileError
from spiking_centernet.experiments.batch import FOUND_DTYPE, _read_detections
from spiking_centernet.experiments.energy_page import read_study
from spiking_centernet.model.config_dict import config_from_dict
from spiking_centernet.training.config import read_recipe

SIZE_HW = (24, 40)
OPEN = """
import os, resource, signal, sys
from spiking_centernet.data import open
from spiking_centernet.errors import EventFileError
for path in sys.stdin:
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
        signal.alarm(120)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = "opened"
        try:
            open(path.rstrip("\\n"), size_hw=(24, 40))
        except EventFileError as error:
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            answer = f"refused: {error}"[:500] if grown < 400_000 else f"grew by {grown} KiB"
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"[:500]
        os.write(tell, repr(answer).encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(told) as answer:
        text = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(text or f"ended with {status}", flush=True)
"""


@pytest.fixture(scope="module")
def refused(subprocess_env):
    """Open files in a process each: what may hang, crash or eat memory must not take the tests along."""
    command = [sys.executable, "-c", OPEN]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=subprocess_env, text=True
    ) as opener:

        def refused(path, words):
            opener.stdin.write(f"{path}\n")
            opener.stdin.flush()
            answer = opener.stdout.readline()
            assert answer.startswith(("'refused: ", '"refused: ')), answer
            assert words in answer

        yield refused
        opener.stdin.close()


def npz_of_zeros(path, method):
    """Four columns of 2^28 zeros, 2 GB each."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<i8", "fortran_order": False, "shape": (1 << 28,)})
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in "txyp":
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(head.getvalue())
                for _ in range(1 << 7 if method == zipfile.ZIP_DEFLATED else 1 << 5):
                    member.write(bytes(1 << 20))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, *thorough(zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)])
def test_archives_that_unpack_a_thousandfold(tmp_path, method, refused):
    path = npz_of_zeros(tmp_path / "a.npz", method)
    if method != zipfile.ZIP_DEFLATED:
        refused(path, "claims")  # small enough to unpack, the header claims more than that
    else:
        refused(path, "would unpack to")


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["zstd", *thorough("lz4")])
def test_packets_that_unpack_a_thousandfold(tmp_path, monkeypatch, compression, refused):
    events = np.zeros(20_000_000, writers.CD_DTYPE)
    packet = writers.aedat4_packet(events, 0)
    monkeypatch.setattr(writers, "aedat4_packet", lambda *_: packet)
    path = writers.write_aedat4(tmp_path / "a.aedat4", events[:1], SIZE_HW, compression=compression)
    refused(path, "it unpacks to more than")


def test_a_header_that_declares_entities(tmp_path, refused):
    chain = "".join(f'<!ENTITY e{k} "&e{k + 1};">' for k in range(50_000))
    path = writers.write_aedat4(tmp_path / "a.aedat4", np.zeros(1, writers.CD_DTYPE), SIZE_HW)
    data = path.read_bytes()
    text = data[data.index(b"<dv ") : data.index(b"</dv>") + 5]
    bomb = f'<!DOCTYPE dv [{chain}<!ENTITY e50000 "">]><dv version="2.0">&e0;</dv>'.encode()
    tail = struct.pack("<I", len(bomb)) + bomb + b"\0"
    head = writers._flatbuffer(b"IOHE", [struct.pack("<i", 0), struct.pack("<q", -1), b""], tail, 2)
    assert text
    path.write_bytes(b"#!AER-DAT4.0\r\n" + head)
    refused(path, "declares a document type")


def hdf5(path, fill):
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        for name in "xypt":
            fill(h5py, group, name)
    return path


def virtual_of_itself(h5py, group, name):
    layout = h5py.VirtualLayout((10,), "<i8")
    layout[:] = h5py.VirtualSource(".", f"events/{name}", (10,))
    group.create_virtual_dataset(name, layout)


def virtual_of_another(h5py, group, name):
    layout = h5py.VirtualLayout((10,), "<i8")
    layout[:] = h5py.VirtualSource("/etc/other.h5", name, (10,))
    group.create_virtual_dataset(name, layout)


def external_link(h5py, group, name):
    group[name] = h5py.ExternalLink(os.path.join(os.path.dirname(group.file.filename), "fifo"), "x")


def external_link_behind_a_soft_one(h5py, group, name):
    group[f"{name}_"] = h5py.ExternalLink(os.path.join(os.path.dirname(group.file.filename), "fifo"), "x")
    group[name] = h5py.SoftLink(f"/events/{name}_")


def external_storage(h5py, group, name):
    fifo = os.path.join(os.path.dirname(group.file.filename), "fifo")
    group.create_dataset(name, (10,), "<i8", external=[(fifo, 0, 80)])


@pytest.mark.parametrize(
    "fill", [virtual_of_itself, virtual_of_another, external_link, external_link_behind_a_soft_one, external_storage]
)
def test_hdf5_that_leads_to_other_files(tmp_path, fill, refused):
    os.mkfifo(tmp_path / "fifo")
    refused(hdf5(tmp_path / "a.h5", fill), "lies in another file")


def test_the_group_of_the_events_may_lie_elsewhere_no_more(tmp_path):
    import h5py

    for name in ("events", "CD"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file[name] = h5py.ExternalLink("other.h5", "/")
        with pytest.raises(EventFileError, match="lies in another file"):
            scn_events.open(tmp_path / f"{name}.h5", size_hw=SIZE_HW)


def test_links_inside_the_file_are_followed_and_circles_refused(tmp_path):
    import h5py

    events = some_events(300)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "xypt":
            file[f"stored/{name}"] = events[name]
        file["events"] = h5py.SoftLink("/alias")
        file["alias"] = h5py.SoftLink("stored")
    np.testing.assert_array_equal(scn_events.open(tmp_path / "a.h5", size_hw=SIZE_HW).read(), events)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["events"] = h5py.SoftLink("/alias")
        file["alias"] = h5py.SoftLink("events")
    with pytest.raises(EventFileError, match="round in a circle"):
        scn_events.open(tmp_path / "b.h5", size_hw=SIZE_HW)


def test_hdf5_that_claims_what_it_does_not_hold(tmp_path, refused):
    def empty(h5py, group, name):
        group.create_dataset(name, (1 << 33,), "<i8", chunks=(1 << 16,), compression="gzip")

    def one_chunk(h5py, group, name):
        group.create_dataset(name, (10,), "<i8", chunks=(1 << 27,), maxshape=(None,), compression="gzip")

    refused(hdf5(tmp_path / "a.h5", empty), "claims 8589934592 events")
    refused(hdf5(tmp_path / "b.h5", one_chunk), "has chunks of 1073741824 bytes")


@pytest.mark.parametrize(
    "text",
    [
        "epochs: 2001-99-99\n",
        "epochs: 2001-01-01 99:99:99\n",
        "seed: 0b\n",
        "epochs: 1__:__2\n",
        "learning_rate: 1" + "0" * 400 + "\n",
        "learning_rate: 1:1e9\n",
        "epochs: " + "9" * 5000 + "\n",
        "penalty: {target: 1" + "0" * 400 + "}\n",
        "epochs: =\n",
        "epochs: !!int x\n",
        "epochs: !!timestamp x\n",
        "epochs: !!float x\n",
        "epochs: !!bool x\n",
    ],
)
def test_recipes_that_the_yaml_loader_half_accepts(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read_recipe(path)


@pytest.mark.parametrize("value", [10**400, -(10**400), 1e30, 1 << 70])
@pytest.mark.parametrize("name", ["tau", "threshold"])
def test_network_settings_beyond_a_float(name, value):
    for settings in ({name: value}, {"neuron": {name: value}}):
        with pytest.raises(ConfigError):
            config_from_dict(settings)


RUN = {"target": 0.1, "seed": 0, "test": {"ap": 0.2, "firing_rate": 0.1, "synaptic": 5, "memory_uj": 3.0}}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"runs": [RUN | {"target": "0.1"}]}),
        json.dumps({"runs": [RUN | {"target": True}]}),
        json.dumps({"runs": [RUN | {"test": RUN["test"] | {"ap": "none"}}]}),
        json.dumps({"runs": [RUN | {"test": RUN["test"] | {"synaptic": [1]}}]}),
        json.dumps({"runs": [RUN | {"test": RUN["test"] | {"memory_uj": float("inf")}}]}),
        json.dumps({"runs": [RUN | {"test": 3}]}),
        json.dumps({"runs": {"a": 1}}),
        json.dumps([1]),
        '{"runs": ' + "[" * 200_000 + "]" * 200_000 + "}",
    ],
)
def test_curves_that_are_no_study(tmp_path, text):
    path = tmp_path / "curve.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is no result of"):
        read_study(path)


@pytest.mark.parametrize(
    "values",
    [None, [], {}, {"size_hw": "ab", "instants": []}, {"size_hw": [1, 2], "instants": ["1"]},
     {"size_hw": [1], "instants": []}, {"size_hw": [0, 1], "instants": []}, {"size_hw": [1, 2], "instants": {"a": 1}}],
)  # fmt: skip
def test_records_of_detections_with_other_fields(tmp_path, values):
    np.save(tmp_path / "a_detections.npy", np.zeros(0, FOUND_DTYPE))
    with pytest.raises(DatasetError, match="run the same again"):
        _read_detections(tmp_path, "a", {"values": values})


@pytest.mark.parametrize("array", [np.zeros(3), np.array([{}], object), np.zeros((1, 1), FOUND_DTYPE)])
def test_detections_that_are_other_arrays(tmp_path, array):
    np.save(tmp_path / "a_detections.npy", array, allow_pickle=True)
    with pytest.raises(DatasetError, match="run the same again"):
        _read_detections(tmp_path, "a", {"values": {"size_hw": [24, 40], "instants": []}})
