"""Transport problems: random assignment, pairs of images, point clouds, mixtures on a line. Each returns cost (n, m), row and column marginals."""

import numpy as np
from scipy.spatial.distance import cdist

Problem = tuple[np.ndarray, np.ndarray, np.ndarray]


def random_assignment(n: int, rng: np.random.Generator) -> Problem:
    """Costs uniform on [0, 1], uniform marginals."""
    return rng.random((n, n)), np.full(n, 1 / n), np.full(n, 1 / n)


def image_pair(first: np.ndarray, second: np.ndarray, *, power: int, floor: float = 0.01) -> Problem:
    """Two images (row, column) as histograms of their pixels: intensity / max + floor, normalised.

    The cost is the squared Euclidean (`power` 2) or the Manhattan (1) distance of the pixels over its maximum. Raises ValueError for another power.
    """
    if power not in (1, 2):
        raise ValueError(f"power is {power}; 1 or 2 is expected")
    grid = np.stack(np.meshgrid(*map(np.arange, first.shape), indexing="ij"), -1).reshape(-1, 2).astype(float)
    cost = cdist(grid, grid, "cityblock" if power == 1 else "sqeuclidean")
    histograms = [image.reshape(-1) / image.max() + floor for image in (first.astype(float), second.astype(float))]
    return cost / cost.max(), *(histogram / histogram.sum() for histogram in histograms)


def point_clouds(first: np.ndarray, second: np.ndarray) -> Problem:
    """Two samples (n, d) and (m, d) with uniform weights and the squared Euclidean distance over its maximum."""
    cost = cdist(first, second, "sqeuclidean")
    return cost / cost.max(), np.full(len(first), 1 / len(first)), np.full(len(second), 1 / len(second))


def mixtures_on_a_line(n: int, *, power: int) -> Problem:
    """Two mixtures of Gaussians on n points of [0, 1] with the cost |s - t|^power, whose transport the quantile functions give exactly."""
    points = np.linspace(0, 1, n)

    def mixture(*parts: tuple[float, float, float]) -> np.ndarray:
        density = sum(weight / width * np.exp(-0.5 * ((points - centre) / width) ** 2) for weight, centre, width in parts) + 1e-3
        return density / density.sum()

    first, second = mixture((0.6, 0.2, 0.05), (0.4, 0.5, 0.08)), mixture((0.3, 0.4, 0.04), (0.7, 0.8, 0.06))
    return abs(points[:, None] - points[None, :]) ** power, first, second


def transport_on_a_line(points: np.ndarray, first: np.ndarray, second: np.ndarray, *, power: int) -> float:
    """The exact cost of moving `first` to `second`, both on the increasing `points`: the monotone coupling of their quantile functions."""
    levels = np.union1d(np.cumsum(first), np.cumsum(second))
    levels = np.clip(levels, 0, 1)
    middle = (np.concatenate([[0], levels[:-1]]) + levels) / 2
    last = len(points) - 1
    source = points[np.minimum(np.searchsorted(np.cumsum(first), middle), last)]
    target = points[np.minimum(np.searchsorted(np.cumsum(second), middle), last)]
    return float((np.diff(levels, prepend=0) * abs(source - target) ** power).sum())
