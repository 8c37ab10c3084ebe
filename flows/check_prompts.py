"""Which prompts of a list a pack can draw, told before anything is spent on them."""

from typing import TYPE_CHECKING, Any, Literal

from flows.commands import Request, command
from flows.engine import ENGINE
from flows.jobs import open_pack
from flows.parameters import PROMPTS, RUN_ON, Parameter, settings_of
from flows.prompt_lists import load_prompts
from pipeline.config import ScoresConfig

if TYPE_CHECKING:
    from pipeline.packs.pack import Pack
    from pipeline.prompts import Prompt
    from storage import Store

STAGE = "reachability"
TABLE = f"{STAGE}.parquet"
UNREACHABLE = Parameter(
    "unreachable",
    Literal["keep", "skip", "stop"],
    "keep",
    "What becomes of a prompt that the pack seems unable to draw: edited all the same, left out, or the run stops.",
)
AS_JSON = Parameter("as_json", bool, False, "Print one JSON object a prompt, on a line of its own.", option="json")
SAMPLES = settings_of(ScoresConfig, only=["num_samples"])


def reachability_rows(prompts: "list[Prompt]", pack: "Pack", num_samples: int) -> list[dict[str, Any]]:
    """What is known of every prompt, as rows; see ``pipeline.scoring.reachability``."""
    from dataclasses import asdict

    from pipeline.scoring.reachability import check_prompts_reachable
    from pipeline.scoring.targets import REACH_TEMPLATES

    found = check_prompts_reachable(prompts, pack, num_samples=max(num_samples, 16), template_set=REACH_TEMPLATES)
    return [asdict(result) for result in found]


def choose_reachable(
    prompts: "list[Prompt]", pack: "Pack", store: "Store", *, num_samples: int, unreachable: str
) -> "list[Prompt]":
    """The prompts to go on with; writes RUN/reachability.parquet and warns of every prompt that seems out of reach.

    Raises:
        PromptError: if the run is to stop, or no prompt is left.
    """
    from pipeline.errors import PromptError

    rows = _remembered_rows(prompts, pack, store, num_samples)
    far = [row for row in rows if not row["reachable"]]
    for row in far:
        ENGINE.get().log.warning("%s", told(row))
    if far and unreachable == "stop":
        raise PromptError(
            f"{len(far)} of {len(rows)} prompts seem out of this pack's reach: "
            f"{'; '.join(told(row) for row in far)} Change them, or go on with --unreachable keep or skip."
        )
    if unreachable == "keep":
        return prompts
    near = [prompt for prompt, row in zip(prompts, rows, strict=True) if row["reachable"]]
    if not near:
        raise PromptError(f"no prompt is left: all {len(rows)} seem out of this pack's reach. Use --unreachable keep.")
    return near


def _remembered_rows(prompts: "list[Prompt]", pack: "Pack", store: "Store", num_samples: int) -> list[dict[str, Any]]:
    """The run's own rows, where it has those of the same prompts, pack and samples; else new ones, written there."""
    import pyarrow as pa

    import storage
    from pipeline import __version__

    asked = {
        "prompts": [prompt.model_dump(mode="json") for prompt in prompts],
        "pack": pack.digest,
        "num_samples": num_samples,
        "code": __version__,
    }
    key = {"config_hash": storage.config_hash(asked)}
    if storage.read_stage(store, STAGE) == key and store.exists(TABLE):
        return storage.read_table(store, TABLE).to_pylist()
    rows = reachability_rows(prompts, pack, num_samples)
    store.write_bytes(TABLE, storage.table_bytes(pa.Table.from_pylist(rows)))
    storage.write_stage(store, STAGE, key)
    return rows


def told(row: dict[str, Any]) -> str:
    """A prompt out of reach in one line."""
    score = f"reachability {row['score']:.3f}, needed {row['threshold']:.3f}"
    return f"prompt {row['name']!r} seems out of reach ({score}): {' '.join(row['suggestions'])}"


@command("Which prompts of a list the pack can draw, before anything is made.", PROMPTS, *RUN_ON, SAMPLES, AS_JSON)
def check_prompts(request: Request) -> dict[str, Any]:
    """Say of every prompt whether the pack can draw it, how sure that is, and what to change where it cannot.

    A prompt is reachable where its score exceeds nearly all of those of unrelated prompts; nothing is written.
    """
    pack = open_pack(request["pack"], request["device"])
    prompts = load_prompts(request["prompts"], neutral=pack.description.neutral)
    return {"prompts": reachability_rows(prompts, pack, request["judging_samples"])}
