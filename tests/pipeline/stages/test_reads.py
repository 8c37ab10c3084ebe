"""How many files the stages read: for twice the shards twice as many, never the square."""

from pathlib import Path

from pipeline.config import (
    DatasetConfig,
    EditedLatentsConfig,
    LatentsConfig,
    MappersConfig,
    OptimizedLatentsConfig,
    ReportConfig,
    ScoresConfig,
    StageConfig,
    StyleDirectionsConfig,
)
from pipeline.packs.pack import Pack
from pipeline.prompts import Method, check_prompts, of_method
from pipeline.runs.edits import SOURCES, load_edits
from pipeline.runs.shard import ShardReport, close_stage, find_input
from pipeline.stages import (
    dataset,
    edited_latents,
    latents,
    mappers,
    optimized_latents,
    report,
    scores,
    style_directions,
)
from storage import Store
from tests.counting_store import CountingStore
from tests.pipeline.stages.test_style_directions import hand_table

PROMPTS = check_prompts(
    [
        {"name": "hat", "target": "a face with a hat", "neutral": "a face"},
        {"name": "red hat", "target": "a face with a red hat", "neutral": "a face"},
        {"name": "red", "target": "a red face", "neutral": "a face", "method": "mapper"},
        {"name": "all", "target": "a red hat", "neutral": "a face", "method": "optimize"},
    ]
)

INPUTS = {"dataset": "dataset", "edited": "edited_latents", "scores": "scores"}


def close(store: Store, pack: Pack, config: StageConfig, reports: list[ShardReport], config_hash: str) -> None:
    close_stage(store, reports[0].stage, num_shards=len(reports), config_hash=config_hash, config=config, pack=pack)


def prepare(store: Store, pack: Pack, num_latents: int) -> None:
    """Latents and what every method makes of them, one item a shard."""
    sample = LatentsConfig(num_latents=num_latents, shard_size=1)
    reports = [latents.run_latents_shard(sample, store, pack, i) for i in range(num_latents)]
    close(store, pack, sample, reports, latents.latents_hash(sample, pack))
    source = find_input("latents", store)
    direct, table = StyleDirectionsConfig(templates="none", num_channels=2, shard_size=1), hand_table()
    chosen = of_method(PROMPTS, "global")
    run = style_directions.run_style_directions_shard
    reports = [run(direct, store, pack, i, prompts=chosen, channels=table) for i in range(len(chosen))]
    close(store, pack, direct, reports, style_directions.style_directions_hash(direct, pack, table))
    train = MappersConfig(num_steps=1, validation_share=0.3, validation_interval=1, log_interval=1)
    chosen = of_method(PROMPTS, "mapper")
    reports = [mappers.run_mappers_shard(train, store, pack, 0, prompts=chosen, latents=source)]
    close(store, pack, train, reports, mappers.mappers_hash(train, pack))
    search = OptimizedLatentsConfig(num_steps=2, image_interval=1, shard_size=1)
    chosen = of_method(PROMPTS, "optimize")
    run_pairs = optimized_latents.run_optimized_latents_shard
    reports = [run_pairs(search, store, pack, i, prompts=chosen, latents=source) for i in range(num_latents)]
    close(store, pack, search, reports, optimized_latents.optimized_latents_hash(search, pack, source))


def reads_of(stage: str, uri: str, pack: Pack, num_shards: int) -> int:
    """Reads of all shards of a stage, each of which takes up its inputs anew, as tasks do."""
    CountingStore.reads.clear()
    reports: list[ShardReport] = []
    config_hash = ""
    config: StageConfig = StageConfig()
    for shard in range(num_shards):
        store = CountingStore(uri)
        source = find_input("latents", store)
        if stage == "edited_latents":
            config = EditedLatentsConfig(templates="none", shard_size=1)
            methods: dict[Method, str] = SOURCES
            wanted = {prompt.method for prompt in PROMPTS}
            sources = {method: find_input(name, store) for method, name in methods.items() if method in wanted}
            edits = load_edits(config, pack, PROMPTS, sources)
            report = edited_latents.run_edited_latents_shard(config, store, pack, shard, latents=source, edits=edits)
            config_hash = edited_latents.edited_latents_hash(config, pack, source)
        elif stage == "dataset":
            config, edited = DatasetConfig(images_per_shard=1), find_input("edited_latents", store)
            directions = find_input("style_directions", store)
            report = dataset.run_dataset_shard(
                config, store, pack, shard, latents=source, edited=edited, directions=directions
            )
            config_hash = dataset.dataset_hash(config, pack, source, edited)
        else:
            config, rendered = ScoresConfig(templates="none"), find_input("dataset", store)
            edited = find_input("edited_latents", store)
            report = scores.run_scores_shard(config, store, pack, shard, dataset=rendered, edited=edited)
            config_hash = scores.scores_hash(config, pack, rendered)
        reports.append(report)
    reads = CountingStore.reads.total()
    close(Store(uri), pack, config, reports, config_hash)
    return reads


def test_reads_from_edited_latents_to_scores_grow_with_the_shards_alone(tiny_pack: Pack, tmp_path: Path):
    reads: dict[str, list[int]] = {}
    for num_latents in (3, 6, 9):
        uri = str(tmp_path / str(num_latents))
        prepare(Store(uri), tiny_pack, num_latents)
        for stage in ("edited_latents", "dataset", "scores"):
            reads.setdefault(stage, []).append(reads_of(stage, uri, tiny_pack, num_latents))
    for stage, (three, six, nine) in reads.items():
        assert six - three == nine - six, f"{stage}: {reads[stage]}"


def test_report_reads_of_the_images_what_it_draws_and_everything_else_once(tiny_pack: Pack, tmp_path: Path):
    store = Store(str(tmp_path))
    prepare(store, tiny_pack, 6)
    for stage in ("edited_latents", "dataset", "scores"):
        reads_of(stage, store.uri, tiny_pack, 6)
    CountingStore.reads.clear()
    counted = CountingStore(store.uri)
    inputs = {name: find_input(stage, counted) for name, stage in INPUTS.items()}
    report.run_report(ReportConfig(rows=2), counted, tiny_pack, **inputs)
    reads = CountingStore.reads
    assert sum(count for path, count in reads.items() if path.startswith("dataset/")) == 2
    assert {reads[f"scores/part-{shard:05d}.parquet"] for shard in range(6)} == {1}
    assert {count for path, count in reads.items() if path.startswith("edited_latents/")} == {1}
