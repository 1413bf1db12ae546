"""Weight files: safetensors with the network's configuration inside; nothing a file says is ever executed."""

import hashlib
import json
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spiking_centernet.errors import ConfigError, WeightsError, did_you_mean
from spiking_centernet.model import Detector, DetectorConfig
from spiking_centernet.model.config_dict import config_from_dict, config_to_dict, nested_from_format_1
from spiking_centernet.utils.files import atomic_write

FORMAT_1 = "spiking-centernet 1"
"""The configuration lies flat in these files."""
FORMAT = "spiking-centernet 2"
SUFFIX = ".safetensors"
MAX_HEADER_BYTES = 16 << 20
"""The header names the tensors and holds the notes: 100 kB in the bundled weights."""
PICKLED = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How a pickle begins, or the zip around one: as the length of a header, senseless."""
NO_PICKLES = "pickled checkpoints (.pt, .ckpt) are refused because loading one can run any code"
HUB_TIMEOUT_S = 10.0
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def bundled() -> dict[str, Path]:
    """Return the weight files bundled with the package, by name."""
    folder = Path(str(resources.files("spiking_centernet") / "models"))
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def save(model: Detector, path: str | os.PathLike[str], *, notes: dict[str, Any] | None = None) -> Path:
    """Write a detector's weights and configuration to one safetensors file.

    Args:
        model: the detector, not fused.
        path: the file to write; ``.safetensors`` is added if it is missing.
        notes: what else to keep in the header, for example scores; plain JSON values.

    Raises:
        WeightsError: the detector is fused: its batch norms are gone and it could not be trained on.
    """
    if model.encoder.stem.norm is None:
        raise WeightsError("a fused detector cannot be saved; save the detector it was fused from")
    return save_tensors(model.state_dict(), path, config_to_dict(model.config), notes or {})


def save_tensors(
    tensors: dict[str, Tensor], path: str | os.PathLike[str], config: dict[str, Any], notes: dict[str, Any]
) -> Path:
    """Write named tensors, a configuration and notes to one safetensors file, whole or not at all."""
    from safetensors.torch import save as to_bytes

    path = Path(path)
    if path.suffix != SUFFIX:
        path = path.with_name(path.name + SUFFIX)
    header = {"format": FORMAT, "config": json.dumps(config), "notes": json.dumps(notes)}
    with atomic_write(path) as temporary:
        # Not save_file: it makes files that only their owner may read.
        temporary.write_bytes(to_bytes({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, header))
    return path


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Return the tensors, the configuration and the notes of a file written by :func:`save_tensors`.

    The flat configuration of format 1 is nested as today's are.

    Raises:
        WeightsError: there is no such file, or it is not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    _refuse_long_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error}); {NO_PICKLES}") from error
    if header.get("format") not in (FORMAT_1, FORMAT):
        raise WeightsError(
            f"{path}: says format {header.get('format')!r}, expected {FORMAT!r}; was it written by scn train? "
            "A newer version of the package may read it"
        )
    try:
        config, notes = json.loads(header["config"]), json.loads(header["notes"])
    except (KeyError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its header is damaged ({error}); take another copy of the file") from error
    try:
        return tensors, nested_from_format_1(config) if header["format"] == FORMAT_1 else config, notes
    except ConfigError as error:
        raise WeightsError(f"{path}: its configuration does not make a network: {error}") from error


def _refuse_long_header(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise WeightsError(f"{path}: no such weight file ({error})") from error
    length = int.from_bytes(start, "little")
    if length > MAX_HEADER_BYTES:
        if start[:2] in PICKLED:
            raise WeightsError(f"{path}: not a safetensors file; {NO_PICKLES}")
        raise WeightsError(f"{path}: is no weight file: it does not begin as safetensors do; give one of scn train")


def load(name: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Detector:
    """Return a trained detector in evaluation mode.

    Args:
        name: the name of bundled weights ("nano"), the path of a ``.safetensors`` file, or ``user/repository`` on the
            Hugging Face hub (its ``model.safetensors``).
        device: where the detector goes.

    Raises:
        WeightsError: nothing is found, or the file is not a detector's.
    """
    tensors, values, _ = read_tensors(find(name))
    try:
        config = config_from_dict(values)
        with torch.device("meta"):  # shapes without memory: a file may claim any
            expected = Detector(config).state_dict()
    except ConfigError as error:
        raise WeightsError(f"{name}: its configuration does not make a network: {error}") from error
    for key in expected.keys() | tensors.keys():
        if key not in tensors or key not in expected:
            what = "lacks" if key not in tensors else "holds the unknown tensor"
            raise WeightsError(f"{name}: {what} {key}; the file does not belong to its configuration")
        if tensors[key].shape != expected[key].shape:
            raise WeightsError(
                f"{name}: {key} is {list(tensors[key].shape)}, its configuration says {list(expected[key].shape)}"
            )
        if tensors[key].is_floating_point() != expected[key].is_floating_point() or tensors[key].is_complex():
            raise WeightsError(f"{name}: {key} is {tensors[key].dtype}, expected {expected[key].dtype}")
        held = tensors[key].to(expected[key].dtype)  # float64 holds numbers that float32 does not
        if not torch.isfinite(held).all():
            raise WeightsError(f"{name}: {key} is not finite; take another copy, or an earlier checkpoint")
        if key.endswith("running_var") and (held < 0).any():
            raise WeightsError(f"{name}: {key} is a negative variance; take another copy, or an earlier checkpoint")
    model = Detector(config)
    model.load_state_dict(tensors)
    return model.to(device).eval()


def config_of(name: str | os.PathLike[str]) -> DetectorConfig:
    """Return the configuration of the network that a weight file belongs to.

    Raises:
        WeightsError: nothing is found, or the file is not a detector's.
    """
    try:
        return config_from_dict(read_tensors(find(name))[1])
    except ConfigError as error:
        raise WeightsError(f"{name}: its configuration does not make a network: {error}") from error


def notes(name: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what training wrote next to the weights: scores with their protocol, recipe, seed, versions."""
    return read_tensors(find(name))[2]


