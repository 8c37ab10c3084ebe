import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
VARIABLES = ("THP_MEM_ALLOC_ENABLE", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX")
HUGE_KIB = """
import re
from pipeline.machine.memory import keep_memory
keep_memory()
import torch
x = torch.zeros(2**24) + 1  # 64 MiB
print(re.search(r"AnonHugePages: +([0-9]+) kB", open("/proc/self/smaps_rollup").read())[1])
"""
FAULTS = """
import resource, threading
from pipeline.machine.memory import keep_memory
keep_memory()
import torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    x = torch.ones({values})
    for _ in range(3):
        x * 2 + 1
    before = faults()
    for _ in range({times}):
        x * 2 + 1
    print(faults() - before)
{call}
"""
IN_MAIN_THREAD = FAULTS.format(values=2**22, times=100, call="work()")  # 16 MiB
IN_ANOTHER_THREAD = FAULTS.format(  # 64 MiB, the size of an arena's heaps
    values=2**24, times=25, call="threading.Thread(target=work).start()"
)


def printed(script: str, **environment: str) -> int:
    inherited = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    found = subprocess.run(
        [sys.executable, "-c", script], env=inherited | environment, capture_output=True, text=True, timeout=120,
        check=True,
    )  # fmt: skip
    return int(found.stdout)


@pytest.mark.skipif(
    not SETTING.exists() or "[madvise]" not in SETTING.read_text(), reason="huge pages are not there for the asking"
)
def test_large_tensors_lie_in_huge_pages_unless_the_user_says_no():
    assert printed(HUGE_KIB) > printed(HUGE_KIB, THP_MEM_ALLOC_ENABLE="0") + 32 * 1024


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt"
)
@pytest.mark.parametrize(
    ("script", "usual"),
    [
        (IN_MAIN_THREAD, {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}),
        (IN_ANOTHER_THREAD, {"MALLOC_ARENA_MAX": "8"}),
    ],
    ids=["main thread", "another thread"],
)
def test_freed_tensors_are_not_mapped_anew_unless_the_user_says_otherwise(script: str, usual: dict[str, str]):
    kept, mapped = (printed(script, THP_MEM_ALLOC_ENABLE="0", **x) for x in ({}, usual))
    assert mapped > 100 * 2**24 // 4096 / 2  # every page of the temporaries
    assert kept < mapped / 10  # where a small tensor splits a kept piece, another one is mapped, a few times in all
