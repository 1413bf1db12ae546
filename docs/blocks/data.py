"""Blocks about events, the simulator and recordings."""

from collections.abc import Callable, Sequence
from typing import Any

from blocks.common import Results, origin, table


def events_speed(results: Results) -> str:
    """Reading and binning of events, compared with plain NumPy."""
    r = results["events_speed"]
    rows = []
    for key, what in (
        ("decode", "decode a whole file"), ("random_window_100ms", "read a random 100 ms window"),
        ("binning", "bin 100,000 events into a cube"),
    ):  # fmt: skip
        ours, numpy = r[key]["ours"], r[key]["numpy"]
        rate = f"{ours['million_events_per_s']:.0f} Mev/s" if "million_events_per_s" in ours else "-"
        rows.append((what, f"{ours['median_ms']:.3g} ms", rate, f"{numpy['median_ms']:.3g} ms"))
    return f"{table(('median', 'ours', 'rate', 'numpy'), rows)}\n\n{origin(r)}"


def simulator_speed(results: Results) -> str:
    """How fast one core simulates."""
    return _speed(results["simulator_speed"])


def simulator_speed_wide(results: Results) -> str:
    """How fast one core simulates the wide world."""
    return _speed(results["simulator_speed_wide"])


def _speed(r: dict[str, Any]) -> str:
    shares = ", ".join(f"{part} {share:.0%}" for part, share in r["share_of_time"].items())
    return (
        f"One core simulates {r['real_time_factor']:.2f} seconds in a second of processor time "
        f"({len(r['clips'])} clips, {r['event_rate_mev_s']:.2f} Mev/s on average; {shares}). {origin(r)}"
    )


def noise_calibration(results: Results) -> str:
    """Noise of two real cameras and of the simulated one."""
    r = results["noise_calibration"]
    columns = [(camera, side) for camera in r["cameras"].values() for side in ("real", "simulated")]
    rows = [
        (what, *(write(camera[side][key]) for camera, side in columns))
        for what, key, write in (
            ("events per second and pixel", "rate_hz_per_pixel", lambda v: f"{v:.3f}"),
            ("silent pixels", "silent_share", lambda v: f"{v:.1%}"),
            ("hot pixels (over 50 events/s)", "hot_share", lambda v: f"{v:.1e}"),
            ("their share of the events", "hot_event_share", lambda v: f"{v:.1%}"),
            ("hottest pixel, events/s", "hottest_hz", lambda v: f"{v:.0f}"),
            ("ON share", "on_share", lambda v: f"{v:.1%}"),
            ("polarity alternates", "alternating_share", lambda v: f"{v:.1%}"),
            ("correlation of neighbors", "neighbour_correlation", lambda v: f"{v:.3f}"),
        )
    ]
    header = ("", "IMX636, real", "simulated", "DVXplorer, real", "simulated")
    return f"{table(header, rows)}\n\n{origin(r)}"


def domain_gap(results: Results) -> str:
    """Statistics of real recordings beside those of the simulated worlds."""
    r = results["domain_gap"]
    columns = (
        ("rate_hz_per_px", "{:.2f}"), ("active_share", "{:.0%}"), ("on_share", "{:.0%}"), ("slope", "{:.2f}"),
        ("box_height_px", "{:.0f}"),
    )  # fmt: skip
    rows = []
    for recording in r["recordings"]:
        for side in ("real", "roads", "wide", "close"):
            if side in recording:
                found = recording[side]
                cells = ["-" if found.get(key) is None else write.format(found[key][1]) for key, write in columns]
                name = recording["recording"] if side == "real" else ""
                rows.append((name, side, str(found["windows"]), *cells))
    header = ("recording", "", "windows", "events/s and px", "active px", "ON", "slope", "box height, px")
    return f"{table(header, rows)}\n\n{origin(r)}"


def roads_statistics(results: Results) -> str:
    """What is in the simulated data set, split by split."""
    r = results["roads_statistics"]
    splits = r["splits"]

    def row(what: str, write: Callable[[dict[str, Any]], str]) -> tuple[str, ...]:
        return (what, *(write(split) for split in splits.values()))

    def counts(key: str) -> list[tuple[str, ...]]:
        names = next(iter(splits.values()))[key]
        return [row(f"boxes: {name}", lambda s, name=name: f"{s[key][name]}") for name in names]

    rows = [
        row("clips", lambda s: f"{s['clips']}"),
        row("seconds", lambda s: f"{s['seconds']:.0f}"),
        row("events", lambda s: f"{s['events'] / 1e6:.1f} M"),
        row("event rate, Mev/s: mean", lambda s: f"{s['event_rate_mev_s']['mean']:.2f}"),
        row("lowest / median / highest clip", lambda s: _joined(s["event_rate_mev_s"], ("min", "median", "max"), 2)),
        row("ON share", lambda s: f"{s['on_share']:.1%}"),
        row("labeled frames with a box", lambda s: f"{s['label_instants']}"),
        row("boxes", lambda s: f"{s['boxes']}"),
        row("objects", lambda s: f"{s['tracks']}"),
        *counts("boxes_per_class"),
        *counts("boxes_per_size"),
        row("box height, px: 5 % / median / 95 %", lambda s: _joined(s["box_height_px"], ("q5", "q50", "q95"), 0)),
        row("boxes with under 50 events in 100 ms", lambda s: f"{s['boxes_under_50_events']:.1%}"),
    ]
    return f"{table(('', *splits), rows)}\n\nSimulated by `{r['simulated_by']}`. {origin(r)}"


def _joined(values: dict[str, float], keys: Sequence[str], digits: int) -> str:
    return " / ".join(f"{values[key]:.{digits}f}" for key in keys)


def roads_scenes(results: Results) -> str:
    """Mounts and light of the simulated clips."""
    r = results["roads_statistics"]
    total = sum(s["clips"] for s in r["scenes"].values())
    rows = [
        (name, s["clips"], f"{s['clips'] / total:.0%}", f"{s['events'] / s['seconds'] * 1e-6:.2f}",
         f"{s['boxes'] / s['seconds']:.1f}")
        for name, s in r["scenes"].items()
    ]  # fmt: skip
    return table(("camera, light", "clips", "share", "Mev/s", "boxes a second"), rows)


def real_recordings(results: Results) -> str:
    """Detections in real recordings without boxes."""
    r = results["real_recordings"]
    rows = [
        (row["recording"], row["shows"], row["size"], f"`{row['model']}`", row["instants"], *row["boxes"].values())
        for row in r["recordings"]
    ]
    header = ("recording", "what it shows", "sensor", "weights", "frames", *r["recordings"][0]["boxes"])
    thresholds = ", ".join(f"`{name}` at score {score:g}" for name, score in r["min_score"].items())
    return f"{table(header, rows, words=4)}\n\n{thresholds}. {origin(r)}"
