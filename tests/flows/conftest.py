"""One Prefect server for the flow tests, without the heartbeat that costs a second per flow run."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.testing.utilities import prefect_test_harness

import storage
from flows.channel_directions import channel_directions
from flows.style_statistics import style_statistics
from tests.conftest import write_tiny_pack
from tests.threads import torch_threads


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    with (
        prefect_test_harness(server_startup_timeout=180),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


@pytest.fixture(scope="session")
def measured_run(tmp_path_factory: pytest.TempPathFactory, tiny_pack_uri: str) -> str:
    """A run with the tiny pack's statistics and channel directions, measured by their flows."""
    run = str(tmp_path_factory.mktemp("measured"))
    style_statistics(run=run, pack=tiny_pack_uri, num_samples=60, samples_per_shard=25, device="cpu")
    channel_directions(run=run, pack=tiny_pack_uri, num_images=2, channels_per_shard=30, device="cpu")
    return run


@pytest.fixture(scope="session")
def complete_pack_uri(measured_run: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny pack with its channel directions inside, as a shipped pack has them."""
    folder = write_tiny_pack(tmp_path_factory.mktemp("packs") / "complete")
    return str(add_directions(folder, measured_run))


def add_directions(folder: Path, run: str) -> Path:
    import json

    from pipeline.packs.pack import DIRECTIONS_FILE, STATISTICS_FILE, write_pack
    from pipeline.runs.shard import find_input

    store = storage.Store(run)
    description: dict[str, Any] = json.loads((folder / "pack.json").read_text())
    files = {name: (folder / name).read_bytes() for name in description.pop("files")}
    for stage, name in (("style_statistics", STATISTICS_FILE), ("channel_directions", DIRECTIONS_FILE)):
        files[name] = storage.table_bytes(find_input(stage, store).table())
    write_pack(storage.Store(str(folder)), description, files)
    return folder


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[SimpleNamespace]:
    with torch_threads(1) as threads:
        yield SimpleNamespace(threads=threads)
