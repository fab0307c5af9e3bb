"""k-means over embeddings, with what tells whether the clusters mean anything."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Algorithm = Literal["kmeans", "minibatch"]

LIBRARY = f"scikit-learn {version('scikit-learn')}"
SAMPLE = 10_000
_MEMORY = 256
"""MiB for a block of distances."""
_ROWS = 65_536
"""Of which the distance from their centres is computed at once."""


@dataclass(frozen=True)
class Clusters:
    """``labels``: the cluster of each row, from 0. ``distances``: of each from its centre, squared. ``sizes``: rows in
    each of the clusters, 0 for an empty one.

    ``inertia`` is the sum of squared distances to the nearest centre, of the rows that made the centres.
    ``silhouette``, from -1 to 1, is the mean over ``sample`` rows drawn at random, each compared with the others of the
    sample; None where it is not defined.
    """

    labels: NDArray[np.int32]
    distances: NDArray[np.float32]
    sizes: NDArray[np.int64]
    iterations: int
    inertia: float
    silhouette: float | None
    sample: int


def k_means(
    vectors: NDArray[np.float32], k: int, algorithm: Algorithm, seed: int, learned: int | None = None
) -> Clusters:
    """Cluster the rows of ``vectors`` (rows, dimensions) by scikit-learn's KMeans or MiniBatchKMeans.

    The settings are Small2Large's (arXiv 2402.10430): n_init "auto", which is one start by k-means++, and random_state
    ``seed``. A batch is ten rows a cluster, and at least scikit-learn's 1,024. There is one thread: several add up in
    no fixed order, and one row at a border is enough to give the next step other centres. ``vectors`` are moved to
    their mean and back, which takes no copy and may change last digits. ``k`` is at most their number.

    ``learned``: only so many of the first rows make the centres; each of the others is in the cluster whose centre is
    the nearest.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    if algorithm == "kmeans":
        estimator = KMeans(k, n_init="auto", random_state=seed, copy_x=False)
    else:
        estimator = MiniBatchKMeans(k, n_init="auto", random_state=seed, batch_size=max(1024, 10 * k))
    with threadpool_limits(1):
        estimator.fit(vectors[:learned])
        labels = estimator.labels_.astype(np.int32)
        if len(others := vectors[len(labels) :]):
            labels = np.concatenate([labels, estimator.predict(others).astype(np.int32)])
        silhouette, sample = _silhouette(vectors, labels, seed)
    sizes = np.bincount(labels, minlength=k)
    distances = _distances(vectors, labels, estimator.cluster_centers_)
    return Clusters(labels, distances, sizes, int(estimator.n_iter_), float(estimator.inertia_), silhouette, sample)


def _distances(
    vectors: NDArray[np.float32], labels: NDArray[np.int32], centres: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Some rows at a time, so that there is no second copy of them."""
    distances = np.empty(len(labels), np.float32)
    for start in range(0, len(labels), _ROWS):
        part = slice(start, start + _ROWS)
        distances[part] = np.square(vectors[part] - centres[labels[part]]).sum(axis=1)
    return distances


def _silhouette(vectors: NDArray[np.float32], labels: NDArray[np.int32], seed: int) -> tuple[float | None, int]:
    """Over a sample: its time and memory grow with the square of the rows."""
    from sklearn import config_context
    from sklearn.metrics import silhouette_score

    rows = np.arange(len(labels))
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE, replace=False))
    if not 1 < len(np.unique(labels[rows])) < len(rows):
        return None, len(rows)
    with config_context(working_memory=_MEMORY):
        return float(silhouette_score(vectors[rows], labels[rows])), len(rows)


def central_rows(clusters: Clusters, cluster: int, most: int) -> NDArray[np.int64]:
    """The rows of a cluster, those nearest to its centre first."""
    rows = np.flatnonzero(clusters.labels == cluster)
    return rows[np.argsort(clusters.distances[rows], kind="stable")[:most]]


def summary(clusters: Clusters) -> dict[str, Any]:
    """What is said of them, as JSON-like values."""
    sizes = clusters.sizes
    return {
        "rows": len(clusters.labels),
        "clusters": len(sizes),
        "empty": int((sizes == 0).sum()),
        "smallest": int(sizes.min()),
        "median": float(np.median(sizes)),
        "largest": int(sizes.max()),
        "silhouette": clusters.silhouette,
        "silhouette_sample": clusters.sample,
        "iterations": clusters.iterations,
        "inertia": clusters.inertia,
        "sizes": sizes.tolist(),
    }
