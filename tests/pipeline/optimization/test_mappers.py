from collections.abc import Callable

import pytest
import torch

from pipeline.config import MappersConfig, recommended
from pipeline.errors import PipelineError
from pipeline.models.sampling import sample_w_plus
from pipeline.optimization.edit_loss import EditLoss, EditWeights, TextTarget, text_target
from pipeline.optimization.mappers import Task, TrainedMapper, batch_rows, mapper_config, split_latents, train_mappers
from pipeline.packs.pack import Pack, load_pack
from pipeline.prompts import check_prompts
from tests.tolerances import OPTIMIZED

ROWS = [
    {"name": "hat", "target": "a face with a hat", "neutral": "a face", "method": "mapper"},
    {"name": "red", "target": "a red face", "neutral": "a face", "method": "mapper"},
]
SHORT = MappersConfig(
    num_steps=14,
    batch_size=2,
    validation_share=0.4,
    validation_interval=7,
    log_interval=1,
    checkpoint_interval=3,
    learning_rate=5.0,
)


def make_tasks(pack: Pack, weights: EditWeights = EditWeights(1, 0, 0.8, 0.1)) -> list[Task]:  # noqa: B008
    return [Task(p.prompt_id, text_target(p, pack, weights, template_set="none")) for p in check_prompts(ROWS)]


def train(
    pack: Pack,
    tasks: list[Task],
    config: MappersConfig = SHORT,
    *,
    checkpoint: bytes | None = None,
    save: Callable[[bytes], None] = lambda data: None,
) -> list[TrainedMapper]:
    w_plus = sample_w_plus(pack.generator, range(10), psi=0.7)
    loss = EditLoss(pack.clip, pack.identity)
    return train_mappers(pack.generator, loss, tasks, w_plus, config, checkpoint=checkpoint, save=save)


def validation(mapper: TrainedMapper) -> dict[int, float]:
    return {step: losses[0] for split, step, losses in mapper.curve if split == "validation"}


@pytest.mark.parametrize("kind", ["levels", "single", "styles"])
def test_train_mappers_lowers_the_validation_loss_and_keeps_the_best(tiny_pack: Pack, kind: str):
    for mapper in train(tiny_pack, make_tasks(tiny_pack), SHORT.model_copy(update={"kind": kind})):
        losses = validation(mapper)
        assert list(losses) == [0, 7, 14]
        assert mapper.losses[0] == pytest.approx(min(losses.values()))
        assert mapper.losses[0] < losses[0]
        assert losses[mapper.best_step] == pytest.approx(mapper.losses[0])
        assert len([row for row in mapper.curve if row[0] == "train"]) == 14
        assert -1 <= mapper.similarity[0] <= 1
        assert mapper.error is None


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_train_mappers_together_is_as_alone(tiny_pack: Pack, noise: float):
    tasks = make_tasks(tiny_pack)
    config = SHORT.model_copy(update={"search_noise": noise})
    alone = [train(tiny_pack, [task], config)[0] for task in tasks]
    for a, b in zip(train(tiny_pack, tasks, config), alone, strict=True):
        assert a.state is not None
        assert b.state is not None
        assert a.losses == pytest.approx(b.losses, rel=1e-2, abs=1e-3)
        for name, value in a.state.items():
            torch.testing.assert_close(value, b.state[name], **OPTIMIZED)


class TrainingInterruptedError(Exception):
    """Stands for a kill right after a checkpoint was written."""


@pytest.mark.parametrize("kind", ["levels", "single", "styles"])
def test_train_mappers_search_noise_follows_from_the_seed(tiny_pack: Pack, kind: str):
    config = SHORT.model_copy(update={"search_noise": 1.0, "kind": kind})
    first, again = (train(tiny_pack, make_tasks(tiny_pack), config)[0] for _ in range(2))
    assert first.curve == again.curve
    still = train(tiny_pack, make_tasks(tiny_pack), config.model_copy(update={"search_noise": 0.0}))[0]
    assert first.curve[0] != still.curve[0]


@pytest.mark.parametrize(("after", "noise"), [(1, 0.0), (2, 1.0), (4, 0.0)])
def test_train_mappers_interrupted_ends_with_the_same_bits(tiny_pack: Pack, after: int, noise: float):
    tasks = make_tasks(tiny_pack)
    config = SHORT.model_copy(update={"search_noise": noise})
    checkpoints: list[bytes] = []

    def save(data: bytes) -> None:
        checkpoints.append(data)
        if len(checkpoints) == after:
            raise TrainingInterruptedError

    with pytest.raises(TrainingInterruptedError):
        train(tiny_pack, tasks, config, save=save)
    resumed = train(tiny_pack, tasks, config, checkpoint=checkpoints[-1])
    for a, b in zip(resumed, train(tiny_pack, tasks, config), strict=True):
        assert a.state is not None
        assert b.state is not None
        assert all(torch.equal(value, b.state[name]) for name, value in a.state.items())
        assert (a.curve, a.losses, a.best_step) == (b.curve, b.losses, b.best_step)


def test_train_mappers_nan_ends_one_prompt_not_the_others(tiny_pack: Pack):
    good, other = make_tasks(tiny_pack)
    bad = Task("bad", TextTarget(other.text.target, other.text.direction, EditWeights(clip=float("inf"))))
    first, second = train(tiny_pack, [good, bad])
    (alone,) = train(tiny_pack, [good])
    assert second.state is None
    assert "the loss must stay finite; it did not at update 0" in str(second.error)
    assert first.losses == pytest.approx(alone.losses, rel=1e-2, abs=1e-3)


def test_train_mappers_with_too_few_latents_says_how_many(tiny_pack: Pack):
    with pytest.raises(PipelineError, match="needs at least 8 latents"):
        train(tiny_pack, make_tasks(tiny_pack), SHORT.model_copy(update={"batch_size": 8}))


def test_split_latents_shares_none():
    train_rows, held_out = split_latents(10, 0.1, 2)
    assert (list(train_rows), list(held_out)) == (list(range(9)), [9])


def test_batch_rows_visit_every_latent_once_an_epoch_in_another_order():
    epochs = [[int(i) for step in range(3) for i in batch_rows(0, epoch * 3 + step, 6, 2)] for epoch in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(6))] * 2
    assert epochs[0] != epochs[1]


def test_mapper_config_keeps_the_levels_that_are_on():
    assert mapper_config(MappersConfig(fine=False)).levels == ("coarse", "medium")
    with pytest.raises(ValueError, match="coarse, medium or fine must be on; all three are off"):
        MappersConfig(coarse=False, medium=False, fine=False)


@pytest.mark.parametrize(("name", "value"), [("learning_rate", 0.0), ("num_steps", 0), ("clip_weight", -1.0)])
def test_config_refuses_settings_that_cannot_work(name: str, value: float):
    with pytest.raises(ValueError, match=f"{name}\n  Input should be greater than"):
        MappersConfig(**{name: value})


def test_embedded_pack_recommends_trainings_that_are_saved_on_the_way():
    config = recommended(MappersConfig, load_pack(device="cpu").description.settings["mapper"], {})
    assert config.num_steps >= 4 * config.checkpoint_interval
