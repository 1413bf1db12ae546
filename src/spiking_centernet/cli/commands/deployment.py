"""Commands that deploy a detector: other runtimes, and the speed of this machine."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from spiking_centernet.cli import output, tables
from spiking_centernet.cli.commands.models import load_network
from spiking_centernet.cli.values import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Preset,
    Protocol,
    Rate,
    Size,
    read_size,
)
from spiking_centernet.errors import ConfigError


def export(
    model: str,
    out: Path,
    *,
    size: Size = "304x240",
    steps: PositiveInt | None = None,
    weights: Literal["float32", "int8"] = "float32",
    pooling: Literal["threshold", "neuron"] = "threshold",
    check: bool = False,
    data: str | None = None,
    split: str = "val",
    protocol: Protocol = "prophesee",
    json: bool = False,
) -> None:
    """Export a detector to ONNX, OpenVINO, AOTInductor or NIR, and check that it computes the same.

    Args:
        model: bundled name, weight file, run folder or hub id
        out: file to write; the suffix decides: .onnx, .xml, .pt2, .nir
        size: of the sensor in pixels
        steps: time steps of a call; null: a whole window
        weights: how the file stores them
        pooling: in NIR; neuron suits older importers
        check: compare with the network on real windows; write a report
        data: with --check: folder to score both on
        split: folder of the split
        protocol: of the score
        json: print one JSON document

    Example:
        scn export nano nano.onnx --check --data roads
    """
    from spiking_centernet.deploy import export as exporting
    from spiking_centernet.evaluation.prediction import dataset_for
    from spiking_centernet.utils.provenance import collect_provenance, write_json

    detector = load_network(model)
    size_hw = read_size(size)
    document: dict[str, Any] = {"model": model, "file": out.name, "size_hw": size_hw}
    if data is not None and not check:
        raise ConfigError("--data is what the check scores; add --check")
    lines, report = [], None
    if out.suffix == ".nir":
        if (weights, steps, data) != ("float32", None, None):
            raise ConfigError(
                "a .nir file holds one step in float32, and its check compares spikes; "
                "leave out --weights, --steps and --data"
            )
        exporting.write_nir(detector, out, size_hw, pooling=pooling)
        lines.append(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
        if check:
            report = exporting.check_nir(detector, out, size_hw)
    else:
        run = exporting.export_detector(detector, out, size_hw=size_hw, num_steps=steps, weights=weights)
        lines.append(f"wrote {out} ({run.num_bytes / 1e6:.1f} MB)\nrun it without this package: python {run.snippet}")
        document |= {"weights": weights, "num_bytes": run.num_bytes, "data": data}
        if check:
            dataset = None if data is None else dataset_for(detector, data, split)
            report = exporting.check(
                detector, run, weights=weights, dataset=dataset, protocol=protocol
            )  # fmt: skip
    files = [out]
    if report is not None:
        path = out.with_name(f"{out.name}.check.json")
        document["report"] = dataclasses.asdict(report)
        write_json(path, document | {"provenance": collect_provenance()})
        files.append(path)
    if json:
        output.write_document(document | {"files": files})
        return
    output.show_text("\n".join(lines))
    if report is not None:
        tables.exported(report)
        output.show_text(f"wrote {files[-1]}")


def bench(
    *,
    out: Path = Path("bench"),
    preset: Preset = "paper",
    threads: list[PositiveInt] = [1, 2],  # noqa: B006
    seconds: PositiveFloat = 20.0,
    firing_rate: Rate = 0.12,
    fast: bool = False,
    seed: NonNegativeInt = 0,
    json: bool = False,
) -> None:
    """Measure the speed of this machine, with the roofline and whatever other runtimes are installed.

    Args:
        out: folder for bench.json and the plots
        preset: the network, with random weights that spike as asked
        threads: numbers of threads, one comparison each
        seconds: of each comparison
        firing_rate: of every layer
        fast: leave out what takes a minute to build
        seed: of weights and events
        json: print the results as one JSON document

    Example:
        scn bench --preset paper --threads 1 2 --out bench
    """
    from spiking_centernet.experiments.bench import race_rows, run_bench

    result = run_bench(
        out, preset=preset, threads=threads, seconds=seconds, firing_rate=firing_rate, slow=not fast, seed=seed,
    )  # fmt: skip
    if json:
        output.write_document(result)
        return
    for race in result["races"]:
        title = f"{race['threads']} threads, allocator {race['allocator']}, firing rate {race['firing_rate']:.1%}"
        output.show_table(title, ("", "ms", "p95", "x SpikingJelly", "of the roofline"), race_rows(race))
    for name, how in result["missing"].items():
        output.show_text(f"{name} did not take part; {how}")
    output.show_text(f"wrote {out / 'bench.json'} and the plots")
