"""Several models of one architecture trained at once: their parameters stacked, their forward passes vectorised (torch.func)."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]


def stack_modules(modules: Sequence[nn.Module]) -> tuple[Tensors, Tensors, Callable[[Tensors, Tensors, Tensor], Tensor]]:
    """Parameters and buffers of S modules stacked to (S, ...), and `forward(params, buffers, x)` for x of the shape (S, ...).

    The parameters are leaf tensors that ask for gradients. An elementwise optimiser (Adam, SGD) on them trains every model as if it were
    alone when the loss is the sum of the models' losses. Raises ValueError without modules.
    """
    if not modules:
        raise ValueError("modules is empty; at least one module is expected")
    params, buffers = torch.func.stack_module_state(list(modules))
    skeleton = copy.deepcopy(modules[0]).to("meta")

    def one(params: Tensors, buffers: Tensors, x: Tensor) -> Tensor:
        return torch.func.functional_call(skeleton, (params, buffers), (x,))

    return params, buffers, torch.func.vmap(one)
