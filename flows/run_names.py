"""What a run is called in Prefect: pack, prompts and latents, not two random words."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any


def run_name(command: str, values: Mapping[str, Any]) -> str:
    """A run's name from what is in it, as ``peeps 200 prompts x 50``.

    Args:
        command: its name, told where nothing is counted.
        values: parameters as given; defaults may be missing.
    """
    pack = PurePosixPath(str(values.get("pack", "peeps")).rstrip("/")).name
    parts = [pack]
    if command != "edit-dataset":
        parts.append(command)
    prompts = values.get("prompts")
    if isinstance(prompts, str):
        parts.append(PurePosixPath(prompts).name)
    elif prompts is not None:
        parts.append(f"{len(prompts)} prompt{'' if len(prompts) == 1 else 's'}")
    if values.get("num_latents") is not None and not values.get("latents"):
        parts.append(f"x {values['num_latents']}" if prompts is not None else f"{values['num_latents']} latents")
    return " ".join(parts)


def place_name(name: str, run_id: str) -> str:
    """A run's name as part of a path: unique, because two runs may be called the same."""
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-')}-{run_id[:8]}"
