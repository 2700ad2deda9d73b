"""Makes layers.safetensors: single layers, forward and backward, as PyTorch computes them.

README.md describes the tensors and the metadata.
"""

import math
from pathlib import Path

import numpy
import torch

from golden_file import about, random_for, rounded, write
from torch_layers import (
    ADD,
    CONCAT,
    GELU,
    GELU_TANH,
    GLOBAL_AVGPOOL,
    GLOBAL_MAXPOOL,
    LOG_SOFTMAX,
    RELU,
    SIGMOID,
    SILU,
    SOFTMAX,
    TANH,
    adaptive_avgpool,
    adaptive_maxpool,
    avgpool,
    bn,
    conv,
    dropout,
    fc,
    flatten,
    layernorm,
    leaky_relu,
    lppool,
    maxpool,
    scale,
    spatial_dropout,
)

torch.set_num_threads(1)

NAN = math.nan
INFINITY = math.inf


def random_values(name, shape):
    return random_for(name + " values").standard_normal(shape)


def with_ties(name, shape):
    """Few distinct values, so that nearly every window holds its maximum more than once."""
    return random_for(name + " values").randint(-1, 2, shape)


def positive(name, shape):
    return random_for(name + " values").uniform(0.1, 2.0, shape)


def with_specials(name, shape, special, share=0.12):
    """Normal values with some of them replaced."""
    random = random_for(name + " values")
    values = random.standard_normal(shape)
    values[random.uniform(size=shape) < share] = special
    return values


def extremes(shape=(2, 4, 3, 5)):
    """Values from -100 to 100 with both zeros and tiny ones, cycled through the shape."""
    magnitudes = [1e-30, 1e-6, 1e-3, 0.1, 0.5, 1, 2, 3, 5, 9, 20, 40, 88, 100]
    line = [-m for m in reversed(magnitudes)] + [-0.0, 0.0] + magnitudes
    return numpy.resize(numpy.array(line), shape)


def far_apart(shape=(2, 5, 2, 3)):
    """Channels that differ by hundreds: a softmax that does not subtract the maximum overflows."""
    line = [100, -100, 0, 99.5, -3, 300, 301, 1, -300, 0.25, 7, 7, 7]
    return numpy.resize(numpy.array(line, dtype=float), shape)


