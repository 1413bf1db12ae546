"""Columns without names or units: what only one reading allows is taken and said, the rest refused with the option."""

import warnings

import numpy as np
import pytest

from spiking_centernet import data as scn_events
from spiking_centernet.errors import ConfigError, EventFileError

SIZE_HW = (240, 304)


@pytest.fixture
def events(random_events):
    return random_events(2000, size_hw=SIZE_HW)


def write_text(path, events, order="txyp", *, head="", between=",", time=str, p=str):
    shown = {"t": time, "x": str, "y": str, "p": p, "-": lambda _: "7"}
    rows = (between.join(shown[c](0 if c == "-" else event[c].item()) for c in order) for event in events)
    path.write_text(head + "".join(f"{row}\n" for row in rows))
    return path


def read(path, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recording = scn_events.open(path, size_hw=SIZE_HW, **options)
    return recording.read(), [str(each.message) for each in caught]


@pytest.mark.parametrize(
    ("order", "between"),
    [("xypt", ","), ("xytp", " "), ("ptxy", ";"), ("txyp", "\t"), ("tpxy", ", "), ("pxyt", ","), ("xypt", " ")],
)
@pytest.mark.parametrize("signed", [False, True])
def test_the_only_possible_order_is_taken_and_said(tmp_path, events, between, order, signed):
    sign = (lambda p: str(2 * p - 1)) if signed else str
    found, messages = read(write_text(tmp_path / "a.txt", events, order, between=between, p=sign))
    np.testing.assert_array_equal(found, events)
    assert [f"columns='{order}'" in message for message in messages] == ([] if order == "txyp" else [True])
    found, messages = read(tmp_path / "a.txt", columns=order)
    np.testing.assert_array_equal(found, events)
    assert messages == []


@pytest.mark.parametrize("kind", [">i8", "<f8", "<i4", ">f8", "<u4"])
@pytest.mark.parametrize("order", ["xypt", "txyp", "xytp"])
def test_plain_arrays_of_any_kind_and_order(tmp_path, events, kind, order):
    np.save(tmp_path / "a.npy", np.stack([events[c] for c in order], 1).astype(kind))
    np.testing.assert_array_equal(read(tmp_path / "a.npy")[0], events)


def test_columns_that_can_be_read_in_several_ways_are_refused(tmp_path, events):
    events["x"] = events["p"]
    path = write_text(tmp_path / "a.csv", events, "xypt")
    with pytest.raises(EventFileError, match=r"no names and could be .*columns='xypt'"):
        scn_events.open(path, size_hw=SIZE_HW)
    np.testing.assert_array_equal(read(path, columns="xypt")[0], events)


def test_columns_that_cannot_be_events_are_refused(tmp_path, events):
    np.save(tmp_path / "a.npy", np.stack([events["x"], events["y"], events["x"], events["t"]], 1))
    with pytest.raises(EventFileError, match="cannot be t, x, y, p, nor in any other order"):
        scn_events.open(tmp_path / "a.npy", size_hw=SIZE_HW)


def test_more_columns_than_four_and_their_order(tmp_path, events):
    path = write_text(tmp_path / "a.csv", events, "-xyp-t", head="# id x y p flag t\n")
    with pytest.raises(EventFileError, match="too many numbers"):
        scn_events.open(path, size_hw=SIZE_HW)
    np.testing.assert_array_equal(read(path, columns="-xyp-t")[0], events)


@pytest.mark.parametrize(
    ("form", "scale"),
    [("{:.1f}", 1), ("{:.18e}", 1), ("{:.6f}", 1e-6), ("{:.9f}", 1e-6), ("{:.12e}", 1e-6)],
)
def test_whole_times_are_microseconds_and_fractions_seconds_however_written(tmp_path, events, form, scale):
    path = write_text(tmp_path / "a.csv", events, time=lambda t: form.format(t * scale))
    found, messages = read(path)
    np.testing.assert_array_equal(found, events)
    assert messages == []


@pytest.mark.parametrize(
    ("unit", "scale", "form"),
    [("ns", 1000, "{:.0f}"), ("ms", 1e-3, "{:.3f}"), ("ms", 1e-3, "{:.3e}"), ("us", 1, "{:.2f}")],
)
@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_other_units_are_refused_until_they_are_said(tmp_path, events, unit, scale, form, suffix):
    events["t"] += unit == "us"
    path = tmp_path / f"a{suffix}"
    extra = 0.25 if unit == "us" else 0.0
    wanted = events.copy()
    if form == "{:.3e}":
        wanted["t"] = np.rint([float(form.format(t * scale)) * 1000 for t in events["t"]])
    if suffix == ".csv":
        write_text(path, events, time=lambda t: form.format(t * scale + extra))
    else:
        np.save(path, np.stack([wanted["t"] * scale + extra, *(events[c] for c in "xyp")], 1).astype(float))
    with pytest.raises(EventFileError, match=r"could be nanoseconds.*--unit us"):
        scn_events.open(path, size_hw=SIZE_HW)
    np.testing.assert_array_equal(read(path, unit=unit)[0], wanted)


@pytest.mark.parametrize(
    ("name", "scale"),
    [("t_us", 1), ("timestamp [us]", 1), ("time(ns)", 1000), ("Timestamp_ns", 1000), ("t_ms", 1e-3), ("t [s]", 1e-6)],
)
def test_the_name_of_a_column_says_its_unit(tmp_path, events, name, scale):
    head = f'"x [px]","y [px]",{name},Polarity\n'
    form = "{:.0f}" if scale >= 1 else "{:.9f}"
    path = write_text(tmp_path / "a.csv", events, "xytp", head=head, time=lambda t: form.format(t * scale))
    found, messages = read(path)
    np.testing.assert_array_equal(found, events)
    assert messages == []


@pytest.mark.parametrize(
    "p", [lambda p: str(bool(p)), lambda p: f"{p:.18e}", lambda p: str(2.0 * p - 1), lambda p: f"+{p}"]
)
def test_polarities_as_numpy_and_pandas_write_them(tmp_path, events, p):
    found, _ = read(write_text(tmp_path / "a.csv", events, head="t,x,y,p\n", p=p))
    np.testing.assert_array_equal(found, events)


@pytest.mark.parametrize("kind", ["?", "i1", "f4", "f8", ">i2", "u8"])
def test_polarity_arrays_of_any_kind(tmp_path, events, kind):
    np.savez(tmp_path / "a.npz", **{c: events[c] for c in "txy"}, p=events["p"].astype(kind))
    np.testing.assert_array_equal(read(tmp_path / "a.npz")[0], events)


@pytest.mark.parametrize("off_on", [(1, 2), (0, 255), (1, 255), (0, 2), (-1, 2)])
@pytest.mark.parametrize("suffix", [".csv", ".npz", ".npy"])
def test_other_polarities_are_refused(tmp_path, events, off_on, suffix):
    p = np.where(events["p"], off_on[1], off_on[0])
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, **{c: events[c] for c in "txy"}, p=p)
    elif suffix == ".npy":
        np.save(path, np.stack([*(events[c] for c in "txy"), p], 1))
    else:
        path.write_text(
            "t,x,y,p\n" + "".join(f"{e['t']},{e['x']},{e['y']},{v}\n" for e, v in zip(events, p, strict=True))
        )
    with pytest.raises(EventFileError, match=r"polarity|p must be 0 and 1 or -1 and 1"):
        scn_events.open(path, size_hw=SIZE_HW)


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_three_polarities_are_refused(tmp_path, events, suffix):
    p = np.arange(2000) % 3 - 1
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, **{c: events[c] for c in "txy"}, p=p)
    else:
        path.write_text(
            "t,x,y,p\n" + "".join(f"{e['t']},{e['x']},{e['y']},{v}\n" for e, v in zip(events, p, strict=True))
        )
    with pytest.raises(EventFileError, match="polarities are -1, 0 and 1"):
        scn_events.open(path, size_hw=SIZE_HW)


