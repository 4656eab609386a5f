"""Mini-batches as indices: all of a run at once, from one random stream."""

import torch


def epochs(n: int, batch_size: int, n_epochs: int, generator: torch.Generator) -> torch.Tensor:
    """The indices of every mini-batch of a run, int64 with the shape (steps, batch_size), reshuffled each epoch.

    What is left over at an epoch's end is dropped. Raises ValueError for a batch larger than the data.

    >>> epochs(10, 4, 3, torch.Generator().manual_seed(0)).shape
    torch.Size([6, 4])
    """
    if not 1 <= batch_size <= n:
        raise ValueError(f"batch_size is {batch_size}; 1 to {n} is expected, the number of samples")
    per_epoch = n // batch_size
    order = torch.stack([torch.randperm(n, generator=generator)[: per_epoch * batch_size] for _ in range(n_epochs)])
    return order.reshape(n_epochs * per_epoch, batch_size)