def convolutions():
    yield "conv_3x3", conv(5, 3), (2, 4, 7, 6)
    yield "conv_3x3_pad_1", conv(6, 3, pad=1), (2, 5, 7, 8)
    yield "conv_3x3_pad_1_no_bias", conv(8, 3, pad=1, bias=False), (2, 8, 6, 5)
    yield "conv_kernel_1x3", conv(4, (1, 3), pad=(0, 1)), (2, 3, 5, 6)
    yield "conv_kernel_3x1", conv(4, (3, 1), pad=(1, 0)), (2, 3, 5, 6)
    yield "conv_kernel_2x4", conv(4, (2, 4)), (2, 3, 6, 8)
    yield "conv_kernel_5x2_stride_1x2_pad_2x1", conv(3, (5, 2), (1, 2), (2, 1)), (2, 2, 7, 9)
    yield "conv_kernel_1x7_pad_0x3", conv(4, (1, 7), pad=(0, 3)), (2, 4, 5, 8)
    yield "conv_kernel_7x1_pad_3x0", conv(4, (7, 1), pad=(3, 0)), (2, 4, 8, 5)
    yield "conv_stride_2_pad_1", conv(6, 3, 2, 1), (2, 4, 9, 11)
    yield "conv_stride_2_drops_a_row", conv(4, 3, 2), (2, 3, 8, 9)
    yield "conv_stride_2x1", conv(4, 3, (2, 1), 1), (2, 3, 7, 6)
    yield "conv_stride_1x3_drops_columns", conv(3, (2, 3), (1, 3)), (2, 3, 5, 11)
    yield "conv_stride_3_larger_than_kernel", conv(4, 2, 3), (2, 3, 10, 11)
    yield "conv_patches_4x4_stride_4", conv(8, 4, 4), (2, 3, 8, 11)
    yield "conv_pad_2x1", conv(4, (5, 3), pad=(2, 1)), (2, 3, 6, 7)
    yield "conv_pad_3_beyond_kernel", conv(3, 3, pad=3), (2, 2, 4, 5)
    yield "conv_pad_4_windows_without_input", conv(3, 2, 2, 4), (2, 2, 3, 3)
    yield "conv_asymmetric_pad", conv(4, 3, pad=(0, 1, 2, 0)), (2, 3, 6, 5)
    yield "conv_asymmetric_pad_stride_2", conv(4, 3, 2, (0, 1, 0, 1)), (2, 3, 8, 8)
    yield "conv_asymmetric_pad_dilation_2", conv(3, (3, 2), 1, (1, 2, 0, 3), 2), (2, 2, 7, 6)
    yield "conv_asymmetric_pad_depthwise", conv(6, 3, 2, (2, 0, 1, 0), 1, 6), (2, 6, 7, 7)
    yield "conv_pad_same_3x5", conv(4, (3, 5), pad="same"), (2, 3, 6, 7)
    yield "conv_pad_same_even_kernel_2x4", conv(4, (2, 4), pad="same"), (2, 3, 6, 7)
    yield "conv_pad_same_dilation_2", conv(4, 3, pad="same", dilation=2), (2, 3, 7, 8)
    yield "conv_dilation_2", conv(4, 3, dilation=2), (2, 3, 9, 8)
    yield "conv_dilation_2x3_pad_2x3", conv(4, 3, 1, (2, 3), (2, 3)), (2, 3, 7, 9)
    yield "conv_dilation_3_stride_2_pad_3", conv(3, 3, 2, 3, 3), (2, 2, 10, 9)
    yield "conv_groups_2", conv(6, 3, pad=1, groups=2), (2, 4, 6, 6)
    yield "conv_groups_3_stride_2", conv(9, (3, 2), 2, 1, 1, 3), (2, 6, 7, 8)
    yield "conv_groups_4_no_bias", conv(8, 1, groups=4, bias=False), (2, 8, 5, 4)
    yield "conv_groups_2_dilation_2", conv(4, 3, 1, 2, 2, 2), (2, 6, 6, 7)
    yield "conv_depthwise_3x3", conv(8, 3, pad=1, groups=8), (2, 8, 7, 6)
    yield "conv_depthwise_stride_2_no_bias", conv(8, 3, 2, 1, 1, 8, False), (2, 8, 9, 8)
    yield "conv_depthwise_5x5_pad_2", conv(5, 5, pad=2, groups=5), (2, 5, 8, 7)
    yield "conv_depthwise_7x7_pad_3", conv(4, 7, pad=3, groups=4), (2, 4, 9, 10)
    yield "conv_depthwise_kernel_2x3_stride_1x2", conv(3, (2, 3), (1, 2), (1, 0), 1, 3), (2, 3, 6, 9)
    yield "conv_depthwise_dilation_2", conv(6, 3, 1, 2, 2, 6), (2, 6, 7, 7)
    yield "conv_depthwise_17_channels", conv(17, 3, pad=1, groups=17), (2, 17, 5, 6)
    yield "conv_depthwise_multiplier_2", conv(8, 3, pad=1, groups=4), (2, 4, 6, 6)
    yield "conv_depthwise_multiplier_3_stride_2", conv(9, 3, 2, groups=3), (2, 3, 7, 8)
    yield "conv_1x1", conv(7, 1), (3, 5, 4, 6)
    yield "conv_1x1_no_bias", conv(8, 1, bias=False), (2, 8, 5, 5)
    yield "conv_1x1_stride_2", conv(6, 1, 2), (2, 4, 7, 8)
    yield "conv_1x1_pad_1", conv(3, 1, pad=1), (2, 4, 4, 3)
    yield "conv_1x1_on_1x1", conv(9, 1), (3, 7, 1, 1)
    yield "conv_1x1_37_filters", conv(37, 1), (2, 8, 5, 4)
    yield "conv_3x3_on_1x1_pad_1", conv(4, 3, pad=1), (2, 3, 1, 1)
    yield "conv_5x5_pad_2", conv(6, 5, pad=2), (2, 3, 8, 9)
    yield "conv_7x7_stride_2_pad_3", conv(8, 7, 2, 3), (2, 3, 11, 11)
    yield "conv_kernel_as_large_as_input", conv(5, (6, 7)), (3, 4, 6, 7)
    yield "conv_kernel_as_large_as_padded_input", conv(4, (7, 9), pad=1), (2, 2, 5, 7)
    yield "conv_1_channel", conv(8, 3, pad=1), (2, 1, 8, 8)
    yield "conv_1_channel_5x5", conv(6, 5), (2, 1, 10, 11)
    yield "conv_1_channel_1_filter", conv(1, 3), (1, 1, 5, 5)
    yield "conv_3_channels_32_filters", conv(32, 3, pad=1), (2, 3, 7, 7)
    yield "conv_37_filters", conv(37, 3, pad=1), (2, 3, 6, 5)
    yield "conv_64_filters_no_bias", conv(64, 3, 2, 1, bias=False), (2, 4, 5, 6)
    yield "conv_16_to_33", conv(33, 3, pad=1), (2, 16, 6, 7)
    yield "conv_33_to_16_1x1", conv(16, 1), (2, 33, 5, 5)
    yield "conv_1_row", conv(4, (1, 3)), (2, 3, 1, 11)


