"""What glibc does with freed memory, in processes of their own: a process cannot take back what was set in it."""

import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and sets glibc"),
]

FRAGMENTS = """
import os, torch
from spiking_centernet.utils import allocator

def private_mb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

for tuned in (True, False):
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        continue
    if tuned:
        allocator.give_memory_back()
    torch.ones(6 << 20).sum()  # freed, and glibc by itself keeps blocks of up to that size from now on
    before, kept = private_mb(), []
    for k in range(20):
        large = torch.ones((k + 1) << 18)
        kept.append(bytearray(100_000))  # may lie behind the large block and keep it from going back
        del large
    print(private_mb() - before, flush=True)
    os._exit(0)
"""

STEPS = """
import contextlib, os, resource, torch
from spiking_centernet.utils import allocator

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(16 << 20)  # 64 MiB, of 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def private_mb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

torch.set_num_threads(1)
before = private_mb()
with allocator.kept_memory():
    for _ in range(5):
        faults()
    print(faults())
print(private_mb() - before)
print(faults())
"""


def printed_by(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return map(float, done.stdout.split())


@pytest.mark.thorough
def test_freed_blocks_go_back_to_the_system():
    tuned, untuned = printed_by(FRAGMENTS)
    assert tuned < 10  # MB: 2 are kept, and blocks below 4 MB stay with the process
    assert tuned < untuned


@pytest.mark.thorough
def test_steps_find_the_memory_of_those_before_and_the_end_gives_it_back():
    kept, left_mb, default = printed_by(STEPS)
    assert kept < default / 4
    assert left_mb < 32
