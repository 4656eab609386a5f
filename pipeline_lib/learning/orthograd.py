"""perpGrad as an optimizer around another one: gradients orthogonal to the weights (Prieto et al., ICLR 2025, arXiv 2501.04697).

Each parameter tensor's gradient g is replaced by g - (w.g)/(w.w) w, then rescaled to the norm of g: the update cannot merely scale the weights, and
with them the logits.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

TINY = 1e-30


@torch.no_grad()
def orthogonalize_(weights: list[Tensor], gradients: list[Tensor], *, rescale: bool = True, stacked: int = 0) -> None:
    """Makes each gradient orthogonal to its weights, in place, and gives it back its norm.

    `stacked` leading dimensions number independent models, each with its own projection. A gradient that is parallel to its weights up to rounding becomes 0: what is left
    of it has no direction that could be scaled up. No value is read back to Python, so that a GPU need not wait.
    """
    if not weights:
        return
    w = [weight.reshape(*weight.shape[:stacked], -1) for weight in weights]
    g = [gradient.view(*gradient.shape[:stacked], -1) for gradient in gradients]
    dot = torch.dot if stacked == 0 else torch.linalg.vecdot
    along = [dot(wk, gk) for wk, gk in zip(w, g, strict=True)]
    before = _norms(g, stacked)
    coefficients = [a / (n * n + TINY) for a, n in zip(_together(along), _together(_norms(w, stacked)), strict=True)]
    torch._foreach_addcmul_(g, w, _apart(coefficients, along), value=-1)
    if rescale:
        after = _norms(g, stacked)
        rounding = 8 * torch.finfo(g[0].dtype).eps
        factors = [torch.where(a > rounding * b, b / (a + TINY), 0) for a, b in zip(_together(after), _together(before), strict=True)]
        torch._foreach_mul_(g, _apart(factors, along))


def _norms(tensors: list[Tensor], stacked: int) -> list[Tensor]:
    return list(torch._foreach_norm(tensors)) if stacked == 0 else [torch.linalg.vector_norm(tensor, dim=-1) for tensor in tensors]


def _together(values: list[Tensor]) -> list[Tensor]:
    """Many numbers as one vector, so that arithmetic on them is one call; per-model vectors stay as they are."""
    return [torch.stack(values)] if values[0].ndim == 0 else values


def _apart(values: list[Tensor], like: list[Tensor]) -> list[Tensor]:
    return list(values[0].unbind()) if like[0].ndim == 0 else [value.unsqueeze(-1) for value in values]


class OrthoGrad(torch.optim.Optimizer):
    """`base_cls` (an optimizer class) on gradients made orthogonal to the weights.

    params: as of any optimizer; `rescale` gives each gradient its norm back; `stacked` leading dimensions number independent models; the other keywords go to
    `base_cls`, which is asked for its fused implementation where it has one. Weight decay of the base acts as usual. The state is the base's. Raises TypeError where `base_cls` is no optimizer class.
    """

    def __init__(self, params: Iterable, base_cls: type[torch.optim.Optimizer] = torch.optim.AdamW, *, rescale: bool = True, stacked: int = 0, **kw: Any):
        if not (isinstance(base_cls, type) and issubclass(base_cls, torch.optim.Optimizer)):
            raise TypeError(f"base_cls is {base_cls!r}; a class of torch.optim is expected")
        self._rescale, self._stacked = rescale, stacked
        if "fused" in inspect.signature(base_cls).parameters and not {"fused", "foreach"} & set(kw):
            kw["fused"] = True  # pays for the projection: one pass over each tensor in place of several
        self.base = base_cls(params, **kw)
        super().__init__(self.base.param_groups, {})
        self.param_groups, self.state = self.base.param_groups, self.base.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        given = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        orthogonalize_(given, [_dense(p) for p in given], rescale=self._rescale, stacked=self._stacked)
        self.base.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base.load_state_dict(state_dict)
        self.param_groups, self.state = self.base.param_groups, self.base.state


def _dense(parameter: Tensor) -> Tensor:
    """The gradient as a tensor that can be viewed flat and changed in place."""
    if parameter.grad.is_sparse:
        raise ValueError("a gradient is sparse; dense gradients are expected")
    if not parameter.grad.is_contiguous():
        parameter.grad = parameter.grad.contiguous()
    return parameter.grad
