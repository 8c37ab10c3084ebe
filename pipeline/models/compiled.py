"""torch.compile for functions that differ in what they close over, not in their code."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

import torch

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
SHAPES = 64  # compiled forms of one function before torch gives up; batches are filled up to powers of two


def compiled_apart(function: FunctionT, name: str, *, backend: str) -> FunctionT:
    """The function compiled for each shape it meets, apart from others of the same code.

    torch keeps compiled forms by code object, few for each, and looks through all of them at every call. Functions
    made in one place with other closures share it, so this one gets a copy, under a name that profiles show. Forms may
    be run backward more than once.

    Args:
        function: a plain Python function of tensors.
        name: a valid identifier, its own.
        backend: of torch.compile; ``inductor`` makes the fused passes, ``aot_eager`` traces only.
    """
    from torch._dynamo import config as tracing  # here: the compiler takes 200 MB and seconds to import
    from torch._functorch import config as gradients

    tracing.recompile_limit = max(tracing.recompile_limit, SHAPES)
    plain = cast(FunctionType, function)
    own = FunctionType(
        plain.__code__.replace(co_name=name, co_qualname=name),
        plain.__globals__,
        name,
        plain.__defaults__,
        plain.__closure__,
    )
    compiled = torch.compile(own, dynamic=False, fullgraph=True, backend=backend)

    def run(*arguments: Any) -> Any:
        # a donated buffer is overwritten by the first backward pass; slopes make many through one graph
        with gradients.patch(donated_buffer=False):
            return compiled(*arguments)

    return cast(FunctionT, run)
