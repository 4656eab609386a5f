"""What an experiment is given: the cells of a stage, each a point of the stage's grid with the Dataset that was computed there."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

Axes = Mapping[str, Any]


class Cells:
    """Some cells of one stage.

    `entries` are pairs of a cell's axes and its Dataset, or a function without arguments that opens it (opened once, when first used).

    >>> cells = Cells([({"method": "a"}, xr.Dataset({"error": 0.5})), ({"method": "b"}, xr.Dataset({"error": 0.25}))])
    >>> float(cells.one(method="b").error)
    0.25
    >>> cells.variable("error").sel({"method": "a"}).item()
    0.5
    """

    def __init__(self, entries: Iterable[tuple[Axes, xr.Dataset | Callable[[], xr.Dataset]]], stage: str = "stage"):
        self._entries = [(dict(axes), source) for axes, source in entries]
        self._stage = stage

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[dict[str, Any], xr.Dataset]]:
        """The pairs of a cell's axes and its Dataset, in the order of the declaration."""
        return ((dict(axes), self._open(k)) for k, (axes, _) in enumerate(self._entries))

    def __repr__(self) -> str:
        return f"<{len(self)} cells of {self._stage}: {', '.join(_name(axes) for axes, _ in self._entries[:6])}{', ...' if len(self) > 6 else ''}>"

    def where(self, **axes: Any) -> "Cells":
        """The cells whose axes have these values; none is an error.

        Raises KeyError where an axis or a combination of values does not exist.
        """
        found = [k for k, (have, _) in enumerate(self._entries) if all(name in have and have[name] == value for name, value in axes.items())]
        if not found:
            raise KeyError(f"no cell of {self._stage} has {_name(axes)}; there are {', '.join(_name(have) for have, _ in self._entries) or 'none'}")
        return Cells([(self._entries[k][0], lambda k=k: self._open(k)) for k in found], self._stage)

    def one(self, **axes: Any) -> xr.Dataset:
        """The Dataset of the one cell with these axes. Raises KeyError when there is none, or more than one."""
        cells = self.where(**axes) if axes else self
        if len(cells) != 1:
            raise KeyError(f"{len(cells)} cells of {self._stage} have {_name(axes)}, where one is wanted: "
                           f"{', '.join(_name(have) for have, _ in cells._entries) or 'none'}")
        return cells._open(0)

    def variable(self, name: str) -> xr.DataArray:
        """The variable `name` of all cells that have it, with the grid's axes as its first dimensions; NaN where the grid has no cell.

        Cells may differ in the length of the variable's own dimensions (the gap is NaN too).
        Raises KeyError when no cell has it, ValueError when the cells that have it do not share their axes: choose with `where` then.
        """
        having = [(axes, dataset[name]) for axes, dataset in self if name in dataset.variables]
        if not having:
            raise KeyError(f"no cell of {self._stage} has a variable {name!r}; the first one has {sorted(map(str, self._open(0).variables)) if len(self) else 'not been given'}")
        dims = list(having[0][0])
        for axes, _ in having:
            if set(axes) != set(dims):
                raise ValueError(f"the cells of {self._stage} with {name!r} have different axes, {sorted(dims)} and {sorted(axes)}: choose some with where()")
        return _stack([({d: axes[d] for d in dims}, array.reset_coords(drop=True)) for axes, array in having], dims)

    def _open(self, k: int) -> xr.Dataset:
        axes, source = self._entries[k]
        if not isinstance(source, xr.Dataset):
            source = source()
            self._entries[k] = (axes, source)
        return source


def _stack(having: list[tuple[dict, xr.DataArray]], dims: list[str]) -> xr.DataArray:
    """One array from the cells' arrays: aligned on their own dimensions, then laid into the product of the axes' values."""
    arrays = xr.align(*(array for _, array in having), join="outer")
    inner = arrays[0]
    values = {d: list(dict.fromkeys(axes[d] for axes, _ in having)) for d in dims}
    shape = tuple(len(values[d]) for d in dims)
    complete = len(having) == int(np.prod(shape, dtype=int))
    kind = np.result_type(*(array.dtype for array in arrays)) if all(a.dtype.kind in "biufc" for a in arrays) else np.dtype(object)
    if not complete and kind.kind in "biu":
        kind = np.dtype(float)
    fill = None if kind == object else (np.nan if kind.kind in "fc" else 0)
    data = np.full(shape + inner.shape, fill, dtype=kind)
    for (axes, _), array in zip(having, arrays, strict=True):
        data[tuple(values[d].index(axes[d]) for d in dims)] = array.transpose(*inner.dims).values
    return xr.DataArray(data, dims=(*dims, *inner.dims), coords={**values, **{k: v for k, v in inner.coords.items() if k in inner.dims}})


def _name(axes: Axes) -> str:
    return "/".join(f"{name}~{value}" for name, value in axes.items()) or "all"
