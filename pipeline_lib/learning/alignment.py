"""Naive loss minimisation: how far the negative gradient points along the weights, the direction that merely scales the logits (arXiv 2501.04697).

A bias-free ReLU network with L layers is homogeneous, f(c theta) = c^L f(theta), so moving along theta scales the logits; Euler's identity gives
<theta, grad L> = L sum_k z_k dL/dz_k.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

TINY = 1e-30


def alignment_of(weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], stacked: int = 0) -> dict[str, Tensor]:
    """cos(-gradient, weights) for each tensor, and over all of them as "all"; `stacked` leading dimensions number independent models."""
    cosines, totals = {}, torch.zeros(())
    sums = []
    for name, weight in weights.items():
        w, g = weight.reshape(*weight.shape[:stacked], -1).double(), gradients[name].reshape(*weight.shape[:stacked], -1).double()
        parts = torch.stack([-torch.linalg.vecdot(w, g), torch.linalg.vecdot(w, w), torch.linalg.vecdot(g, g)])
        sums.append(parts)
        cosines[name] = parts[0] / (parts[1] * parts[2]).sqrt().clamp(min=TINY)
    totals = torch.stack(sums).sum(0)
    return cosines | {"all": totals[0] / (totals[1] * totals[2]).sqrt().clamp(min=TINY)}


def nlm_alignment(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """`alignment_of` the model's parameters for the gradient of `loss`, which keeps its graph. Raises ValueError where no parameter asks for a gradient."""
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not weights:
        raise ValueError("the model has no parameter that asks for a gradient")
    gradients = torch.autograd.grad(loss, list(weights.values()), retain_graph=True, allow_unused=True)
    given = {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(weights.items(), gradients, strict=True)}
    return alignment_of({name: p.detach() for name, p in weights.items()}, given)


def euler_identity_gap(model: nn.Module, x: Tensor, loss_of_logits, layers: int) -> Tensor:
    """|<theta, grad L> - L sum z dL/dz| over the size of either: 0 up to rounding for a bias-free ReLU network with `layers` layers."""
    weights = [p for p in model.parameters() if p.requires_grad]
    logits = model(x)
    *gradients, at_logits = torch.autograd.grad(loss_of_logits(logits), [*weights, logits])
    left = sum((w * g).sum() for w, g in zip(weights, gradients, strict=True))
    right = layers * (logits * at_logits).sum()
    return (left - right).abs() / torch.maximum(left.abs(), right.abs()).clamp(min=TINY)
