"""Numbers in sentences."""

import pytest

from spiking_centernet.utils.text import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "box", "0 boxes"),
        (1, "box", "1 box"),
        (2, "timestamp", "2 timestamps"),
        (1, "labeled frame", "1 labeled frame"),
        (3, "batch", "3 batches"),
        (20_000, "event", "20,000 events"),
    ],
)
def test_what_is_counted_takes_the_plural_unless_it_is_one(number, noun, text):
    assert counted(number, noun) == text
