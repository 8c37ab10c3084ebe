"""A store that counts what is read, for tests of how reading grows."""

from collections import Counter
from typing import ClassVar

from storage import Store


class CountingStore(Store):
    """Counts reads by path, over all stores of this class."""

    reads: ClassVar[Counter[str]] = Counter()

    def read_bytes(self, path: str) -> bytes:
        CountingStore.reads[path] += 1
        return super().read_bytes(path)

    def read_end(self, path: str, size: int) -> bytes:
        CountingStore.reads[path] += 1
        return super().read_end(path, size)
