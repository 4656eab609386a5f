"""A model's weights as a Dataset, and back: what a store holds of a trained network."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr

PREFIX = "weight:"


def to_dataset(state_dict: Mapping[str, torch.Tensor], dims: Sequence[str] = ()) -> xr.Dataset:
    """Each tensor as the variable `weight:<name>`; `dims` name the leading dimensions that all tensors share (say `seed` for a stack).

    Raises ValueError for a tensor with fewer dimensions than `dims`, or of a type that NumPy does not have.
    """
    variables = {}
    for name, tensor in state_dict.items():
        if tensor.ndim < len(dims):
            raise ValueError(f"{name} has {tensor.ndim} dimensions; the leading dimensions {tuple(dims)} are expected")
        if tensor.dtype == torch.bfloat16:
            raise ValueError(f"{name} has the dtype bfloat16, which arrays do not have; convert it to float32 first")
        own = [f"{name}:{k}" for k in range(tensor.ndim - len(dims))]
        variables[PREFIX + name] = ((*dims, *own), tensor.detach().cpu().numpy().copy())
    return xr.Dataset(variables)


def from_dataset(dataset: xr.Dataset) -> dict[str, torch.Tensor]:
    """The tensors of all `weight:` variables by their names. Raises ValueError where there is none."""
    found = {str(name).removeprefix(PREFIX): torch.from_numpy(np.array(array.values)) for name, array in dataset.data_vars.items() if str(name).startswith(PREFIX)}
    if not found:
        raise ValueError(f"the dataset holds no weights; it has {', '.join(map(str, dataset.data_vars)) or 'no variables'}")
    return found