def fully_connected():
    yield "fc", fc(6), (3, 8, 1, 1)
    yield "fc_no_bias", fc(5, bias=False), (3, 7, 1, 1)
    yield "fc_1_feature", fc(1), (2, 5, 1, 1)
    yield "fc_37_from_19", fc(37), (2, 19, 1, 1)
    yield "flatten", flatten(), (2, 3, 4, 5)
    yield "flatten_fc", flatten(fc(7)), (3, 4, 3, 5)
    yield "flatten_fc_no_bias", flatten(fc(33, bias=False)), (2, 5, 4, 2)


def pools():
    yield "maxpool_2", maxpool(2), (2, 5, 6, 8)
    yield "maxpool_2_drops_row_and_column", maxpool(2), (2, 3, 7, 9)
    yield "maxpool_2_ceil", maxpool(2, ceil=True), (2, 3, 7, 9)
    yield "maxpool_3_stride_2_overlapping", maxpool(3, 2), (2, 8, 9, 11)
    yield "maxpool_3_stride_2_floor", maxpool(3, 2), (2, 3, 8, 10)
    yield "maxpool_3_stride_2_ceil", maxpool(3, 2, ceil=True), (2, 3, 8, 10)
    yield "maxpool_3_stride_2_pad_1", maxpool(3, 2, 1), (2, 4, 8, 7)
    yield "maxpool_3_stride_2_pad_1_ceil", maxpool(3, 2, 1, ceil=True), (2, 4, 8, 7)
    yield "maxpool_3_stride_1_pad_1", maxpool(3, 1, 1), (2, 4, 5, 6)
    yield "maxpool_2_pad_1_ceil_last_window_outside", maxpool(2, 2, 1, ceil=True), (2, 3, 5, 5)
    yield "maxpool_kernel_2x3_stride_1x2_pad_1x0", maxpool((2, 3), (1, 2), (1, 0)), (2, 3, 6, 9)
    yield "maxpool_kernel_3x2_pad_0x1_ceil", maxpool((3, 2), None, (0, 1), ceil=True), (2, 3, 8, 6)
    yield "maxpool_stride_3_larger_than_kernel", maxpool(2, 3), (2, 3, 8, 11)
    yield "maxpool_dilation_2", maxpool(3, 1, dilation=2), (2, 3, 8, 9)
    yield "maxpool_dilation_2x3_stride_2_pad_1_ceil", maxpool((3, 2), 2, 1, (2, 3), True), (2, 3, 9, 10)
    yield "maxpool_whole_input", maxpool((5, 6)), (2, 4, 5, 6)
    yield "maxpool_17_channels", maxpool(3, 2, 1), (2, 17, 6, 7)
    for name, layer, shape in [
        ("maxpool_ties", maxpool(2), (2, 5, 8, 8)),
        ("maxpool_ties_overlapping_pad_1", maxpool(3, 2, 1), (2, 4, 9, 9)),
        ("maxpool_ties_dilation_2", maxpool(2, 1, dilation=2), (2, 3, 7, 7)),
    ]:
        yield name, layer, with_ties(name, shape)
    yield "maxpool_constant", maxpool(3, 2, 1), numpy.zeros((2, 2, 7, 7))
    yield "maxpool_all_negative_pad_1", maxpool(3, 2, 1), -positive("maxpool_all_negative_pad_1", (2, 3, 7, 7))
    name = "maxpool_minus_infinity"
    values = with_specials(name, (2, 3, 8, 8), -INFINITY, 0.5)
    values[1, 2] = -INFINITY
    yield name, maxpool(2), values
    yield "maxpool_minus_infinity_pad_1", maxpool(3, 2, 1), values

    yield "avgpool_2", avgpool(2), (2, 5, 6, 8)
    yield "avgpool_2_drops_row_and_column", avgpool(2), (2, 3, 7, 9)
    yield "avgpool_3_stride_2_overlapping", avgpool(3, 2), (2, 8, 9, 7)
    yield "avgpool_3_stride_1_pad_1", avgpool(3, 1, 1), (2, 4, 5, 6)
    yield "avgpool_3_stride_1_pad_1_exclude_pad", avgpool(3, 1, 1, exclude_pad=True), (2, 4, 5, 6)
    yield "avgpool_3_stride_2_ceil", avgpool(3, 2, ceil=True), (2, 3, 8, 10)
    yield "avgpool_3_stride_2_pad_1_ceil", avgpool(3, 2, 1, True), (2, 4, 8, 7)
    yield "avgpool_3_stride_2_pad_1_ceil_exclude_pad", avgpool(3, 2, 1, True, True), (2, 4, 8, 7)
    yield "avgpool_4_stride_3_pad_2_ceil", avgpool(4, 3, 2, True), (2, 3, 9, 10)
    yield "avgpool_2_pad_1_ceil_last_window_outside", avgpool(2, 2, 1, True), (2, 3, 5, 5)
    yield "avgpool_kernel_2x3_stride_1x2_pad_1x0", avgpool((2, 3), (1, 2), (1, 0)), (2, 3, 6, 9)
    yield "avgpool_kernel_3x2_pad_1_exclude_pad", avgpool((3, 2), None, 1, False, True), (2, 3, 7, 6)
    yield "avgpool_stride_3_larger_than_kernel", avgpool(2, 3), (2, 3, 8, 11)
    yield "avgpool_whole_input", avgpool((5, 6)), (2, 4, 5, 6)

    yield "lppool_2", lppool(2, 2), (2, 3, 6, 8)
    yield "lppool_2_kernel_3x2_stride_2x1", lppool(2, (3, 2), (2, 1)), (2, 3, 7, 6)
    yield "lppool_2_ceil", lppool(2, 3, 2, True), (2, 3, 8, 6)
    for name, layer in [
        ("lppool_1", lppool(1, 2)),
        ("lppool_3", lppool(3, 2)),
        ("lppool_3_stride_2_overlapping", lppool(3, 3, 2)),
    ]:
        yield name, layer, positive(name, (2, 3, 7, 7))

    yield "global_avgpool", GLOBAL_AVGPOOL, (3, 7, 5, 6)
    yield "global_avgpool_on_1x1", GLOBAL_AVGPOOL, (2, 5, 1, 1)
    yield "global_maxpool", GLOBAL_MAXPOOL, (3, 7, 5, 6)
    yield "global_maxpool_ties", GLOBAL_MAXPOOL, with_ties("global_maxpool_ties", (2, 4, 4, 5))
    yield "adaptive_avgpool_2x3", adaptive_avgpool((2, 3)), (2, 4, 6, 9)
    yield "adaptive_avgpool_3x4_uneven", adaptive_avgpool((3, 4)), (2, 4, 7, 10)
    yield "adaptive_avgpool_6x6_on_11x7", adaptive_avgpool(6), (2, 3, 11, 7)
    yield "adaptive_avgpool_7x5_larger_than_input", adaptive_avgpool((7, 5)), (2, 3, 3, 2)
    yield "adaptive_maxpool_2x3", adaptive_maxpool((2, 3)), (2, 4, 6, 9)
    yield "adaptive_maxpool_3x4_uneven", adaptive_maxpool((3, 4)), (2, 4, 7, 10)
    yield "adaptive_maxpool_5x3_ties", adaptive_maxpool((5, 3)), with_ties("adaptive_maxpool_5x3_ties", (2, 3, 8, 7))
    yield "adaptive_maxpool_7x5_larger_than_input", adaptive_maxpool((7, 5)), (2, 3, 3, 2)


