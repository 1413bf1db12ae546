"""What the command says when something is wrong: in terms of what was typed, in one line, or nothing at all."""

import subprocess
import sys

import pytest
from tiers import thorough
from tiny import some_events, tiny_detector

from spiking_centernet.cli import parser
from spiking_centernet.cli.program import main
from spiking_centernet.data import write_dat
from spiking_centernet.model.weights import save


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tiny_detector(), tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "drive_td.dat"
    write_dat(path, some_events(), (56, 72))
    return path


def fails(capsys, *argv):
    assert main([str(word) for word in argv]) == 2
    return capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["stream {model} {recording} --policy wait --speed 1000", *thorough("info {recording} --json")]
)
def test_a_command_whose_reader_has_seen_enough_ends_quietly(model, recording, command, subprocess_env):
    told = command.format(model=model, recording=recording)
    line = f"{sys.executable} -m spiking_centernet {told} --quiet | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=subprocess_env, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert int(done.stdout) == 141  # 128 + SIGPIPE, as of any other command


def test_swapped_arguments_are_told_apart(capsys, recording):
    told = fails(capsys, "stream", recording, "nano")
    assert f"{recording} is a recording, no detector; the detector comes first, for example small {recording}" in told
    assert "is no weight file: it does not begin as safetensors do" in fails(capsys, "val", __file__, "--data", "x")


@pytest.mark.parametrize(
    ("command", "text", "told"),
    [
        ("detect", "give size_hw to be exact", "give --size to be exact"),
        ("stream", "say; give size_hw=(height, width)", "say; give --size WIDTHxHEIGHT"),
        ("detect", "min_score must lie in [0, 1]", "--min_score must lie in [0, 1]"),
        ("detect", "every_us must be positive", "--every_ms must be positive"),
        ("val", "give size_hw", "give size_hw"),
        ("detect", "--min_score, a.min_score and min_scores", "--min_score, a.min_score and min_scores"),
        (None, "give size_hw", "give size_hw"),
        ("info", "say the order (columns='xypt')", "say the order (--columns xypt)"),
        ("info", "shape='xypt'", "shape='xypt'"),
    ],
)
def test_messages_name_the_options_of_the_command(command, text, told):
    assert parser.in_options(text, command) == told


def test_a_file_without_size_asks_for_the_option(capsys, model, tmp_path):
    (tmp_path / "a.csv").write_text("t,x,y,p\n")
    told = fails(capsys, "detect", model, tmp_path / "a.csv")
    assert "give --size" in told
    assert "size_hw" not in told
