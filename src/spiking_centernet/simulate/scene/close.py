"""The wide world seen from nearby: people and cars that fill the frame, or of whom only a part is in it."""

from spiking_centernet.simulate.scene.bodies import CHEST, HEAD, HIPS, SHIN_L, SHIN_R
from spiking_centernet.simulate.scene.wide import WideScene


class CloseScene(WideScene):
    """A :class:`WideScene` whose camera is near to the one that it looks at, and whose frame cuts people anywhere.

    A person has a label from the knees upward or downward: who is seen without a head stands in the way all the same.
    """

    name = "close"
    pitch_spread = 0.35
    shown_by = (HEAD, CHEST, HIPS, SHIN_L, SHIN_R)

    def _heights_px(self, who: str, height: int) -> tuple[float, float]:
        least, most = {"person": (0.5, 3.0), "car": (0.2, 1.1), "another": (0.25, 2.0)}[who]
        return least * height, most * height
