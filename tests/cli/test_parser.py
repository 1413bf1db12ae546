"""Words to arguments: lists, choices, numbers, and what an error says; and that help needs no torch."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from spiking_centernet.cli import parser, values
from spiking_centernet.cli.commands import COMMANDS
from spiking_centernet.data import CORRUPTIONS
from spiking_centernet.data.convert import conversion
from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation.metrics import PROTOCOLS
from spiking_centernet.inference import recordings
from spiking_centernet.model import PRESETS
from spiking_centernet.simulate.profiles import PROFILES
from spiking_centernet.simulate.worlds import WORLDS

DETECT = ["detect", "nano", "drive_td.dat"]


def parsed(*words):
    return parser.parse(words)[1]


@pytest.mark.parametrize(
    "words",
    [
        ["--threads", "1", "4"],
        ["--threads", "[1,4]"],
        ["--threads=[1, 4]"],
        ["--fast", "--threads", "1", "4", "--json"],
    ],
)
def test_lists_are_words_or_a_list_in_brackets(words):
    assert parsed("bench", *words)["threads"] == [1, 4]


def test_a_list_of_one_and_the_default():
    assert parsed("bench", "--threads", "3")["threads"] == [3]
    assert parsed("bench", "--threads=3")["threads"] == [3]
    assert parsed("bench")["threads"] == [1, 2]
    assert parsed(*DETECT)["save"] == ["mp4", "json", "npy"]
    assert parsed("info", "a_td.dat", "b,c.raw")["recordings"] == [Path("a_td.dat"), Path("b,c.raw")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("detect small --scale 0.5 drive.dat", {"inputs": ["small", "drive.dat"], "scale": ["0.5"]}),
        ("detect --scale 0.5 1 small drive.dat", {"inputs": ["small", "drive.dat"], "scale": ["0.5", "1"]}),
        ("detect --save mp4 json nano drives/* --track", {"inputs": ["nano", "drives/*"], "save": ["mp4", "json"]}),
        ("detect nano --every_ms 20 drive.dat", {"inputs": ["nano", "drive.dat"], "every_ms": 20.0}),
        ("detect --track nano --save=mp4 drive.dat", {"inputs": ["nano", "drive.dat"], "save": ["mp4"], "track": True}),
        ("label --scale auto drive.dat mine", {"recording": Path("drive.dat"), "out": Path("mine"), "scale": ["auto"]}),
        ("val --protocol none nano --data roads", {"model": "nano", "protocol": ["none"]}),
        ("val --corrupt hot_pixels nano --data roads", {"model": "nano", "corrupt": ["hot_pixels"]}),
        ("compare --scale 1 nano small --data roads", {"first": "nano", "second": "small", "scale": ["1"]}),
        ("view --model small nano drive.raw", {"source": "drive.raw", "model": ["small", "nano"]}),
        ("info --size 304x240 a.dat --json b.dat", {"recordings": [Path("a.dat"), Path("b.dat")], "size": "304x240"}),
        ("convert --classes car van -- a.json b.txt", {"source": Path("a.json"), "classes": ["car", "van"]}),
    ],
)
def test_a_list_ends_where_an_argument_begins(words, expected):
    arguments = parsed(*words.split())
    assert {name: arguments[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("detect nano drive.dat --scale 0.5 -1", "--scale takes auto, pyramid"),
        ("detect nano --save mp4 jsn", "--save: unknown value 'jsn'; did you mean 'json'"),
        ("convert --classes car van a.json b.txt", "give target before --classes, which takes every word"),
        ("study --data d --out o --reuse other s.yaml", "give file before --reuse, which takes every word"),
    ],
)
def test_a_word_that_fits_nowhere_is_named(words, message):
    with pytest.raises(ConfigError) as error:
        parser.parse(words.split())
    assert message in str(error.value)


@pytest.mark.parametrize("words", [["--save", "mp4,json"], ["--save=mp4,json"], ["--save", "mp4,", "json"]])
def test_commas_are_refused_with_the_right_form(words):
    with pytest.raises(ConfigError, match=r"--save takes values separated by spaces; did you mean --save mp4"):
        parsed(*DETECT, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*DETECT, "--save", "mp4", "jsn"], "--save: unknown value 'jsn'; did you mean 'json'"),
        ([*DETECT, "--save", "[mp4, jsn]"], "--save: unknown value 'jsn'; did you mean 'json'"),
        ([*DETECT, "--precision", "int4"], "--precision: unknown value 'int4'; did you mean 'int8'"),
        ([*DETECT, "--min_score", "1.5"], "--min_score takes a number from 0 to 1, got '1.5'"),
        ([*DETECT, "--size", "304"], "--size takes width x height in pixels, for example 304x240, got '304'"),
        ([*DETECT, "--speed=inf"], "--speed takes a number from 0.0001 to 10000 (times real time), got 'inf'"),
        (["bench", "--threads", "1", "0"], "--threads takes a whole number of at least 1, got '1 0'"),
        (["bench", "--firing_rate", "1"], "--firing_rate takes a number between 0 and 1, got '1'"),
        (["val", "nano", "--data", "d", "--corrupt", "hot_pixel"], "did you mean 'hot_pixels'"),
        (["val", "nano", "--data", "d", "--device", "gpu"], "--device takes cpu, cuda, or one GPU"),
        (["study", "s.yaml", "--data", "d", "--out", "o", "--set", "3"], "--set takes names and values"),
        (["simulate", "x", "--light", "dusk"], "--light: unknown value 'dusk'"),
        (["detect"], "give inputs; see scn detect --help"),
        (["train", "r.yaml"], "give --data; see scn train --help"),
        (["--verison"], "unknown option '--verison'; did you mean '--version'"),
    ],
)
def test_errors_say_what_an_option_takes(words, message):
    with pytest.raises(ConfigError) as error:
        parser.parse(words)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("choices", "table"),
    [
        (values.Protocol, [*PROTOCOLS, "all"]),
        (values.Corruption, [*CORRUPTIONS, "all"]),
        (values.SaveFormat, recordings.FORMATS),
        (values.LabelFormat, conversion.FORMATS),
        (values.Preset, PRESETS),
        (values.World, WORLDS),
        (values.CameraProfile, ["any", *PROFILES]),
    ],
)
def test_choices_are_those_of_the_library(choices, table):
    assert set(get_args(choices)) == set(table)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    function = COMMANDS[name]
    documented = {p.arg_name for p in parser.parse_docstring(function.__doc__).params}
    assert documented == {str(p).split(":")[0] for p in inspect.signature(function).parameters.values()}


def test_help_imports_neither_torch_nor_numba(subprocess_env):
    code = (
        "import sys\n"
        "from spiking_centernet.cli.program import main\n"
        "for words in (['--help'], ['--version'], ['detect', '--help'], ['simulate', '--help']):\n"
        "    try: main(words)\n"
        "    except SystemExit as stop: assert not stop.code\n"
        "print(sorted({'torch', 'numba', 'numpy', 'matplotlib', 'rich'} & {m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=subprocess_env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] in ("[]", "['rich']")