@pytest.mark.parametrize(("name", "value"), [("x", -3), ("y", 70_000), ("p", 5), ("t", float("nan")), ("x", 1e9)])
@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_a_few_numbers_that_are_no_events_are_dropped(tmp_path, events, name, value, suffix):
    columns = {c: events[c].astype(float) for c in "txyp"}
    columns[name][[3, 1000]] = value
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, **columns)
    else:
        np.savetxt(path, np.stack(list(columns.values()), 1), delimiter=",", header="t,x,y,p", comments="")
    found, messages = read(path)
    np.testing.assert_array_equal(found, np.delete(events, [3, 1000]))
    assert ["2 of 2000 events were dropped" in message for message in messages] == [True]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": "xyp"}, "one letter a column"),
        ({"columns": "xyptt"}, "one letter"),
        ({"unit": "sec"}, "unknown unit"),
    ],
)
def test_options_that_are_written_wrong(tmp_path, events, options, words):
    with pytest.raises(ConfigError, match=words):
        scn_events.open(write_text(tmp_path / "a.csv", events), **options)


def test_options_for_a_format_that_says_it_itself(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"% evt 3.0\n% end\n")
    with pytest.raises(ConfigError, match=r"\.raw files say themselves what unit says"):
        scn_events.open(tmp_path / "a.raw", unit="us")
