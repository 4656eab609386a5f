"""StableMax: a softmax whose logits grow logarithmically, so that it never rounds to one (Prieto et al., ICLR 2025, arXiv 2501.04697).

    s(x) = x + 1 for x >= 0, 1 / (1 - x) for x < 0,      p_k = s(x_k) / sum_j s(x_j)

It is the softmax of g(x) = sign(x) log(1 + |x|): no overflow, and slope 1 from both sides at 0. Unlike the softmax it depends on a shift of the logits.
"""

import torch
from torch import Tensor


class _Squash(torch.autograd.Function):
    """g(x), with the slope 1 / (1 + |x|), which is 1 at 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.log1p(x.abs()).copysign(x)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient / (1 + x.abs())


class _CrossEntropy(torch.autograd.Function):
    """log sum_k s(x_k) - log s(x_y): one logarithm a sample, none a class. Arrays of the logits' size are made twice going forward and once going back."""

    @staticmethod
    def forward(ctx, x: Tensor, target: Tensor) -> Tensor:
        below = x.clamp(max=0).sub_(1)
        s = x.clamp(min=0).add_(1).div_(below).neg_()  # max(1, 1 + x) / max(1, 1 - x), where one of the two is 1
        total, chosen = s.sum(-1, keepdim=True), s.gather(-1, target)
        ctx.save_for_backward(s, total, chosen, target)
        return (total.log() - chosen.log()).squeeze(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        s, total, chosen, target = ctx.saved_tensors
        gradient = gradient.unsqueeze(-1)
        slope = s.clamp(max=1).square_().mul_(gradient / total)
        return slope.scatter_add_(-1, target, -gradient * torch.minimum(chosen, 1 / chosen)), None


def log_stablemax(x: Tensor, dim: int = -1) -> Tensor:
    """log p, of the shape of x. Raises ValueError for logits that are not floating-point numbers."""
    if not x.is_floating_point():
        raise ValueError(f"x has the dtype {x.dtype}; floating-point logits are expected")
    return torch.log_softmax(_Squash.apply(x), dim)


def stablemax(x: Tensor, dim: int = -1) -> Tensor:
    """p, of the shape of x; sums to 1 along `dim`."""
    return log_stablemax(x, dim).exp()


def stablemax_cross_entropy(logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """-log p of the targets in float64: logits (..., K), target (...) int64; `reduction` is mean, sum or none.

    Raises ValueError for a target outside 0..K-1, logits that are not floating-point, an unknown reduction.
    """
    check_target(logits, target)
    return reduce(_CrossEntropy.apply(logits.double(), target.unsqueeze(-1)), reduction)


def check_target(logits: Tensor, target: Tensor) -> None:
    if not logits.is_floating_point():
        raise ValueError(f"logits have the dtype {logits.dtype}; floating-point logits are expected")
    if target.shape != logits.shape[:-1]:
        raise ValueError(f"target has the shape {tuple(target.shape)}; {tuple(logits.shape[:-1])} is expected, that of the logits without the last dimension")
    if target.numel() and not (0 <= int(target.min()) and int(target.max()) < logits.shape[-1]):
        raise ValueError(f"target has values from {int(target.min())} to {int(target.max())}; classes 0 to {logits.shape[-1] - 1} are expected")


def reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}; mean, sum or none is expected")
    return values if reduction == "none" else getattr(values, reduction)()
