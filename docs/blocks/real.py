"""Blocks on real recordings and on what was trained for them."""

from typing import Any

from blocks.common import Results, number, origin, table


def _part(row: dict[str, Any], part: str, write: Any) -> str:
    """Return a cell, a dash where the recording was not at hand."""
    return "-" if "skipped" in row[part] else write(row[part])


def _found(counts: dict[str, Any]) -> str:
    return f"{counts['matched']} of {counts['truth']}"


def _false(counts: dict[str, Any]) -> str:
    return f"{counts['false_per_frame']:.2f}"


REAL_HEADER = ("real street", "real N-CARS", "real PEDRo")
REAL_NOTE = (
    "The last three columns are **real** recordings, on which nothing was trained or chosen, at the default threshold: "
    "cars found on a street; share of car crops with a car box, and of background crops with any box; persons found by "
    "somebody who walks ([the real suite](docs/real.md))."
)


def _suite(results: Results) -> list[dict[str, Any]]:
    """Return both measurements of the real suite, of the binary weights and of those with whole numbers of spikes."""
    return [results["real_suite"], results["real_suite_integer"]]


def real_columns(results: Results, name: str) -> tuple[str, str, str]:
    """Return what bundled weights find in the real suite, for README's table."""
    row = next((row for r in _suite(results) for row in r["models"] if row["model"] == name), None)
    if row is None:
        return "-", "-", "-"
    return (
        _part(row, "icns", _found),
        _part(row, "ncars", lambda c: f"{c['car_box_on_cars']:.0%}, {c['any_box_on_backgrounds']:.0%}"),
        _part(row, "pedro", _found),
    )


def real_suite(results: Results) -> str:
    """What every model does on the development half of the real suite, at its own threshold."""
    measured = _suite(results)
    models = [row for r in measured for row in r["models"]]

    def share(key: str) -> Any:
        return lambda counts: f"{counts[key]:.0%}"

    wanted = (
        ("PEDRo, filmed while walking: persons found", "pedro", _found),
        ("PEDRo: false boxes a frame", "pedro", _false),
        ("N-CARS: cars with a car box", "ncars", share("car_box_on_cars")),
        ("N-CARS: the same at IoU 0.5", "ncars", share("car_box_iou50_on_cars")),
        ("N-CARS: cars with a pedestrian box", "ncars", share("pedestrian_box_on_cars")),
        ("N-CARS: backgrounds with any box", "ncars", share("any_box_on_backgrounds")),
        ("N-CARS: cars against backgrounds, AUC", "ncars", lambda counts: number(counts["auc"])),
        ("desk with books: false boxes a frame", "seq_0003_e", _false),
        ("head and shoulders: false boxes a frame", "bust", _false),
        ("street, DAVIS346: cars found", "icns", _found),
        ("street: false boxes a frame", "icns", _false),
        ("person close to a VGA camera: found", "gen31", _found),
        ("person close to a VGA camera: false boxes a frame", "gen31", _false),
        ("sensor noise, IMX636: boxes a frame", "imx636_static_noise", _false),
        ("sensor noise, DVXplorer: boxes a frame", "dvxplorer_static_noise", _false),
    )
    rows = [(title, *(_part(row, part, write) for row in models)) for title, part, write in wanted]
    header = ("recording", *(f"`{row['model']}`" for row in models))
    thresholds = ", ".join(f"`{row['model']}` {row['threshold']:g}" for row in models)
    origins = " ".join(map(origin, measured))
    return f"{table(header, rows)}\n\nBoxes count from each model's own threshold up: {thresholds}. {origins}"


def real_misses(results: Results) -> str:
    """Why objects in real recordings are missed."""
    r = results["real_misses"]
    names = {
        "pedro": "PEDRo, persons", "gen31": "VGA, a close person", "icns": "street, cars", "ncars": "N-CARS, cars"
    }  # fmt: skip
    rows = [
        (names[part], f"`{row['model']}`", *(counts[cause] for cause in r["causes"]))
        for part in names
        for row in r["models"]
        for counts in [row["parts"][part]]
    ]
    legend = "; ".join(f"*{cause}*: {meaning}" for cause, meaning in r["causes"].items())
    cells = table(("objects of", "weights", *r["causes"]), rows, words=2)
    return f"{cells}\n\nThe first that holds. {legend}. {origin(r)}"


def partial_windows(results: Results) -> str:
    """Recall where only the end of a window holds events."""
    measured = [results["partial_windows"], results["partial_windows_wide"]]
    every = [row for r in measured for row in r["rows"]]
    lengths = list(dict.fromkeys(row["filled_ms"] for row in every))
    models = list(dict.fromkeys(row["model"] for row in every))
    held = {(row["model"], row["fit"], row["filled_ms"]): number(row["recall"]) for row in every}
    rows = [
        (
            f"`{model}`",
            "begins at its first event" if fit else "whole",
            *(held.get((model, fit, ms), "-") for ms in lengths),
        )
        for model in models
        for fit in (False, True)
    ]
    header = ("weights", "window", *(f"{ms:g} ms" for ms in lengths))
    note = f"Simulated roads, split `{measured[0]['split']}`, {every[0]['boxes']} boxes, IoU 0.5."
    return "\n\n".join([table(header, rows, words=2), note, *map(origin, measured)])


