"""Cross-entropy in a chosen precision, and the share of samples where it has collapsed (Prieto et al., ICLR 2025, arXiv 2501.04697).

Softmax collapse: with the logits shifted by their maximum, sum_k exp(z_k) is exactly 1 in the dtype of the loss. Loss and dL/dz_y of that sample are exactly 0 then.
"""

import math

import torch
from torch import Tensor

from pipeline_lib.learning.stablemax import check_target, reduce

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _shifted_sum(logits: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype}; one of {', '.join(map(str, DTYPES))} is expected")
    z = logits.to(dtype)
    z = z - z.amax(-1, keepdim=True).detach()
    return z, z.exp().sum(-1)


def cross_entropy_in(dtype: torch.dtype, logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy with every operation in `dtype`, the logits cast first: logits (..., K), target (...) int64.

    Casting the finished loss would measure nothing. Raises ValueError for a dtype that is no floating-point type of torch, a target outside 0..K-1.
    """
    check_target(logits, target)
    z, total = _shifted_sum(logits, dtype)
    return reduce(total.log() - z.gather(-1, target.unsqueeze(-1)).squeeze(-1), reduction)


def softmax_collapse_fraction(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """The share of samples (..., N, K) -> (...) whose shifted exponentials sum to exactly 1 in `dtype`."""
    return (_shifted_sum(logits, dtype)[1] == 1).double().mean(-1)


def collapse_gap(dtype: torch.dtype, classes: int) -> float:
    """The distance of the largest logit from K-1 equal ones at which the softmax collapses: log((K - 1) 2 / eps).

    >>> round(collapse_gap(torch.float32, 2), 1), round(collapse_gap(torch.float16, 2), 1)
    (16.6, 7.6)
    """
    if dtype not in DTYPES or classes < 2:
        raise ValueError(f"dtype {dtype} and {classes} classes: a floating-point dtype and at least 2 classes are expected")
    return math.log(2 / torch.finfo(dtype).eps) + math.log(classes - 1)
