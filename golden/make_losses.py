"""Makes losses.safetensors: the value and the gradient of every loss, as PyTorch computes them.

With C classes, logits x and the right class y, each loss is a mean over the batch:

cross-entropy  -log softmax(x)[y]; with class weights, each image counts by its class's weight and the sum is divided
               by the sum of these weights; label smoothing e mixes 1 - e of it with e/C of the (weighted) sum of
               -log softmax over all classes, divided by the same sum
multi-margin   1/C times the sum over j != y of max(0, margin - x[y] + x[j])^p, times the weight of class y; divided by
               the number of images, whatever the weights. The course's sum leaves out the 1/C.
mean squared   (input - target)^2, a mean over all values
"""

from pathlib import Path

import numpy
import torch
import torch.nn.functional as F

from golden_file import about, random_for, rounded, write

torch.set_num_threads(1)


def class_weights(random, classes):
    return rounded(random.uniform(0.2, 3.0, classes))


def evaluate(inputs, extra, compute):
    """The value and the gradient of `compute(logits, extra)`, with every array in float64."""
    leaf = torch.from_numpy(inputs).double().requires_grad_()
    given = {
        name: torch.from_numpy(values) if values.dtype == numpy.int64 else torch.from_numpy(values).double()
        for name, values in extra.items()
    }
    value = compute(leaf, given)
    value.backward()
    return {"input": inputs} | extra | {"value": rounded(value.reshape(1)), "grad_input": rounded(leaf.grad)}


def classified(name, shape, weighted, compute, inputs=None):
    """A loss on logits [n, c, 1, 1] with one right class per image."""
    random = random_for(name)
    images, classes = shape
    logits = rounded(2 * random.standard_normal(shape) if inputs is None else inputs).reshape(images, classes, 1, 1)
    extra = {"target": random.randint(0, classes, images).astype(numpy.int64)}
    if weighted:
        extra["class_weights"] = class_weights(random, classes)
    return evaluate(logits, extra, lambda x, given: compute(x.flatten(1), given))


def cross_entropy(name, shape, smoothing=0.0, weighted=False, inputs=None):
    def compute(logits, given):
        return F.cross_entropy(
            logits, given["target"], given.get("class_weights"), label_smoothing=smoothing, reduction="mean"
        )

    tensors = classified(name, shape, weighted, compute, inputs)
    return name, tensors, {"loss": "cross entropy", "label_smoothing": smoothing, "class_weights": weighted}


def multi_margin(name, shape, power=1, margin=1.0, weighted=False, inputs=None):
    def compute(logits, given):
        return F.multi_margin_loss(logits, given["target"], power, margin, given.get("class_weights"))

    tensors = classified(name, shape, weighted, compute, inputs)
    return name, tensors, {"loss": "multi margin", "p": power, "margin": margin, "class_weights": weighted}


def mean_squared_error(name, shape):
    random = random_for(name)
    extra = {"target": rounded(random.standard_normal(shape))}
    tensors = evaluate(rounded(random.standard_normal(shape)), extra, lambda x, given: F.mse_loss(x, given["target"]))
    return name, tensors, {"loss": "mean squared error"}


def cases():
    far_apart = numpy.resize(numpy.array([100, -100, 0, 88, -300, 300, 1, 7]), (4, 6))
    on_the_hinge = numpy.resize(numpy.array([1, 0, 2, 1.5, 0.5]), (6, 4))

    yield cross_entropy("cross_entropy", (5, 10))
    yield cross_entropy("cross_entropy_2_classes", (4, 2))
    yield cross_entropy("cross_entropy_1_image", (1, 7))
    yield cross_entropy("cross_entropy_equal_logits", (3, 10), inputs=numpy.full((3, 10), 4.0))
    yield cross_entropy("cross_entropy_far_apart", (4, 6), inputs=far_apart)
    yield cross_entropy("cross_entropy_37_classes", (3, 37))
    yield cross_entropy("cross_entropy_smoothing", (5, 10), 0.1)
    yield cross_entropy("cross_entropy_smoothing_0.3", (3, 4), 0.3)
    yield cross_entropy("cross_entropy_smoothing_far_apart", (4, 6), 0.1, inputs=far_apart)
    yield cross_entropy("cross_entropy_weights", (6, 5), 0.0, True)
    yield cross_entropy("cross_entropy_weights_1_image", (1, 5), 0.0, True)
    yield cross_entropy("cross_entropy_smoothing_weights", (6, 5), 0.1, True)
    yield cross_entropy("cross_entropy_smoothing_0.2_weights", (8, 10), 0.2, True)

    yield multi_margin("multi_margin", (5, 10))
    yield multi_margin("multi_margin_half", (5, 10), 1, 0.5)
    yield multi_margin("multi_margin_squared", (5, 10), 2)
    yield multi_margin("multi_margin_squared_half", (5, 10), 2, 0.5)
    yield multi_margin("multi_margin_weights", (6, 5), 1, 1.0, True)
    yield multi_margin("multi_margin_half_weights", (6, 5), 1, 0.5, True)
    yield multi_margin("multi_margin_squared_weights", (6, 5), 2, 1.0, True)
    yield multi_margin("multi_margin_squared_half_weights", (6, 5), 2, 0.5, True)
    yield multi_margin("multi_margin_1_image", (1, 3))
    yield multi_margin("multi_margin_on_the_hinge", (6, 4), inputs=on_the_hinge)

    yield mean_squared_error("mean_squared_error", (3, 5, 1, 1))
    yield mean_squared_error("mean_squared_error_maps", (2, 3, 4, 5))
    yield mean_squared_error("mean_squared_error_1_value", (1, 1, 1, 1))


def main():
    tensors = {}
    metadata = {"about": about("Losses: value and gradient.")}
    for name, case_tensors, description in cases():
        metadata[name] = description | {"reduction": "mean"}
        tensors |= {f"{name}/{key}": values for key, values in case_tensors.items()}
    write(Path(__file__).with_name("losses.safetensors"), tensors, metadata)


if __name__ == "__main__":
    main()
