"""Makes classification.json: how good probabilities are, as scikit-learn and torchmetrics compute it.

Each case has images with a class each and the probabilities of all classes. From scikit-learn come the Brier score, and for
each class against all others the average precision and the area under the ROC curve; from torchmetrics the expected and the
largest calibration error (in float32) over 15 equally wide bins. Probabilities are multiples of 1/64 in one case, so that many
are equal, of 2^-20 in the others: all are float32 numbers, and those of an image add up to 1 exactly.
"""

import json
from pathlib import Path

import numpy
import torch
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from torchmetrics.functional.classification import multiclass_calibration_error

from golden_file import random_for

BINS = 15


def probabilities(random, labels, classes, sharpness):
    """Softmax of noisy scores that know the label a little."""
    scores = sharpness * random.standard_normal((len(labels), classes))
    scores[numpy.arange(len(labels)), labels] += sharpness
    powers = numpy.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def in_parts(rows, parts):
    """The rows in multiples of 1/parts that add up to 1 to the last bit, none of them 0."""
    classes = rows.shape[1]
    whole = numpy.floor(rows * (parts - classes)).astype(int) + 1
    whole[:, 0] += parts - whole.sum(axis=1)
    return whole / parts


def case(name, images, classes, sharpness, parts):
    random = random_for(name)
    labels = random.randint(0, classes, images)
    exact = in_parts(probabilities(random, labels, classes, sharpness), parts)
    assert (exact.astype(numpy.float32) == exact).all()
    tensors = torch.from_numpy(exact), torch.from_numpy(labels)
    calibration = {
        norm: float(multiclass_calibration_error(*tensors, num_classes=classes, n_bins=BINS, norm=norm))
        for norm in ["l1", "max"]
    }
    of_class = [labels == number for number in range(classes)]
    return {
        "classes": classes,
        "labels": labels.tolist(),
        "probabilities": exact.ravel().tolist(),
        "ece": calibration["l1"],
        "mce": calibration["max"],
        "brier": float(brier_score_loss(labels, exact, labels=list(range(classes)), scale_by_half=False)),
        "average_precision": [average_precision_score(is_class, exact[:, k]) for k, is_class in enumerate(of_class)],
        "auc": [roc_auc_score(is_class, exact[:, k]) for k, is_class in enumerate(of_class)],
    }


def main():
    cases = {
        "three classes": case("three classes", 60, 3, 1.0, 2**20),
        "ten classes, sure of itself": case("ten classes, sure of itself", 120, 10, 3.0, 2**20),
        "four classes in 64ths": case("four classes in 64ths", 90, 4, 1.5, 64),
    }
    path = Path(__file__).parent / "classification.json"
    path.write_text(json.dumps({"bins": BINS, "cases": cases}) + "\n")
    print(f"{path}: {len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
