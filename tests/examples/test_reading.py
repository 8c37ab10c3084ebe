"""The reading examples, as they are typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import ExportedDatasetConfig
from pipeline.packs.pack import Pack
from storage import Store
from tests.pipeline.export.finished_run import export, write_run

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(path.stem for path in (ROOT / "examples/reading").glob("with_*.py"))


@pytest.fixture(scope="module")
def exports(tiny_pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    run, folder = Store(str(tmp_path_factory.mktemp("run"))), tmp_path_factory.mktemp("exports")
    write_run(run, tiny_pack)
    for kind in ("parquet", "webdataset"):
        export(run, Store(str(folder / kind)), tiny_pack, ExportedDatasetConfig(format=kind))
    return {"parquet": folder / "parquet", "webdataset": folder / "webdataset"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_reading_example_runs_and_names_every_prompt(name: str, exports: dict[str, Path], tmp_path: Path):
    pytest.importorskip(name.removeprefix("with_"))
    folder = exports["webdataset" if name == "with_webdataset" else "parquet"]
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, str(ROOT / "examples/reading" / f"{name}.py"), str(folder)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    assert "dark" in found.stdout
    assert "hat" in found.stdout
