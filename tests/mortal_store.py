"""A store that dies half-way, for tests of resuming."""

from storage import Store


class Killed(BaseException):
    """Stands for the process being killed."""


class MortalStore(Store):
    """A store whose process dies at the n-th write, before it or after its bytes are there."""

    writes_left = 0
    after = False

    def write_bytes(self, path: str, data: bytes) -> None:
        MortalStore.writes_left -= 1
        if MortalStore.writes_left < 0:
            if MortalStore.after:
                super().write_bytes(path, data)
            raise Killed
        super().write_bytes(path, data)
