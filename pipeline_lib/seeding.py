"""Named random streams.

A stream is named by words (the paper, what is drawn, the seed), never by the cell that draws from it: methods that are compared at one
seed must see the same problem, and must go on seeing it when the grid changes.
"""

import hashlib

import numpy as np

Word = str | int | float | bool


def seed_of(*words: Word) -> int:
    """A 63-bit seed that depends on the words alone, on every platform and in every Python version.

    >>> seed_of("toy", "noise", 0) == seed_of("toy", "noise", 0)
    True
    >>> seed_of("toy", "noise", 0) == seed_of("toy", "noise", 1)
    False
    """
    if not words:
        raise ValueError("a random stream needs at least one word as its name")
    digest = hashlib.blake2b(digest_size=8)
    for word in words:
        if isinstance(word, np.generic):
            word = word.item()
        if not isinstance(word, (str, int, float, bool)):
            raise TypeError(f"a random stream is named by text, numbers and booleans, not by {word!r} ({type(word).__name__})")
        digest.update(f"{type(word).__name__}:{word!r};".encode())
    return int.from_bytes(digest.digest(), "big") >> 1


def stream(*words: Word) -> np.random.Generator:
    """NumPy's generator (PCG64) for the stream of this name."""
    return np.random.default_rng(seed_of(*words))


def torch_stream(*words: Word, device: str = "cpu"):
    """torch's generator for the stream of this name; draw on the CPU where the same numbers are wanted on every device."""
    import torch

    return torch.Generator(device=device).manual_seed(seed_of(*words))