def normalisations():
    yield "bn", bn(), (3, 5, 4, 6)
    yield "bn_1_image", bn(), (1, 4, 5, 5)
    yield "bn_on_1x1", bn(), (3, 6, 1, 1)
    yield "bn_eps_momentum", bn(0.001, 0.3), (2, 4, 5, 3)
    yield "bn_no_affine", bn(affine=False), (2, 4, 5, 3)
    yield "bn_17_channels", bn(), (2, 17, 3, 4)
    yield "bn_large_mean", bn(), random_values("bn_large_mean", (3, 4, 5, 5)) + 100
    yield "bn_constant_channel", bn(), random_values("bn_constant_channel", (2, 3, 4, 4)) * [[[[1]], [[0]], [[1]]]] + 2
    yield "layernorm", layernorm(), (2, 6, 4, 5)
    yield "layernorm_eps", layernorm(0.01), (2, 8, 3, 4)
    yield "layernorm_on_1x1", layernorm(), (3, 8, 1, 1)
    yield "layernorm_17_channels", layernorm(), (2, 17, 3, 3)
    yield "layernorm_large_mean", layernorm(), random_values("layernorm_large_mean", (2, 8, 3, 4)) + 100
    yield "scale", scale(), (2, 6, 4, 5)
    yield "scale_initial_0.1", scale(0.1), (2, 3, 3, 3)


