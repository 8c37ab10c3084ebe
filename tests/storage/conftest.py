"""One store per backend: a folder, memory, and S3 as moto plays it on a local port."""

import pytest

from storage import Store


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path) -> Store:
    """An empty store; every test that takes it runs on all three backends."""
    if request.param == "local":
        return Store(str(tmp_path / "store"))
    if request.param == "memory":
        return Store(f"memory://{tmp_path.name}")
    return Store(f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}")


@pytest.fixture
def local_store(tmp_path) -> Store:
    """An empty store on the disk, for what only a disk can show."""
    return Store(str(tmp_path / "store"))
