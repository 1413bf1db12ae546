"""Counts from architectures against the published ones; the conclusion that follows."""

import pytest
import torch

from spiking_centernet.evaluation.energy import count_ops
from spiking_centernet.evaluation.energy.publications import (
    DENSENET121,
    Published,
    densenet_macs,
    published,
    what_follows,
)
from spiking_centernet.model import build
from spiking_centernet.model.graph import dense_macs


def test_counts_from_architecture_are_the_published_ones():
    # Published as "ACCs/ts" by Cordone et al., arXiv 2205.04339; those are dense counts.
    assert densenet_macs(24, DENSENET121) / 1e9 == pytest.approx(2.242, abs=5e-4)


@pytest.mark.slow
def test_our_own_network_is_counted_as_it_is_built():
    model = build("paper")
    ops = count_ops(model.fuse(), torch.zeros(1, 1, 4, 240, 304, dtype=torch.uint8))
    assert dense_macs(model, (240, 304)) == ops.padded


def test_the_table_compares_unlike_with_unlike():
    rows = {row.name: row for row in published()}
    assert {name: row.printed_is for name, row in rows.items()} == {
        "Spiking CenterNet": "rate-scaled",
        "Spiking CenterNet, distilled": "rate-scaled",
        "DenseNet121-24 + SSD": "dense",
        "64-ST-VGG + SSD": "dense",
    }
    densenet, vgg = rows["DenseNet121-24 + SSD"], rows["64-ST-VGG + SSD"]
    assert densenet.dense_mj == pytest.approx(densenet.energy_mj, rel=1e-3)
    assert vgg.dense_mj == pytest.approx(vgg.energy_mj, rel=1e-3)
    assert densenet.scaled_mj == pytest.approx(0.780, abs=1e-3)
    assert vgg.scaled_mj == pytest.approx(0.606, abs=1e-3)
    for name in ("Spiking CenterNet", "Spiking CenterNet, distilled"):
        # The printed figure back-computes to 6.37 G; the network of 12.97 M parameters has 6.86 G.
        assert rows[name].scaled_mj == pytest.approx(rows[name].energy_mj, rel=0.08)
    assert "does not hold" in what_follows(published())


def test_the_words_follow_the_numbers():
    cheap = Published("A", 0.1, 0.09, 10**9, None, "")
    dear = Published("B", 0.9, 0.9, 10**9, None, "")
    assert "holds" in what_follows([cheap, dear])
    assert "does not" not in what_follows([cheap, dear])
    assert what_follows([dear]) == "All printed energies are computed alike."
