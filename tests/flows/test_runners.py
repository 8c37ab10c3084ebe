"""Shards on Dask and Ray, on clusters that the tests start on this machine: the same bytes as in one process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import flows.runners
from flows.cli import load_commands
from flows.deployments import PrefectEngine
from flows.engine import Local
from flows.jobs import Job, Work
from flows.runners import CLUSTER, Cluster, Runner, needs_gpu, on_runner
from flows.sample_latents import open_latents, sample_latents
from pipeline.config import LatentsConfig
from pipeline.errors import ParameterError, PipelineError, ShardError
from pipeline.runs.shard import ShardReport
from tests.conftest import PROMPT_ROWS

ROOT = Path(__file__).parents[2]
WHERE = {"runner": "local", "runner_address": None, "workers": 1, "device": "cpu"}
BROKEN = Job(run="nowhere", pack="peeps", device="cpu", options={"broken": 3})
SETTINGS: dict[str, Any] = {
    "templates": "none",
    "device": "cpu",
    "num_latents": 4,
    "latents_per_shard": 1,
    "images_per_shard": 8,
}
CLUSTERS = [
    pytest.param(
        name,
        marks=[
            getattr(pytest.mark, name),
            pytest.mark.skipif(find_spec(f"prefect_{name}") is None, reason=f"the extra {name} is not installed"),
        ],
    )
    for name in ("dask", "ray")
]


def open_processes(job: Job) -> Work:
    """Shards whose rows are the process that made them; one may be broken."""

    def run_shard(shard: int) -> ShardReport:
        time.sleep(0.2)  # long enough that the other worker takes one too
        if shard == job.options.get("broken"):
            raise ValueError(f"shard {shard} is broken")
        return ShardReport("processes", shard, rows=os.getpid(), failures=0, skipped=False)

    return Work("processes", 6, "hash", run_shard)


def open_mortal(job: Job) -> Work:
    """Latents; the first process that comes to the third shard dies there as if it were killed."""
    work = open_latents(job)
    marker = Path(job.run) / "died"

    def run_shard(shard: int) -> ShardReport:
        if shard == 2 and not marker.exists():
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return work.run_shard(shard)

    return Work(work.stage, work.num_shards, work.config_hash, run_shard)


@pytest.fixture(scope="module", params=CLUSTERS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Two workers."""
    runner = Runner(request.param, None, workers=2, device="cpu")
    with import_module(f"flows.{request.param}_cluster").open_cluster(runner) as opened:
        yield opened


def outcomes(cluster: Cluster, opener: Any, job: Job) -> list[Any]:
    token = CLUSTER.set(cluster)
    try:
        return list(Local().shards(opener, job, opener(job), workers=2))
    finally:
        CLUSTER.reset(token)


def shards_of_the_open_cluster() -> list[Any]:
    """A flow's body, not decorated: Prefect sends the flow to the workers, which find the function by its name."""
    return list(PrefectEngine().shards(open_processes, BROKEN, open_processes(BROKEN), workers=2))


def test_shards_on_a_cluster_run_in_its_two_processes_and_one_that_fails_stops_no_other(
    cluster: Cluster, prefect_server: None
):
    from prefect import flow

    here = outcomes(cluster, open_processes, BROKEN)
    token = CLUSTER.set(cluster)
    in_prefect: Any = flow(name="test")(shards_of_the_open_cluster)()
    CLUSTER.reset(token)
    for found in (here, in_prefect):
        errors = [x for x in found if isinstance(x, BaseException)]
        reports = [x for x in found if isinstance(x, ShardReport)]
        assert [(type(x), str(x)) for x in errors] == [(ShardError, "processes shard 3: ValueError: shard 3 is broken")]
        assert sorted(x.shard for x in reports) == [0, 1, 2, 4, 5]
        processes = {x.rows for x in reports}
        assert len(processes) == 2
        assert os.getpid() not in processes
    assert {x.rows for x in here if isinstance(x, ShardReport)} == processes  # so models stay loaded


def test_worker_that_is_killed_loses_no_shard(cluster: Cluster, tiny_pack_uri: str, tmp_path: Path):
    config = LatentsConfig(num_latents=8, shard_size=2)
    where = {"pack": tiny_pack_uri, "device": "cpu"}
    found = outcomes(cluster, open_mortal, Job(run=f"{tmp_path}/killed", config=config, **where))
    assert sorted(x.shard for x in found) == [0, 1, 2, 3]
    assert (tmp_path / "killed" / "died").exists()
    closed = sample_latents(run=f"{tmp_path}/killed", num_latents=8, latents_per_shard=2, **where)
    assert closed["shards_skipped"] == 4
    sample_latents(run=f"{tmp_path}/whole", num_latents=8, latents_per_shard=2, **where)
    (tmp_path / "killed" / "died").unlink()
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


