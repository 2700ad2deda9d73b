"""Writes codes.safetensors: maps of points and similarities of spaces, as scikit-learn, scipy and numpy compute them.

`golden/README.md` describes the file.
"""

import pathlib
import sys

import numpy
import scipy.optimize
import scipy.spatial
import sklearn
import sklearn.decomposition
import sklearn.manifold
from sklearn.manifold import _t_sne

from golden_file import about, random_for, rounded, write

NEIGHBOURS = [1, 5, 12]


def points(name, count, features):
    """Three clouds, each stretched along an axis of its own, as exact float32 values."""
    random = random_for(name)
    labels = numpy.arange(count) % 3
    spread = 0.3 + numpy.linspace(1, 0, features) ** 2
    values = random.randn(count, features) * spread + 3 * random.randn(3, features)[labels] * spread
    return values.astype(numpy.float32), labels.astype(numpy.int64)


def principal_components(values, count):
    found = sklearn.decomposition.PCA(n_components=count, svd_solver="full").fit(values.astype(numpy.float64))
    coordinates = found.transform(values.astype(numpy.float64))
    # One sign for all ways of computing them: the number farthest from 0 is positive.
    farthest = numpy.abs(found.components_).argmax(axis=1)
    signs = numpy.sign(found.components_[numpy.arange(count), farthest])
    return {
        "pca.shares": found.explained_variance_ratio_,
        "pca.components": found.components_ * signs[:, None],
        "pca.coordinates": coordinates * signs,
    }


def embedding(name, values, perplexity):
    """The probabilities of t-SNE's pairs, and KL and its gradient for a random map."""
    values = values.astype(numpy.float64)
    squares = scipy.spatial.distance.cdist(values, values, "sqeuclidean")
    joint = _t_sne._joint_probabilities(squares.astype(numpy.float32), perplexity, 0)
    places = random_for(f"{name}/map").randn(len(values), 2).astype(numpy.float32)
    divergence, gradient = _t_sne._kl_divergence(
        places.astype(numpy.float64).ravel(), joint, 1, len(values), 2, skip_num_points=0
    )
    found = {
        "tsne.joint": scipy.spatial.distance.squareform(joint),
        "map": places,
        "tsne.divergence": numpy.array([divergence]),
        "tsne.gradient": gradient.reshape(-1, 2),
    }
    for count in NEIGHBOURS:
        trust = sklearn.manifold.trustworthiness(values, places.astype(numpy.float64), n_neighbors=count)
        found[f"trustworthiness.{count}"] = numpy.array([trust])
    return found


def whole_tsne(values, perplexity):
    """scikit-learn's own map, begun as it begins one by itself: only how good it is can be compared."""
    found = sklearn.manifold.TSNE(perplexity=perplexity, method="exact", init="pca", random_state=0)
    found.fit_transform(values.astype(numpy.float64))
    return {"tsne.reached": numpy.array([found.kl_divergence_])}


def centred(kernel):
    count = len(kernel)
    centring = numpy.eye(count) - 1 / count
    return centring @ kernel @ centring


def plain_hsic(k, l):
    return (centred(k) * centred(l)).sum()


def debiased_hsic(k, l):
    """Equation 5 of Song and others (2012), as it stands there."""
    count = len(k)
    k, l = k.copy(), l.copy()
    numpy.fill_diagonal(k, 0)
    numpy.fill_diagonal(l, 0)
    trace = numpy.trace(k @ l)
    sums = k.sum() * l.sum() / (count - 1) / (count - 2)
    both = 2 / (count - 2) * (k @ l).sum()
    return (trace + sums - both) / (count * (count - 3))


def alignment(x, y):
    k, l = (values.astype(numpy.float64) @ values.astype(numpy.float64).T for values in (x, y))
    of = lambda hsic: hsic(k, l) / numpy.sqrt(hsic(k, k) * hsic(l, l))
    return numpy.array([of(plain_hsic), of(debiased_hsic)])


def main():
    tensors = {}
    metadata = {"about": about(f"Maps by scikit-learn {sklearn.__version__}, similarities by numpy.")}
    for name, count, features, perplexity in [("tall", 60, 9, 12.0), ("wide", 25, 70, 6.0)]:
        values, labels = points(name, count, features)
        tensors[f"{name}/values"] = values
        tensors[f"{name}/labels"] = labels
        found = principal_components(values, 4) | embedding(name, values, perplexity) | whole_tsne(values, perplexity)
        tensors |= {f"{name}/{case}": rounded(numbers) for case, numbers in found.items()}
        metadata[name] = {"perplexity": perplexity, "neighbours": NEIGHBOURS}

    random = random_for("assignment")
    costs = random.rand(40, 49).astype(numpy.float32)
    rows, columns = scipy.optimize.linear_sum_assignment(costs.astype(numpy.float64))
    assert (rows == numpy.arange(40)).all()
    tensors["assignment/costs"] = costs
    tensors["assignment/least"] = rounded(costs.astype(numpy.float64)[rows, columns].sum().reshape(1))
    metadata["assignment"] = {"by": f"scipy {scipy.__version__}"}

    random = random_for("similarity")
    x = (random.randn(30, 12) + 5).astype(numpy.float32)
    mixed = x @ random.randn(12, 80) / 4
    spaces = {
        "x": x,
        "related": (mixed + random.randn(30, 80)).astype(numpy.float32),
        "bent": numpy.maximum(mixed - mixed.mean(axis=0), 0).astype(numpy.float32),
        "unrelated": random.randn(30, 200).astype(numpy.float32),
    }
    for space, values in spaces.items():
        tensors[f"similarity/{space}"] = values
        tensors[f"similarity/x-{space}.cka"] = rounded(alignment(x, values))
        tensors[f"similarity/{space}-unrelated.cka"] = rounded(alignment(values, spaces["unrelated"]))
    metadata["similarity"] = {"spaces": list(spaces)}
    write(pathlib.Path(__file__).with_name("codes.safetensors"), tensors, metadata)


if __name__ == "__main__":
    sys.exit(main())
