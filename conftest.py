"""While tests run, every call in the kernels and the pipeline is checked against its types and shapes."""

from collections.abc import Iterator

import jaxtyping
import pytest

# an int will do for a float, as type checkers have it
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
jaxtyping.install_import_hook(["kernels", "pipeline"], CHECKER)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """For a test that hands over what the types forbid, to see the error that users see."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