@pytest.fixture(scope="module")
def run_here(complete_pack_uri: str, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A small run of the whole chain in one process."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "prompts.yaml").write_text(yaml.safe_dump(PROMPT_ROWS))
    made = SimpleNamespace(folder=folder, pack=complete_pack_uri)
    edit_dataset(made, "local", workers=1)
    return made


def edit_dataset(made: SimpleNamespace, runner: str, *, workers: int) -> None:
    arguments = ("--prompts", "prompts.yaml", "--pack", made.pack)
    shards = [word for name, value in SETTINGS.items() for word in ("--" + name.replace("_", "-"), str(value))]
    where = ("--run", runner, "--runner", runner, "--workers", str(workers))
    result = subprocess.run(
        [sys.executable, "-m", "flows.cli", "edit-dataset", *arguments, *shards, *where],
        cwd=made.folder,  # the run's folder is a relative one
        env={k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
        | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same_bytes(made: SimpleNamespace, runner: str) -> None:
    here, there = files(made.folder / "local"), files(made.folder / runner)
    assert list(here) == list(there)
    assert [path for path in here if here[path] != there[path]] == []
    assert any(path.startswith("dataset/") for path in here)


@pytest.mark.parametrize("runner", CLUSTERS[:1])
def test_the_command_on_two_workers_of_its_own_gives_the_bytes_of_one_process(run_here: SimpleNamespace, runner: str):
    edit_dataset(run_here, runner, workers=2)
    same_bytes(run_here, runner)


@pytest.mark.parametrize("cluster", CLUSTERS[1:], indirect=True)
def test_edit_dataset_on_a_cluster_that_is_open_gives_the_bytes_of_one_process(
    run_here: SimpleNamespace, cluster: Cluster
):
    name = cluster.runner.name
    token = CLUSTER.set(cluster)
    try:
        load_commands()["edit-dataset"](
            str(run_here.folder / "prompts.yaml"),
            run=str(run_here.folder / name),
            pack=run_here.pack,
            runner=name,
            workers=2,
            **SETTINGS,
        )
    finally:
        CLUSTER.reset(token)
    same_bytes(run_here, name)


def refused(error: type[Exception], match: str, **values: Any) -> None:
    with pytest.raises(error, match=match), on_runner({**WHERE, **values}, values.get("places", ())):
        pass


def test_on_runner_refuses_what_contradicts_itself_before_it_starts_anything():
    refused(
        ParameterError, "goes with the runners dask and ray; got 'tcp://a:1' with local", runner_address="tcp://a:1"
    )
    refused(ParameterError, "the one at tcp://a:1 has its own", runner="dask", runner_address="tcp://a:1", workers=2)
    refused(ParameterError, "must be auto, cpu or cuda .* got cuda:1", runner="ray", device="cuda:1")
    refused(ParameterError, "memory://run, which lives in one process", runner="dask", places=["memory://run"])


def test_on_runner_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flows.runners, "find_spec", lambda name: None)
    refused(PipelineError, r"runner dask needs the extra .*pip install 'styleclip-pipeline\[dask\]'", runner="dask")


@pytest.mark.dask
@pytest.mark.skipif(find_spec("prefect_dask") is None, reason="the extra dask is not installed")
def test_on_runner_says_that_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch):
    import flows.dask_cluster

    monkeypatch.setattr(flows.dask_cluster, "CONNECT_SECONDS", 0.5)
    refused(PipelineError, "tcp://127.0.0.1:9 does not", runner="dask", runner_address="tcp://127.0.0.1:9")


def test_needs_gpu_where_the_cluster_has_some_or_it_is_told_so():
    def on(device: str) -> Runner:
        return Runner("dask", None, 1, device)

    assert needs_gpu(on("auto"), 2)
    assert needs_gpu(on("cuda"), 1)
    assert not needs_gpu(on("auto"), 0)
    assert not needs_gpu(on("cpu"), 2)
    with pytest.raises(PipelineError, match="--resources GPU=1"):
        needs_gpu(on("cuda"), 0)