def wide_scores(results: Results) -> str:
    """AP of the weights on both simulated worlds."""
    r = results["wide_scores"]
    rows = [
        (f"`{name}`", world, number(score["ap"]), number(score["ap50"]), number(score["ap75"]))
        for name, worlds in r["weights"].items()
        for world, score in worlds.items()
    ]
    shown = table(("weights", "world", "AP", "AP50", "AP75"), rows, words=2)
    frames = "" if r.get("every", 1) == 1 else f", one labeled frame in {r['every']}"
    return f"{shown}\n\nSplit `test`, protocol `{r['protocol']}`{frames}. {origin(r)}"


def score_fit(results: Results) -> str:
    """AP before and after scores were fitted, on recordings that the fit did not see."""
    rows, origins = [], []
    for name, row in results["score_fit"]["weights"].items():
        for world, scores in row["worlds"].items():
            cells = [
                " / ".join(number(half[key]) for half in scores[halves])
                for key in ("ap", "ap50")
                for halves in ("halves_before", "halves_after")
            ]
            rows.append((f"`{name}`", world, scores["frames"], *cells))
        fit = ", ".join(f"{value:g}" for value in row["fit"])
        origins.append(f"`{name}`: fitted numbers {fit}. {origin(row)}")
    header = ("weights", "world", "frames", "AP before", "after", "AP50 before", "after")
    note = (
        "Simulated, split `val`, protocol `none`. Two values: each half of the recordings, scored with the fit of the "
        "other half."
    )
    return "\n\n".join([table(header, rows, words=2), note, *origins])


def augmentations(results: Results) -> str:
    """What one group of augmentations after the other does to simulated and to real scores."""
    r = results["augmentations"]

    def counted(counts: dict[str, Any]) -> str:
        return f"{_found(counts)}, {counts['false']} false"

    def crops(counts: dict[str, Any]) -> str:
        return f"{counts['car_box_on_cars']:.0%}, {counts['any_box_on_backgrounds']:.0%}, {counts['auc']:.2f}"

    columns = (("pedro", counted), ("ncars", crops), ("seq_0003_e", _false), ("bust", _false), ("icns", counted))
    worlds = list(r["rows"][0]["ap"])
    rows = [
        (
            row["augmentation"],
            *(number(row["ap"][world]) for world in worlds),
            *(_part(row["real"], part, write) for part, write in columns),
        )
        for row in r["rows"]
    ]
    header = (
        "augmentation", *(f"{world}, AP" for world in worlds), "PEDRo",
        "N-CARS: car box on cars, any on backgrounds, AUC", "desk", "head and shoulders", "street",
    )  # fmt: skip
    return (
        f"{table(header, rows)}\n\n`nano`, fine-tuned in {r['steps']} steps each; AP on the split `{r['split']}` of "
        f"simulated worlds, protocol `{r['protocol']}`; desk, head and shoulders: false boxes a frame. {origin(r)}"
    )


def real_fine_tune(results: Results) -> str:
    """What fine-tuning on a few hundred real crops changes on others."""
    r = results["real_fine_tune"]
    columns = ("car_box_on_cars", "car_box_iou50_on_cars", "pedestrian_box_on_cars", "any_box_on_backgrounds")
    rows = [
        (
            f"`{row['model']}` {what}",
            *(f"{row[key][column]:.0%}" for column in columns),
            number(row[key]["auc"]),
        )
        for row in r["models"]
        for what, key in (("as it comes", "before"), ("fine-tuned", "after"))
    ]
    header = ("weights", "car box on cars", "at IoU 0.5", "pedestrian box on cars", "any box on backgrounds", "AUC")
    crops = r["crops"]
    return (
        f"{table(header, rows)}\n\n{crops['train']} real crops of N-CARS to train on, {crops['val']} that chose the "
        f"threshold, {crops['test']} others scored. {origin(r)}"
    )


def parked(results: Results) -> str:
    """Recall in a stateful stream, by how long objects have stood still."""
    r = results["parked"]
    models = r["models"]
    groups = sorted({name for row in models for name in row["groups"]}, key=lambda name: (name[:5] == "still", name))

    def share(row: dict[str, Any], name: str) -> str:
        counts = row["groups"].get(name)
        return "-" if counts is None else f"{counts['found']} of {counts['labeled']}"

    rows = [(name, *(share(row, name) for row in models)) for name in groups]
    rows.append(("false boxes a frame", *(f"{row['false_per_frame']:.2f}" for row in models)))
    header = ("objects", *(f"`{row['model']}`" for row in models))
    return (
        f"{table(header, rows)}\n\n"
        "![Objects found by the seconds since they stopped](images/parked.png)\n\n"
        f"Simulated roads, split `{r['split']}`, stateful stream: objects found at IoU 0.5. {origin(r)}"
    )
