"""Images with labels: scikit-learn's digits, MNIST and Fashion-MNIST, out of the files that packages ship."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

IDX_UBYTE = {1: 8, 3: 16}


def digits(sources: Mapping[str, Path]) -> xr.Dataset:
    """1,797 digits of 8x8 pixels. `image` (sample, row, column) float64 in 0..16, `label` (sample) int64, in the file's order."""
    table = np.loadtxt(sources["digits_csv"], delimiter=",")
    return _labelled(table[:, :-1].reshape(-1, 8, 8), table[:, -1])


def mnist_5k(sources: Mapping[str, Path]) -> xr.Dataset:
    """5,000 MNIST digits, 500 of each class. `image` (sample, row, column) uint8, `label` (sample) int64, in the file's order."""
    table = np.loadtxt(sources["mnist_5k_csv"], delimiter=",")
    return _labelled(table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1])


def mnist_10k(sources: Mapping[str, Path]) -> xr.Dataset:
    """10,000 MNIST digits sorted by class; `in_mnist_5k` (sample) marks those that the 5,000 hold too, so that none is tested on that was trained on."""
    images, labels = [], []
    for digit in range(10):
        flat = np.asarray(json.loads(sources[f"mnist_10k_{digit}"].read_text())["data"]).reshape(-1, 28, 28)
        images.append(np.round(255 * flat).astype(np.uint8))
        labels.append(np.full(len(flat), digit))
    dataset = _labelled(np.concatenate(images), np.concatenate(labels))
    known = {image.tobytes() for image in mnist_5k(sources).image.values}
    return dataset.assign(in_mnist_5k=("sample", np.array([image.tobytes() in known for image in dataset.image.values])))


def fashion_mnist(sources: Mapping[str, Path], *, train: int = 60000, test: int = 10000, shrink: int = 1) -> xr.Dataset:
    """Fashion-MNIST: the first `train` and `test` items, as means over `shrink` x `shrink` pixels.

    `train_image` (train_sample, row, column) float32 in 0..1, `train_label`, `test_image`, `test_label`.
    """
    parts = {}
    for part, name, count in (("train", "train", train), ("test", "t10k", test)):
        images = idx(sources[f"fashion_{name}_images"])[:count].astype(np.float32) / 255
        size = images.shape[1] // shrink
        images = images.reshape(-1, size, shrink, size, shrink).mean((2, 4))
        parts[f"{part}_image"] = ((f"{part}_sample", "row", "column"), images)
        parts[f"{part}_label"] = (f"{part}_sample", idx(sources[f"fashion_{name}_labels"])[:count].astype(np.int64))
    return xr.Dataset(parts)


def mnist(sources: Mapping[str, Path]) -> xr.Dataset:
    """The complete MNIST from the user's own idx files (plain or gzipped): `train_image` uint8, `train_label`, `test_image`, `test_label`."""
    return xr.Dataset({f"{part}_{what}": ((f"{part}_sample", "row", "column")[: 3 if what == "image" else 1],
                                          idx(sources[f"mnist_{part}_{what}s"]).astype(np.uint8 if what == "image" else np.int64))
                       for part in ("train", "test") for what in ("image", "label")})


def idx(path: Path) -> np.ndarray:
    """The array of an idx file of unsigned bytes, gzipped or not. Raises ValueError for other files."""
    content = path.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    if len(content) < 8 or content[:3] != b"\x00\x00\x08" or content[3] not in IDX_UBYTE:
        raise ValueError(f"{path} is no idx file of unsigned bytes with one or three dimensions")
    shape = np.frombuffer(content, ">u4", content[3], offset=4)
    data = np.frombuffer(content, np.uint8, offset=IDX_UBYTE[content[3]])
    if data.size != shape.prod():
        raise ValueError(f"{path} says to have the shape {tuple(shape)} and holds {data.size} bytes")
    return data.reshape(shape)


def _labelled(images: np.ndarray, labels: np.ndarray) -> xr.Dataset:
    return xr.Dataset({"image": (("sample", "row", "column"), images), "label": ("sample", labels.astype(np.int64))})
