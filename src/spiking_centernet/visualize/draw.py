"""Events and boxes as pictures."""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from spiking_centernet.calibration import Calibration
from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.structures import CLASS_NAMES, EVENT_DTYPE, Boxes, Detections, VoxelSpec
from spiking_centernet.utils.files import atomic_write

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Image = UInt8[np.ndarray, "H W 3"]
"""Red, green, blue from 0 to 255, row by row from the top."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Theme:
    """Colors of an event picture.

    Attributes:
        background: where nothing happened.
        on: pixels that last got brighter.
        off: pixels that last got darker.
    """

    background: Color
    on: Color
    off: Color


THEMES = {
    # ON is the lighter of the two, so that they stay apart for every kind of color vision.
    "dark": Theme(background=(18, 22, 33), on=(240, 240, 232), off=(64, 132, 214)),
    "light": Theme(background=(255, 255, 255), on=(90, 165, 240), off=(20, 28, 56)),
}
"""Every theme by its name."""

CLASS_COLORS: tuple[Color, ...] = (
    *((255, 176, 0), (255, 96, 168), (94, 224, 160), (200, 160, 255)),
    *((255, 240, 110), (255, 120, 80), (110, 220, 240)),
)
"""Box colors by label, repeated when there are more classes; none is near an event color."""

CAPTION_PX = 20
"""Height of the line below a picture that holds its caption; even, as videos need it."""

STRENGTH = (0.0, 0.65, 0.85, 1.0)
"""How far a pixel goes from the background to its color after 0, 1, 2, and 3 or more events: edges outshine noise."""


def events_image(events: np.ndarray, size_hw: tuple[int, int], *, theme: str = "dark") -> Image:
    """Picture events: the hue is the polarity of the pixel's last event, the strength their number.

    Args:
        events: EVENT_DTYPE [N], in time order.
        size_hw: height and width of the sensor in pixels.
        theme: a name of ``THEMES``.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ConfigError: unknown theme, or an event outside the sensor.
    """
    if theme not in THEMES:
        raise ConfigError(f"no theme is called {theme!r}{did_you_mean(theme, THEMES)}")
    colors = THEMES[theme]
    height, width = size_hw
    x, y = events["x"].astype(np.intp), events["y"].astype(np.intp)
    outside = np.flatnonzero((x >= width) | (y >= height))
    if len(outside):
        k = outside[0]
        raise ConfigError(
            f"event {k} at x={x[k]}, y={y[k]} lies outside the {width} x {height} sensor; pass the recording's size_hw"
        )
    pixel = y * width + x
    count = np.bincount(pixel, minlength=height * width)
    last_is_on = np.zeros(height * width, np.intp)
    last_is_on[pixel] = events["p"]
    ends = np.array([colors.off, colors.on], np.float64)[:, None]  # [2,1,3]
    strength = np.array(STRENGTH)[:, None]
    table = np.rint(np.array(colors.background) * (1 - strength) + ends * strength).astype(np.uint8)  # [2,4,3]
    return table[last_is_on, np.minimum(count, len(STRENGTH) - 1)].reshape(height, width, 3)


HEAT: Color = (255, 176, 0)
"""What a heatmap of 1 is blended with."""


def overlay_heatmap(image: np.ndarray, probability: np.ndarray) -> Image:
    """Return a picture with a heatmap laid over it: the higher the probability, the nearer to ``HEAT``.

    Args:
        image: uint8 [H, W, 3].
        probability: float [h, w] in [0, 1], stretched to the picture.
    """
    check_image(image)
    height, width = image.shape[:2]
    rows = np.arange(height) * probability.shape[0] // height
    columns = np.arange(width) * probability.shape[1] // width
    # The root shows what is faint: most of a heatmap is below 0.1.
    strength = 0.8 * np.sqrt(probability[rows][:, columns].clip(0, 1))[..., None]
    return np.rint(image * (1 - strength) + np.array(HEAT) * strength).astype(np.uint8)


def default_scale(size_hw: tuple[int, int]) -> int:
    """Return how often to repeat pixels so that text is readable: 3 for GEN1, 2 at 640 px, 1 at 1280 px."""
    return max(1, min(3, round(960 / size_hw[1])))


def draw_boxes(
    image: np.ndarray,
    detections: Detections | None = None,
    truth: Boxes | None = None,
    *,
    class_names: Sequence[str] = CLASS_NAMES,
    scale: int | None = None,
    caption: str = "",
    camera: Calibration | None = None,
) -> Image:
    """Enlarge a picture and draw detections (solid, with class, score and track) and ground truth (dashed) into it.

    Args:
        image: uint8 [H, W, 3] at the sensor's size.
        detections: what was found; drawn worst first, so that the best lies on top.
        truth: what is there; named only where there are no detections to name.
        class_names: what label 0, 1, ... is called; other labels are drawn as numbers.
        scale: how often each pixel is repeated; None takes ``default_scale``.
        caption: a line of text below the picture, so that it hides nothing.
        camera: of the sensor, for the cuboids of known 3D boxes; skeletons need none.

    Returns:
        a new uint8 [H * scale, W * scale, 3], ``CAPTION_PX`` higher with a caption.

    Raises:
        ConfigError: the image is not uint8 [H, W, 3], or the scale is under 1.
    """
    check_image(image)
    scale = default_scale(image.shape[:2]) if scale is None else scale
    if scale < 1:
        raise ConfigError(f"scale must be 1 or more, got {scale}")
    from PIL import Image as PilImage
    from PIL import ImageDraw

    from spiking_centernet.visualize.draw3d import draw_tasks

    canvas = PilImage.fromarray(np.repeat(np.repeat(image, scale, axis=0), scale, axis=1))
    pen = ImageDraw.Draw(canvas)
    if truth is not None:
        for k in range(len(truth)):
            if detections is None or detections.joints.shape[1] or camera is not None:
                draw_tasks(pen, truth, k, (235, 235, 235), scale, camera)
            corners = _dashed(pen, truth.xyxy[k] * scale)
            if detections is None:
                name = _name(class_names, int(truth.labels[k]))
                _tag(pen, corners, f"{name}: crowd" if truth.crowd[k] else name, (235, 235, 235))
    if detections is not None:
        for k in np.argsort(detections.scores, kind="stable"):
            label = int(detections.labels[k])
            color = CLASS_COLORS[label % len(CLASS_COLORS)]
            if detections.joints.shape[1] or camera is not None:
                draw_tasks(pen, detections, int(k), color, scale, camera)
            corners = _corners(detections.xyxy[k] * scale, pen.im.size)
            pen.rectangle(corners, outline=color, width=2)
            track = f" #{detections.track_ids[k]}" if detections.track_ids[k] >= 0 else ""
            _tag(pen, corners, f"{_name(class_names, label)} {detections.scores[k]:.2f}{track}", color)
    if not caption:
        return np.asarray(canvas).copy()
    whole = PilImage.new("RGB", (canvas.width, canvas.height + CAPTION_PX), THEMES["dark"].background)
    whole.paste(canvas)
    write_text(ImageDraw.Draw(whole), (0, whole.height), caption, (235, 235, 235), THEMES["dark"].background)
    return np.asarray(whole).copy()


def check_image(image: np.ndarray) -> None:
    """Check that a picture is uint8 [H, W, 3]; raises ConfigError."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ConfigError(f"an image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")