def activations():
    for name, layer in [
        ("relu", RELU),
        ("leaky_relu", leaky_relu()),
        ("leaky_relu_0.2", leaky_relu(0.2)),
        ("sigmoid", SIGMOID),
        ("tanh", TANH),
        ("gelu", GELU),
        ("gelu_tanh", GELU_TANH),
        ("silu", SILU),
    ]:
        yield name, layer, (2, 5, 4, 6)
        yield f"{name}_extremes", layer, extremes()
    for name, layer in [("softmax", SOFTMAX), ("log_softmax", LOG_SOFTMAX)]:
        yield name, layer, (3, 8, 1, 1)
        yield f"{name}_at_every_position", layer, (2, 5, 3, 4)
        yield f"{name}_far_apart", layer, far_apart()
        yield f"{name}_1_channel", layer, (2, 1, 2, 3)


def joins():
    yield "add_2", ADD, [(2, 4, 3, 5)] * 2
    yield "add_3", ADD, [(2, 4, 3, 5)] * 3
    yield "concat_2", CONCAT, [(2, 3, 4, 5), (2, 5, 4, 5)]
    yield "concat_3", CONCAT, [(2, 1, 3, 4), (2, 8, 3, 4), (2, 4, 3, 4)]
    yield "concat_17_and_16", CONCAT, [(2, 17, 2, 3), (2, 16, 2, 3)]


