"""The user's surroundings, looked at before any work: a server that answers, folders that can be written."""

import json
import os
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.commands import Request
from flows.parameters import DEFAULT_PACK, pack_facts
from flows.prompt_lists import load_prompts
from pipeline.errors import PipelineError

SERVER_SECONDS = 5  # a server on another continent answers in less


def check_prompt_list(request: Request) -> None:
    """Whether the prompt list can be read and used, before anything heavy is imported.

    A pack that is not there is left to whoever opens it, and says so then.

    Raises:
        PipelineError: naming every problem of the list.
        storage.StorageError: if there is no such file.
    """
    prompts = request.values.get("prompts")
    if not isinstance(prompts, str):
        return
    from storage import StorageError, Store

    pack = request.values.get("pack", DEFAULT_PACK)
    try:
        facts = pack_facts() if pack == DEFAULT_PACK else json.loads(Store(pack).read_bytes("pack.json"))
        neutral = facts["neutral"]
    except (StorageError, ValueError, KeyError):
        return
    load_prompts(prompts, neutral=neutral)


def check_server(url: str) -> None:
    """Whether the Prefect server that the environment names answers, and Prefect can keep its files.

    Args:
        url: of its API.
    Raises:
        PipelineError: in one line, within seconds.
    """
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=SERVER_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"the Prefect server in PREFECT_API_URL must answer; {url} does not ({error}). "
            f"Start it (`prefect server start`), or unset PREFECT_API_URL to run without a server."
        ) from error
    home = Path(os.environ.get("PREFECT_HOME") or Path("~/.prefect").expanduser())
    _check_writable(home, "Prefect's home folder", "Set PREFECT_HOME to a folder that can be written.")


def check_places(request: Request) -> None:
    """Whether the run folder and the temporary folder can be written.

    Raises:
        PipelineError: in one line, before any work.
    """
    from storage import Store

    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise PipelineError(f"a temporary folder is needed; {error}. Set TMPDIR to a folder with room.") from error
    _check_writable(temporary, "the temporary folder", "Set TMPDIR to a folder with room.")
    if "run" in request.values:  # a check of prompts writes nothing
        Store(request["run"]).check_writable()


@contextmanager
def one_writer(request: Request, *, waiting: Callable[[str], None]) -> Iterator[None]:
    """In this context no other run writes where the command does; for commands that a user called, not for their steps.

    Args:
        request: its places filled in.
        waiting: told in one line where it has to be seen whether another is still alive.
    Raises:
        storage.HeldError: if another run writes there.
    """
    from storage import Store, lease

    place = request.values.get("to") or request.values.get("run")
    if place is None:
        yield
        return
    with lease(Store(place), what=request.command.name, waiting=waiting):
        yield


def _check_writable(folder: Path, what: str, remedy: str) -> None:
    """Make the folder if need be, and a file in it that is gone at once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        raise PipelineError(
            f"{what} must be writable; {folder} is not ({error.strerror or error}). {remedy}"
        ) from error
