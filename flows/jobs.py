"""What crosses from a step to its shards: a job names what to work on, and work is the job opened in one process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flows.failures import attempt
from pipeline.config import StageConfig

if TYPE_CHECKING:
    from pipeline.packs.pack import Pack
    from pipeline.prompts import Prompt
    from pipeline.runs.shard import ShardReport
    from storage import Store


@dataclass(frozen=True)
class Job:
    """URIs, settings and names, never tensors or models: small, and the same in every process.

    Attributes:
        run: the run's folder.
        inputs: another run to read from besides.
        pack: name or URI.
        device: as the user said it.
        config: of the stage.
        prompts: checked, where the stage has to do with prompts.
        options: what else a stage needs to know, as JSON values.
        tries: how often a shard is tried before it is set aside, where trying again can help.
    """

    run: str
    pack: str
    device: str
    inputs: str | None = None
    config: Any = None
    prompts: "tuple[Prompt, ...]" = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    tries: int = 2

    @property
    def stores(self) -> "tuple[Store, Store | None]":
        """The run's folder and, if named, the run to read from besides."""
        from storage import Store

        return Store(self.run), None if self.inputs is None else Store(self.inputs)

    @property
    def store(self) -> "Store":
        """The run's folder."""
        return self.stores[0]

    def open_pack(self) -> "Pack":
        """The pack, from this process's cache."""
        return open_pack(self.pack, self.device)


def open_pack(pack: str, device: str) -> "Pack":
    """A pack, from this process's cache; before the first tensor the process is told to keep freed memory."""
    from pipeline.machine.memory import keep_memory

    keep_memory()
    from pipeline.packs.pack import load_pack

    return load_pack(pack, device=device)


@dataclass(frozen=True)
class Work:
    """A stage's shards, ready to be run in this process.

    Attributes:
        stage: its name.
        num_shards: how many shards.
        config_hash: names the result.
        run_shard: from a shard's number to what became of it; skips one that is done.
        total: how much there is to do in all shards, in ``unit``; 0 where nobody can say.
        unit: what is counted while it runs.
        facts: what the result depends on besides the settings, for a message where two runs differ.
        rows_in: rows that a shard makes, where the next stages can do without those of one that failed; None where
            they need all of them.
        provisional: whether what failed further up is missing from it.
        contents: what the whole stage is made of: latents and prompts, of which there may be more in a later run.
        contents_of: what a shard is made of.
        takes_over: whether shards that are made again take over rows of what they were.
    """

    stage: str
    num_shards: int
    config_hash: str
    run_shard: "Callable[[int], ShardReport]"
    total: int = 0
    unit: str = "rows"
    facts: Mapping[str, Any] = field(default_factory=dict)
    rows_in: "Callable[[int], int] | None" = None
    provisional: bool = False
    contents: Mapping[str, Any] = field(default_factory=dict)
    contents_of: Callable[[int], Mapping[str, Any]] = lambda _: {}
    takes_over: bool = False


OpenWork = Callable[[Job], Work]


def work_named(opener: str, job: Job) -> Work:
    """The work of a job, by the opener's ``module:function``, which is what can cross a process boundary."""
    from importlib import import_module

    module, _, function = opener.partition(":")
    return open_work(getattr(import_module(module), function), job)


def open_work(opener: OpenWork, job: Job) -> Work:
    """The work of a job, whose shards are tried again where that can help and say which one failed."""
    work = opener(job)
    return replace(work, run_shard=lambda shard: attempt(work.stage, shard, work.run_shard, tries=job.tries))


def name_of(opener: OpenWork) -> str:
    """The opener as ``work_named`` takes it."""
    return f"{opener.__module__}:{opener.__qualname__}"


def config_of(job: Job) -> StageConfig:
    """The job's settings, which every stage has."""
    assert isinstance(job.config, StageConfig)
    return job.config
