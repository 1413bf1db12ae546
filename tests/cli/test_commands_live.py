"""``scn stream`` and ``scn export``."""

import json

import numpy as np
import pytest
from tiny import some_events, tiny_detector

from spiking_centernet.cli import values
from spiking_centernet.cli.program import main
from spiking_centernet.data import write_dat
from spiking_centernet.errors import ConfigError
from spiking_centernet.model import weights


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny detector, one that NIR can hold, and a recording of noise."""
    folder = tmp_path_factory.mktemp("live")
    weights.save(tiny_detector(), folder / "tiny")
    weights.save(tiny_detector(encoder={"widths": (8, 8, 16)}, decoder={"num_blocks": 1}), folder / "flat")
    write_dat(folder / "noise_td.dat", some_events(20_000, 220_000), (56, 72))
    return folder


def run(capsys, *argv):
    code = main([str(word) for word in argv])
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "timestamps"), [("windowed", [50, 100, 150, 200, 250]), ("stateful", range(20, 221, 20))]
)
def test_stream_writes_a_line_of_json_for_every_answer(capsys, place, tmp_path, mode, timestamps):
    words = ("stream", place / "tiny.safetensors", place / "noise_td.dat", "--mode", mode, "--speed", "1000",
             "--policy", "wait", "--min_score", "0.01")  # fmt: skip
    code, out, err = run(capsys, *words)
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["t_us"] for line in lines] == [1000 * t for t in timestamps]
    assert all(line["latency_ms"] > 0 and line["num_skipped"] == 0 for line in lines)
    assert sum(len(line["boxes"]) for line in lines) > 0
    assert err.startswith(f"{len(lines)} answers, ")
    code, out, _ = run(capsys, *words, "--save", tmp_path / "new" / "found.jsonl")
    assert (code, out) == (0, "")
    saved = [json.loads(line) for line in (tmp_path / "new" / "found.jsonl").read_text().splitlines()]
    assert [line["boxes"] for line in saved] == [line["boxes"] for line in lines]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--mode", "stateless"), "did you mean 'stateful'"),
        (("--policy", "forget"), "--policy: unknown value 'forget'"),
        (("--speed", "0"), "speed"),
        (("--mode", "stateful", "--every_ms", "30"), "multiple"),
    ],
)
def test_impossible_streams_are_told_in_one_line(capsys, place, words, told):
    code, out, err = run(capsys, "stream", place / "tiny.safetensors", place / "noise_td.dat", *words)
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_a_recording_that_does_not_say_its_size_is_streamed_at_the_one_given(capsys, place, tmp_path):
    events = some_events(2_000, 100_000, (16, 24))
    np.savez(tmp_path / "noise.npz", **{name: events[name] for name in "txyp"})
    words = ("stream", place / "tiny.safetensors", tmp_path / "noise.npz", "--speed", "1000", "--min_score", "0.01")
    code, out, err = run(capsys, *words, "--size", "72x56", "--policy", "wait")
    assert code == 0
    assert "smallest that holds" not in err
    sides = [side for line in out.splitlines() for box in json.loads(line)["boxes"] for side in box["xyxy"]]
    assert max(sides) > 24


def test_a_socket_needs_a_size(capsys, place):
    code, _, err = run(capsys, "stream", place / "tiny.safetensors", "udp:127.0.0.1:0")
    assert code == 2
    assert "width x height" in err


@pytest.mark.slow
def test_export_to_nir_checks_spikes_and_chips(capsys, place, tmp_path):
    pytest.importorskip("nir", reason="the extra [nir] is not installed")
    code, out, _ = run(
        capsys, "export", place / "flat.safetensors", tmp_path / "tiny.nir", "--size", "72x56", "--check"
    )
    assert code == 0
    assert "SynSense Xylo" in out
    report = json.loads((tmp_path / "tiny.nir.check.json").read_text())["report"]
    assert report["size_hw"] == [64, 80]
    assert report["spikes_differing"] < 0.01
    assert report["num_windows"] == 4


def test_export_by_an_unknown_suffix_is_refused(capsys, place, tmp_path):
    code, _, err = run(capsys, "export", place / "tiny.safetensors", tmp_path / "tiny.tflite")
    assert code == 2
    assert "no runtime is known for '.tflite'" in err


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("flat.nir", ("--pooling", "nueron"), "did you mean 'neuron'"),
        ("flat.nir", ("--weights", "int8"), "leave out --weights"),
        ("flat.nir", ("--steps", "1"), "leave out --weights, --steps and --data"),
        ("flat.onnx", ("--data", "roads"), "add --check"),
    ],
)
def test_what_an_export_would_pass_over_is_refused(capsys, place, tmp_path, name, words, told):
    pytest.importorskip("nir", reason="the extra [nir] is not installed")
    code, _, err = run(capsys, "export", place / "flat.safetensors", tmp_path / name, "--size", "72x56", *words)
    assert (code, told in err) == (2, True), err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--track", "--size"])
def test_energy_takes_no_options_of_other_commands(capsys, option):
    code, _, err = run(capsys, "energy", "nano", "--data", "roads", option)
    assert (code, f"unknown option {option}" in err) == (2, True)


def test_sizes_are_written_width_first():
    assert values.read_size("304x240") == (240, 304)
    for text in ("304", "x240", "0x3", "axb"):
        with pytest.raises(ConfigError, match="width x height"):
            values.read_size(text)
