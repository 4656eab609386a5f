"""Algorithmic tasks that networks grok: arithmetic modulo p, and sparse parity."""

from dataclasses import dataclass

import numpy as np

OPERATIONS = {"add": np.add, "multiply": np.multiply}


@dataclass(frozen=True)
class Task:
    """`train_x` (N, d) int64, `train_y` (N) int64, and the same for testing; `classes`."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int


def modular_dataset(p: int, operation: str, fraction: float, rng: np.random.Generator) -> Task:
    """All p^2 pairs (a, b) with (a op b) mod p; x holds a and b, of which a network sees the concatenated one-hots.

    A share `fraction` of the pairs, drawn by `rng`, is for training. Raises ValueError for p < 2, a fraction outside (0, 1), an unknown operation.
    """
    if p < 2:
        raise ValueError(f"p is {p}; at least 2 is expected")
    if operation not in OPERATIONS:
        raise ValueError(f"operation is {operation!r}; one of {', '.join(OPERATIONS)} is expected")
    pairs = np.stack(np.meshgrid(np.arange(p), np.arange(p), indexing="ij"), -1).reshape(-1, 2)
    return _split(pairs, OPERATIONS[operation](pairs[:, 0], pairs[:, 1]) % p, p, fraction, rng)


def sparse_parity(n: int, parity_bits: int, noise_bits: int, fraction: float, rng: np.random.Generator) -> Task:
    """`n` random words of bits whose label is the parity of the first `parity_bits`. Raises ValueError for a fraction outside (0, 1), or no parity bit."""
    if parity_bits < 1 or noise_bits < 0 or n < 2:
        raise ValueError(f"n is {n}, parity_bits {parity_bits}, noise_bits {noise_bits}; n >= 2, at least one parity bit and no negative number are expected")
    words = rng.integers(0, 2, (n, parity_bits + noise_bits))
    return _split(words, words[:, :parity_bits].sum(1) % 2, 2, fraction, rng)


def _split(x: np.ndarray, y: np.ndarray, classes: int, fraction: float, rng: np.random.Generator) -> Task:
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; a share of the data between 0 and 1 is expected")
    order = rng.permutation(len(x))
    cut = round(fraction * len(x))
    return Task(x[order[:cut]], y[order[:cut]], x[order[cut:]], y[order[cut:]], classes)
