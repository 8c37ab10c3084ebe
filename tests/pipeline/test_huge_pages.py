import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SCRIPT = """
import re, kernels, pipeline, torch
x = torch.zeros(2**24) + 1  # 64 MiB
print(re.search(r"AnonHugePages: +([0-9]+) kB", open("/proc/self/smaps_rollup").read())[1])
"""


def huge_kib(**environment: str) -> int:
    inherited = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"}
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return int(found.stdout)


@pytest.mark.skipif(
    not SETTING.exists() or "[madvise]" not in SETTING.read_text(), reason="huge pages are not there for the asking"
)
def test_large_tensors_lie_in_huge_pages_unless_the_user_says_no():
    assert huge_kib() > huge_kib(THP_MEM_ALLOC_ENABLE="0") + 32 * 1024