def _name(class_names: Sequence[str], label: int) -> str:
    return class_names[label] if 0 <= label < len(class_names) else f"class {label}"


def _corners(xyxy: np.ndarray, size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the first and last pixel the box covers, kept inside the picture so that no edge is lost."""
    width, height = size_wh
    left, top = np.floor(xyxy[:2]).astype(int).tolist()
    right, bottom = (np.ceil(xyxy[2:]).astype(int) - 1).tolist()
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return left, top, min(max(right, left), width - 1), min(max(bottom, top), height - 1)


def _dashed(pen: "ImageDraw", xyxy: np.ndarray, dash: int = 6) -> tuple[int, int, int, int]:
    """Draw alternating white and black dashes, visible on every background."""
    left, top, right, bottom = corners = _corners(xyxy, pen.im.size)
    pen.rectangle(corners, outline=(0, 0, 0), width=2)
    for x in range(left, right + 1, 2 * dash):
        stop = min(x + dash - 1, right)
        pen.rectangle((x, top, stop, min(top + 1, bottom)), fill=(255, 255, 255))
        pen.rectangle((x, max(bottom - 1, top), stop, bottom), fill=(255, 255, 255))
    for y in range(top, bottom + 1, 2 * dash):
        stop = min(y + dash - 1, bottom)
        pen.rectangle((left, y, min(left + 1, right), stop), fill=(255, 255, 255))
        pen.rectangle((max(right - 1, left), y, right, stop), fill=(255, 255, 255))
    return corners


@functools.cache
def _font(size_px: int) -> Any:
    # Matplotlib brings DejaVu, which knows more alphabets than Pillow's built-in font.
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(os.path.join(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size_px)


def write_text(pen: "ImageDraw", bottom_left: tuple[int, int], text: str, color: Color, ground: Color) -> None:
    """Write on a ground of its own, moved as far as needed to lie inside the picture; ``bottom_left`` in pixels."""
    font = _font(14)
    width, height = round(font.getlength(text)) + 8, 19
    x = max(0, min(bottom_left[0], pen.im.size[0] - width))
    y = max(0, min(bottom_left[1], pen.im.size[1]) - height)
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=ground)
    pen.text((x + 4, y + height / 2), text, fill=color, font=font, anchor="lm")


def _tag(pen: "ImageDraw", corners: tuple[int, int, int, int], text: str, ground: Color) -> None:
    left, top, _, bottom = corners
    # Above the box where there is room, else below it: inside it would hide what is shown.
    at = top if top >= 19 else bottom + 20
    write_text(pen, (left, at), text, (0, 0, 0), ground)


def mosaic(images: Sequence[np.ndarray], columns: int, *, gap_px: int = 6, ground: Color = (255, 255, 255)) -> Image:
    """Lay pictures out row by row, each at the top left of a cell as large as the largest picture.

    Args:
        images: uint8 [H, W, 3] each, at least one.
        columns: pictures per row.
        gap_px: space between pictures in pixels.
        ground: its color.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ConfigError: no picture, no column, or something that is not a picture.
    """
    if not images or columns < 1:
        raise ConfigError(f"a mosaic needs at least one picture and one column, got {len(images)} and {columns}")
    for image in images:
        check_image(image)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    cell_h, cell_w = (max(image.shape[axis] for image in images) for axis in (0, 1))
    out = np.empty((rows * (cell_h + gap_px) - gap_px, columns * (cell_w + gap_px) - gap_px, 3), np.uint8)
    out[:] = ground
    for k, image in enumerate(images):
        y, x = k // columns * (cell_h + gap_px), k % columns * (cell_w + gap_px)
        out[y : y + image.shape[0], x : x + image.shape[1]] = image
    return out


def save_png(image: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write a picture as PNG, whole or not at all.

    Raises:
        ConfigError: the image is not uint8 [H, W, 3].
    """
    check_image(image)
    from PIL import Image as PilImage

    with atomic_write(path) as temporary:
        PilImage.fromarray(image).save(temporary, format="PNG")


def events_of(cube: Tensor) -> np.ndarray:
    """Return one event per occupied cell of a cube [T, C, H, W]: what the network sees, as events to draw."""
    step, channel, y, x = torch.nonzero(cube, as_tuple=True)
    events = np.zeros(len(step), EVENT_DTYPE)
    bins = cube.shape[1] // 2
    events["t"] = (step * bins + channel % bins).numpy()
    events["x"], events["y"], events["p"] = x.numpy(), y.numpy(), (channel // bins).numpy()
    return events[np.argsort(events["t"], kind="stable")]


def cube_image(cube: UInt8[Tensor, "T C H W"], spec: VoxelSpec) -> Image:
    """Picture what the network sees: events or differences as events, pictures as they are, "rate" as its mean.

    Args:
        cube: of one window.
        spec: how it was made.
    """
    if not spec.takes_frames or spec.mode == "difference":
        return events_image(events_of(cube), (cube.shape[-2], cube.shape[-1]))
    colors = cube.numpy().mean(0) * (255 if spec.mode == "rate" else 1)
    return np.repeat(np.rint(colors).astype(np.uint8).transpose(1, 2, 0), 3 // len(colors), axis=2)


def draw_class(
    image: np.ndarray,
    answer: Detections | None = None,
    truth: Boxes | None = None,
    *,
    class_names: Sequence[str],
    scale: int | None = None,
    caption: str = "",
) -> Image:
    """Enlarge a picture and write the likeliest class of a classifier, and the true one, below it.

    Args:
        image: as :func:`draw_boxes`.
        answer: a box for every class, the likeliest first.
        truth: the one true class.
        class_names: what label 0, 1, ... is called.
        scale: as :func:`draw_boxes`.
        caption: what else the line below says, last: a small picture cuts it off.
    """
    words = []
    if answer is not None and len(answer):
        words.append(f"{_name(class_names, int(answer.labels[0]))} {answer.scores[0]:.2f}")
    if truth is not None and len(truth):
        words.append(f"is {_name(class_names, int(truth.labels[0]))}")
    return draw_boxes(image, scale=scale, caption="  ".join([*words, caption] if caption else words))


def drawer(*, classifies: bool) -> Callable[..., Image]:
    """Return what draws an answer: :func:`draw_class` for a classifier, else :func:`draw_boxes`."""
    return draw_class if classifies else draw_boxes
