"""Multilayer perceptrons: one network, and a stack of bias-free ones that are trained at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def mlp(widths: Sequence[int], *, activation: str = "relu", bias: bool = True, generator: torch.Generator | None = None) -> nn.Sequential:
    """Linear layers of these widths with an activation between them, torch's default initialisation from `generator`.

    Raises ValueError for fewer than two widths or an unknown activation.
    """
    if len(widths) < 2:
        raise ValueError(f"widths are {list(widths)}; at least an input and an output width are expected")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; one of {', '.join(ACTIVATIONS)} is expected")
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layer = nn.Linear(fan_in, fan_out, bias=bias)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
        layers += [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


class StackedMLP(nn.Module):
    """S bias-free ReLU networks of the same widths, each initialised from its own generator: weights (S, fan_in, fan_out), uniform as torch's Linear, times `scale`.

    forward: x (S, N, d) floating-point, or (S, N, k) int64, of which x[..., j] chooses among the input features of the j-th group of d/k: the same as
    concatenated one-hots, by gathering rows in place of a matrix product. Returns (S, N, out).
    """

    def __init__(self, widths: Sequence[int], generators: Sequence[torch.Generator], *, scale: float = 1.0):
        super().__init__()
        self.widths = tuple(widths)
        self.weights = nn.ParameterList()
        for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
            drawn = [torch.empty(fan_out, fan_in).uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator).T for generator in generators]
            self.weights.append(nn.Parameter(scale * torch.stack(drawn).contiguous()))

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = self.weights
        hidden = torch.bmm(x, first) if x.is_floating_point() else self._gathered(first, x)
        for weight in rest:
            hidden = torch.bmm(hidden.relu(), weight)
        return hidden

    def _gathered(self, weight: Tensor, x: Tensor) -> Tensor:
        models, groups = weight.shape[0], x.shape[-1]
        rows = x + torch.arange(groups, device=x.device) * (weight.shape[1] // groups) + torch.arange(models, device=x.device)[:, None, None] * weight.shape[1]
        table = weight.flatten(0, 1)
        return sum(nn.functional.embedding(rows[..., j], table) for j in range(groups))
