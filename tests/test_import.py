import json
import subprocess
import sys

OPTIONAL = {
    "lightning", "tensorboard", "matplotlib", "av", "faster_coco_eval", "huggingface_hub", "safetensors", "PIL",
    "jsonargparse", "rich", "beartype", "pycocotools", "h5py", "hdf5plugin", "lz4", "zstandard", "trackers",
    "supervision", "cv2",
    "eventcv", "onnx", "onnxscript", "onnxruntime", "openvino",
    "nir",
}  # fmt: skip
"""Optional or slow packages; each is imported by the function that needs it."""


def test_the_import_brings_no_optional_package_along(subprocess_env):
    code = "import spiking_centernet, sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], env=subprocess_env, capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout))
    assert "torch" in modules
    assert not modules & OPTIONAL


def test_the_import_is_quick(subprocess_env):
    """A promise, in seconds of processor time and best of three, so that a busy machine does not fail it."""
    code = "import spiking_centernet, time; print(time.process_time())"
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, env=subprocess_env, capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 2.5


def test_the_public_door_is_complete():
    import spiking_centernet as scn

    names = {"open", "voxelize", "load", "build", "evaluate", "Detector", "DetectorConfig", "Boxes", "Detections"}
    assert names <= set(vars(scn))
