import threading

import pytest

from spiking_centernet.data import prefetch


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("ahead", [1, 3])
def test_gives_every_item_in_order(count, ahead):
    assert list(prefetch(range(count), ahead=ahead)) == list(range(count))


def test_makes_items_before_they_are_asked_for_and_no_more_than_it_may():
    made, ready = [], threading.Semaphore(0)

    def items():
        for i in range(10):
            made.append((i, threading.current_thread().name))
            ready.release()
            yield i

    got = prefetch(items(), ahead=2)
    assert next(got) == 0
    for _ in range(3):  # item 0 and two more
        assert ready.acquire(timeout=60)
    assert not ready.acquire(timeout=0.05)
    assert [i for i, _ in made] == [0, 1, 2]
    assert all(name.startswith("prefetch") for _, name in made)
    got.close()
    assert len(made) == 3


def test_an_error_comes_in_its_turn():
    def items():
        yield 1
        raise OSError("the disk is gone")

    got = prefetch(items())
    assert next(got) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(got)


def test_no_thread_outlives_the_iteration():
    before = threading.active_count()
    for _ in prefetch(range(5)):
        pass
    given_up = prefetch(range(5))
    assert next(given_up) == 0
    given_up.close()
    assert threading.active_count() == before
