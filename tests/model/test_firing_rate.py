import pytest
import torch

from spiking_centernet.errors import ConfigError
from spiking_centernet.model.firing_rate import FiringRates


def test_firing_rates_in_closed_form():
    rates = FiringRates(["large", "small", "never"])
    assert rates.per_layer() == {"large": 0, "small": 0, "never": 0}
    assert rates.overall() == 0
    for value in (1.0, 0.0):
        rates("small", torch.tensor([value, 1.0, 0.0, 0.0]).reshape(1, 1, 2, 2))  # 4 places
        rates("large", torch.full((2, 3, 4, 5), value))  # 120 places
        rates("never", torch.zeros(1, 1, 2, 2))
    assert rates.per_layer() == {"large": 0.5, "small": 3 / 8, "never": 0}
    assert rates.overall() == (120 + 3) / 256
    assert rates.silent() == ["never"]
    with pytest.raises(ConfigError, match="'other' is no layer of the network"):
        rates("other", torch.zeros(1, 1, 2, 2))
