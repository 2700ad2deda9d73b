"""The layers of the network language, each as its text and as PyTorch computes it.

Both are built from the same arguments, so they cannot drift apart.

Refused, because Torch7 and PyTorch differ: ceil mode without padding where the stride is larger than the kernel,
such as `maxpool 1 stride 2 ceil` on 6 columns. Torch7 gives 4 columns (the last window lies outside and holds -inf),
PyTorch drops that window and gives 3. Torch7 drops it only if there is padding.
"""

import math
from typing import Callable, NamedTuple

import torch
import torch.nn.functional as F


class Layer(NamedTuple):
    """A layer as text and as a computation."""

    text: str
    forward: Callable  # (inputs, parameters by name, training) -> output, all [n, c, h, w]
    parameters: Callable = lambda inputs: {}  # shapes of the inputs -> {name: shape}, in the library's order


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def by(value):
    """Height × width as the language writes it."""
    return f"{value[0]}x{value[1]}" if isinstance(value, tuple) else str(value)


def kernel_text(kernel):
    return by(pair(kernel))


def words(*parts):
    return " ".join(part for part in parts if part)


def conv(filters, kernel, stride=1, pad=0, dilation=1, groups=1, bias=True):
    """`pad` is one number, (height, width), (top, bottom, left, right) or "same" (at stride 1)."""
    rows, columns = pair(kernel)
    pad_text = ",".join(map(str, pad)) if isinstance(pad, tuple) and len(pad) == 4 else by(pad)
    if pad == "same":
        assert stride == 1
        totals = [d * (k - 1) for d, k in zip(pair(dilation), (rows, columns))]
        top, left = (total // 2 for total in totals)
        sides = (top, totals[0] - top, left, totals[1] - left)
    elif isinstance(pad, tuple) and len(pad) == 4:
        sides = pad
    else:
        sides = (pair(pad)[0],) * 2 + (pair(pad)[1],) * 2
    text = words(
        f"conv {filters} {kernel_text(kernel)}",
        stride != 1 and f"stride {by(stride)}",
        pad != 0 and f"pad {pad_text}",
        dilation != 1 and f"dilation {by(dilation)}",
        groups != 1 and f"groups {groups}",
        not bias and "no bias",
    )

    def forward(inputs, parameters, training):
        top, bottom, left, right = sides
        padded = F.pad(inputs[0], (left, right, top, bottom))
        return F.conv2d(padded, parameters["weight"], parameters.get("bias"), stride, 0, dilation, groups)

    def shapes(inputs):
        weight = {"weight": (filters, inputs[0][1] // groups, rows, columns)}
        return weight | ({"bias": (filters,)} if bias else {})

    return Layer(text, forward, shapes)


def fc(features, bias=True):
    def forward(inputs, parameters, training):
        flat = F.linear(inputs[0].flatten(1), parameters["weight"], parameters.get("bias"))
        return flat[:, :, None, None]

    def shapes(inputs):
        weight = {"weight": (features, math.prod(inputs[0][1:]))}
        return weight | ({"bias": (features,)} if bias else {})

    return Layer(words(f"fc {features}", not bias and "no bias"), forward, shapes)


def flatten(then=None):
    """`flatten`, alone or before a fully connected layer."""
    if then:
        return Layer(f"flatten -> {then.text}", then.forward, then.parameters)
    return Layer("flatten", lambda inputs, parameters, training: inputs[0].flatten(1)[:, :, None, None])


def window_text(name, kernel, stride, *options):
    return words(f"{name} {kernel_text(kernel)}", stride is not None and f"stride {by(stride)}", *options)


def require_agreement(extent, kernel, stride, pad):
    """Refuses a ceil-mode pooling in which Torch7 and PyTorch would count windows differently."""
    windows = -(-(extent + 2 * pad - kernel) // stride) + 1
    starts_outside = (windows - 1) * stride >= extent + pad
    assert pad != 0 or not starts_outside, (extent, kernel, stride, pad)


def pooling(text, compute, kernel, stride, pad=0, dilation=1, ceil=False):
    """A pooling layer, refused where the two rules of ceil mode differ."""

    def forward(inputs, parameters, training):
        if ceil:
            sizes = zip(inputs[0].shape[2:], pair(kernel), pair(stride or kernel), pair(pad), pair(dilation))
            for extent, size, step, side, spread in sizes:
                require_agreement(extent, spread * (size - 1) + 1, step, side)
        return compute(inputs[0])

    return Layer(text, forward)


def maxpool(kernel, stride=None, pad=0, dilation=1, ceil=False):
    text = window_text(
        "maxpool",
        kernel,
        stride,
        pad != 0 and f"pad {by(pad)}",
        dilation != 1 and f"dilation {by(dilation)}",
        ceil and "ceil",
    )
    return pooling(
        text, lambda x: F.max_pool2d(x, kernel, stride, pad, dilation, ceil), kernel, stride, pad, dilation, ceil
    )


def avgpool(kernel, stride=None, pad=0, ceil=False, exclude_pad=False):
    text = window_text(
        "avgpool", kernel, stride, pad != 0 and f"pad {by(pad)}", ceil and "ceil", exclude_pad and "exclude pad"
    )
    return pooling(
        text, lambda x: F.avg_pool2d(x, kernel, stride, pad, ceil, not exclude_pad), kernel, stride, pad, 1, ceil
    )


def lppool(power, kernel, stride=None, ceil=False):
    """A window cut off by the border counts as the mean of what it holds times the whole kernel's size."""
    text = window_text(f"lppool {power}", kernel, stride, ceil and "ceil")
    return pooling(text, lambda x: F.lp_pool2d(x, power, kernel, stride, ceil), kernel, stride, 0, 1, ceil)


def bn(eps=None, momentum=None, affine=True):
    text = words(
        "bn",
        eps is not None and f"eps {eps}",
        momentum is not None and f"momentum {momentum}",
        not affine and "no affine",
    )

    def forward(inputs, parameters, training):
        return F.batch_norm(
            inputs[0],
            parameters["running_mean"],
            parameters["running_var"],
            parameters.get("weight"),
            parameters.get("bias"),
            training,
            0.1 if momentum is None else momentum,
            1e-5 if eps is None else eps,
        )

    def shapes(inputs):
        names = (["weight", "bias"] if affine else []) + ["running_mean", "running_var"]
        return {name: (inputs[0][1],) for name in names}

    return Layer(text, forward, shapes)


def layernorm(eps=None):
    def forward(inputs, parameters, training):
        last = inputs[0].permute(0, 2, 3, 1)
        normal = F.layer_norm(
            last, last.shape[-1:], parameters["weight"], parameters["bias"], 1e-6 if eps is None else eps
        )
        return normal.permute(0, 3, 1, 2)

    text = words("layernorm", eps is not None and f"eps {eps}")
    return Layer(text, forward, lambda inputs: {name: (inputs[0][1],) for name in ("weight", "bias")})


def scale(initial=None):
    def forward(inputs, parameters, training):
        return inputs[0] * parameters["weight"][:, None, None]

    text = words("scale", initial is not None and str(initial))
    return Layer(text, forward, lambda inputs: {"weight": (inputs[0][1],)})


def pointwise(text, function):
    """A layer without parameters that has one input."""
    return Layer(text, lambda inputs, parameters, training: function(inputs[0]))


RELU = pointwise("relu", F.relu)
SIGMOID = pointwise("sigmoid", torch.sigmoid)
TANH = pointwise("tanh", torch.tanh)
GELU = pointwise("gelu", F.gelu)
GELU_TANH = pointwise("gelu tanh", lambda x: F.gelu(x, approximate="tanh"))
SILU = pointwise("silu", F.silu)
SOFTMAX = pointwise("softmax", lambda x: F.softmax(x, 1))
LOG_SOFTMAX = pointwise("log softmax", lambda x: F.log_softmax(x, 1))
GLOBAL_AVGPOOL = pointwise("global avgpool", lambda x: x.mean((2, 3), keepdim=True))
GLOBAL_MAXPOOL = pointwise("global maxpool", lambda x: F.max_pool2d(x, x.shape[2:]))
ADD = Layer("add", lambda inputs, parameters, training: sum(inputs[1:], inputs[0]))
CONCAT = Layer("concat", lambda inputs, parameters, training: torch.cat(inputs, 1))


def leaky_relu(slope=None):
    text = words("leaky relu", slope is not None and str(slope))
    return pointwise(text, lambda x: F.leaky_relu(x, 0.01 if slope is None else slope))


def adaptive_avgpool(size):
    return pointwise(f"adaptive avgpool {kernel_text(size)}", lambda x: F.adaptive_avg_pool2d(x, size))


def adaptive_maxpool(size):
    return pointwise(f"adaptive maxpool {kernel_text(size)}", lambda x: F.adaptive_max_pool2d(x, size))


def dropout(share):
    return Layer(f"dropout {share}", lambda inputs, parameters, training: F.dropout(inputs[0], share, training))


def spatial_dropout(share):
    """As PyTorch: the scaling is in training, inference changes nothing (Torch7 multiplied there by 1 - P)."""
    return Layer(
        f"spatial dropout {share}", lambda inputs, parameters, training: F.dropout2d(inputs[0], share, training)
    )