def sha256(name: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a weight file as 64 hexadecimal digits.

    Raises:
        WeightsError: nothing is found.
    """
    return hashlib.sha256(find(name).read_bytes()).hexdigest()


def find(name: str | os.PathLike[str]) -> Path:
    """Return the file that a name, path or hub id stands for.

    Raises:
        WeightsError: nothing is found.
    """
    shipped = bundled()
    text = os.fspath(name)
    if text in shipped:
        return shipped[text]
    path = Path(text)
    try:
        path.stat()
    except (ValueError, OSError) as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):  # a null byte, or a name too long
            raise WeightsError(f"{text[:100]!r}: is no path ({error}){did_you_mean('', shipped)}") from error
    if path.is_dir():
        for candidate in ("best", "model"):
            if (path / f"{candidate}{SUFFIX}").is_file():
                return path / f"{candidate}{SUFFIX}"
        raise WeightsError(f"{path}: holds no best{SUFFIX}; give a run folder of scn train or a weight file")
    if path.is_file():
        return path
    if path.suffix or path.is_absolute() or not HUB_NAME.fullmatch(text):
        raise WeightsError(f"{text}: no such weight file{did_you_mean(text, shipped)}")
    return _from_hub(text)


def _from_hub(repository: str) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    name = f"model{SUFFIX}"
    try:
        # Asked once and without retries: hf_hub_download tries for half a minute where there is no network.
        get_hf_file_metadata(hf_hub_url(repository, name), timeout=HUB_TIMEOUT_S)
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # of the hub, or of whichever HTTP library it uses
        try:
            return Path(hf_hub_download(repository, name, local_files_only=True))
        except Exception:  # not downloaded before either
            raise WeightsError(
                f"{repository}: neither a file here nor a model on the hub that can be reached "
                f"({type(error).__name__}); bundled weights: {', '.join(bundled()) or 'none'}"
            ) from error