def forward_only():
    yield "bn_infer", bn(), (3, 5, 4, 6)
    yield "bn_infer_on_1x1", bn(), (3, 6, 1, 1)
    yield "bn_infer_eps", bn(0.001), (2, 4, 5, 3)
    yield "bn_infer_no_affine", bn(affine=False), (2, 4, 5, 3)
    yield "dropout_infer", dropout(0.5), (2, 4, 3, 5)
    yield "dropout_infer_0.2", dropout(0.2), (3, 8, 1, 1)
    yield "spatial_dropout_infer", spatial_dropout(0.5), (2, 4, 3, 5)
    for name, layer in [
        ("maxpool_nan", maxpool(2)),
        ("maxpool_nan_overlapping_pad_1", maxpool(3, 2, 1)),
        ("maxpool_nan_dilation_2", maxpool(2, 1, dilation=2)),
        ("global_maxpool_nan", GLOBAL_MAXPOOL),
        ("adaptive_maxpool_nan", adaptive_maxpool((3, 4))),
        ("avgpool_nan", avgpool(3, 2, 1)),
        ("relu_nan", RELU),
        ("leaky_relu_nan", leaky_relu()),
    ]:
        yield name, layer, with_specials(name, (2, 3, 7, 8), NAN, 0.05)
    name = "maxpool_nan_among_infinities"
    values = with_specials(name, (2, 3, 8, 8), INFINITY, 0.2)
    values[random_for(name + " places").uniform(size=values.shape) < 0.2] = -INFINITY
    values[random_for(name + " nans").uniform(size=values.shape) < 0.1] = NAN
    yield name, maxpool(2), values


TRAINED = [convolutions, fully_connected, pools, normalisations, activations, joins]


def initial_value(name, shape, random):
    if name == "weight" and len(shape) > 1:
        return random.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
    if name == "weight":
        return random.uniform(-1.5, 1.5, shape)
    if name == "running_var":
        return random.uniform(0.5, 2.0, shape)
    return random.uniform(-0.5, 0.5, shape)


def evaluate(name, layer, inputs, mode):
    """All tensors of one case by name. A case in mode "infer" has no gradients."""
    random = random_for(name)
    if not isinstance(inputs, list):
        inputs = [inputs]
    inputs = [rounded(random.standard_normal(value) if isinstance(value, tuple) else value) for value in inputs]
    shapes = layer.parameters([value.shape for value in inputs])
    start = {key: rounded(initial_value(key, shape, random)) for key, shape in shapes.items()}
    tensors = {f"input{i}": value for i, value in enumerate(inputs)}
    tensors |= {f"param.{key}": value for key, value in start.items()}

    training = mode == "train"
    leaves = [torch.from_numpy(value).double().requires_grad_(training) for value in inputs]
    parameters = {
        key: torch.from_numpy(value).double().requires_grad_(training and not key.startswith("running"))
        for key, value in start.items()
    }
    output = layer.forward(leaves, parameters, training)
    assert output.dim() == 4, name
    tensors["output"] = rounded(output)
    if training:
        grad_output = rounded(random.standard_normal(output.shape))
        output.backward(torch.from_numpy(grad_output).double())
        tensors["grad_output"] = grad_output
        tensors |= {f"grad_input{i}": rounded(leaf.grad) for i, leaf in enumerate(leaves)}
        for key, value in parameters.items():
            if key.startswith("running"):
                tensors[f"after.{key}"] = rounded(value)
            else:
                tensors[f"grad.{key}"] = rounded(value.grad)
    description = {"layer": layer.text, "mode": mode, "inputs": [list(value.shape) for value in inputs]}
    return {f"{name}/{key}": value for key, value in tensors.items()}, description


def main():
    tensors = {}
    metadata = {"about": about("Single layers, forward and backward.")}
    cases = [(*case, "train") for group in TRAINED for case in group()]
    cases += [(*case, "infer") for case in forward_only()]
    for name, layer, inputs, mode in cases:
        assert name not in metadata, name
        case_tensors, metadata[name] = evaluate(name, layer, inputs, mode)
        tensors |= case_tensors
    write(Path(__file__).with_name("layers.safetensors"), tensors, metadata)


if __name__ == "__main__":
    main()
