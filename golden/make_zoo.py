"""Makes zoo.json: parameters, sizes and multiply-adds of known networks, as torchvision or PyTorch builds them.

Nothing is computed: the networks are built without memory (PyTorch's `meta` device) and one image's shape runs through.
A network that torchvision does not have is built here from its paper.
"""

import json
import math
from pathlib import Path

import torch
import torchvision
from torch import nn
from torchvision import models


def conv_bn_relu(inputs, filters, kernel, stride=1, groups=1):
    """A convolution without bias, batch norm and ReLU; the padding keeps the size at stride 1."""
    return nn.Sequential(
        nn.Conv2d(inputs, filters, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
    )


def mobilenet_v1(classes=1000):
    """MobileNet, width 1.0 (Howard et al. 2017): a depthwise and a 1×1 convolution thirteen times."""
    layers, channels = [conv_bn_relu(3, 32, 3, 2)], 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    for filters, stride in plan:
        layers += [conv_bn_relu(channels, channels, 3, stride, channels), conv_bn_relu(channels, filters, 1)]
        channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class PadShortcut(nn.Module):
    """Option A of He et al. 2015: every second pixel, and zeros for the channels that are new."""

    def __init__(self, extra):
        super().__init__()
        self.extra = extra

    def forward(self, x):
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))


class BasicBlock(nn.Module):
    def __init__(self, inputs, filters, stride, projection):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != filters:
            self.shortcut = (
                nn.Sequential(nn.Conv2d(inputs, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))
                if projection
                else PadShortcut(filters - inputs)
            )

    def forward(self, x):
        main = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (main + self.shortcut(x)).relu()


def resnet_32x32(widths, blocks, projection, classes=10):
    """A ResNet for 32×32 images: a 3×3 stem without pooling, `blocks` basic blocks of each width."""
    layers, channels = [conv_bn_relu(3, widths[0], 3)], widths[0]
    for stage, filters in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(BasicBlock(channels, filters, stride, projection))
            channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def lenet5():
    """The LeNet of Torch7's tutorial, one plane of 32×32 in."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def convnetjs_cifar():
    """The CIFAR-10 network of the ConvNetJS demo."""
    layers, channels = [], 3
    for filters in (16, 20, 20):
        layers += [nn.Conv2d(channels, filters, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        channels = filters
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(320, 10))


def all_convolutional():
    """All-CNN-C (Springenberg et al. 2014): convolutions of stride 2 in place of pooling, padding 1 throughout."""
    plan = [(96, 3, 1), (96, 3, 1), (96, 3, 2), (192, 3, 1), (192, 3, 1), (192, 3, 2)]
    plan += [(192, 3, 1), (192, 1, 1), (10, 1, 1)]
    layers, channels = [], 3
    for filters, kernel, stride in plan:
        layers += [nn.Conv2d(channels, filters, kernel, stride, kernel // 2), nn.ReLU()]
        channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def squeezenet_same():
    """SqueezeNet 1.1 as it was trained with TensorFlow's SAME padding on 227×227: padded in front, pools rounded down."""
    model = models.squeezenet1_1()
    model.features[0].padding = (1, 1)
    for module in model.features:
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = False
    return model


IMAGENET = (3, 224, 224)
CIFAR = (3, 32, 32)

# name: (how to build it, input, where it is from)
NETWORKS = {
    name: (getattr(models, name), IMAGENET, "torchvision")
    for name in [
        "alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
        "squeezenet1_1", "mobilenet_v2", "convnext_tiny",
    ]  # fmt: skip
}
NETWORKS |= {
    "googlenet": (lambda: models.googlenet(aux_logits=False, init_weights=False), IMAGENET, "torchvision, no aux"),
    "squeezenet1_1_same": (squeezenet_same, (3, 227, 227), "torchvision, SAME padding"),
    "mobilenet_v1": (mobilenet_v1, IMAGENET, "built here"),
    "lenet5": (lenet5, (1, 32, 32), "built here"),
    "convnetjs_cifar": (convnetjs_cifar, CIFAR, "built here"),
    "all_convolutional": (all_convolutional, CIFAR, "built here"),
    "resnet20_option_a": (lambda: resnet_32x32([16, 32, 64], 3, False), CIFAR, "built here, no projections"),
    "resnet20_option_b": (lambda: resnet_32x32([16, 32, 64], 3, True), CIFAR, "built here, 1x1 projections"),
    "resnet18_32x32": (lambda: resnet_32x32([64, 128, 256, 512], 2, True), CIFAR, "built here, 1x1 projections"),
}

# Published totals; building a network differently would show here.
PUBLISHED = {
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "googlenet": 6_624_904,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "squeezenet1_1": 1_235_496,
    "squeezenet1_1_same": 1_235_496,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "convnext_tiny": 28_589_128,
    "lenet5": 61_706,
    "convnetjs_cifar": 22_466,
    "resnet20_option_a": 269_722,
    "resnet20_option_b": 272_474,
    "resnet18_32x32": 11_173_962,
}


def measured(name, module, output):
    """One convolution or fully connected layer. A Linear that works on N×H×W×C is reported as a 1×1 convolution."""
    shape = list(output.shape[1:])
    if isinstance(module, nn.Linear):
        shape = [shape[2], shape[0], shape[1]] if len(shape) == 3 else [shape[0], 1, 1]
    kind = "fc" if isinstance(module, nn.Linear) and output.dim() == 2 else "conv"
    positions = shape[1] * shape[2]
    return {
        "name": name,
        "kind": kind,
        "weight": list(module.weight.shape) + [1] * (2 if isinstance(module, nn.Linear) else 0),
        "bias": module.bias is not None,
        "output": shape,
        "macs": positions * module.weight.numel(),
    }


def describe(name):
    build, image, source = NETWORKS[name]
    with torch.device("meta"):
        model = build().eval()
        layers = []
        for path, module in model.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.register_forward_hook(
                    lambda module, inputs, output, path=path: layers.append(measured(path, module, output))
                )
        output = model(torch.empty(1, *image))
    parameters = dict(model.named_parameters())
    biases = {key: value for key, value in parameters.items() if key.endswith("bias")}
    total = sum(value.numel() for value in parameters.values())
    assert PUBLISHED.get(name, total) == total, (name, total)
    return {
        "source": source,
        "input": list(image),
        "output": output.numel(),
        "parameters": total,
        "biases": sum(value.numel() for value in biases.values()),
        "conv_fc_weights": sum(math.prod(layer["weight"]) for layer in layers),
        "conv_fc_biases": sum(layer["weight"][0] for layer in layers if layer["bias"]),
        "batch_norm_statistics": sum(
            value.numel() for key, value in model.named_buffers() if key.endswith(("running_mean", "running_var"))
        ),
        "macs": sum(layer["macs"] for layer in layers),
        "layers": layers,
    }


def written(networks, about):
    """JSON with one layer a line, so that a difference can be read."""
    lines = ["{", f' "about": {json.dumps(about)},', ' "networks": {']
    for number, (name, network) in enumerate(networks.items()):
        facts = {key: value for key, value in network.items() if key != "layers"}
        lines.append(f'  "{name}": {{')
        lines += [f'   "{key}": {json.dumps(value)},' for key, value in facts.items()]
        lines.append('   "layers": [')
        layers = [f"    {json.dumps(layer)}" for layer in network["layers"]]
        lines.append(",\n".join(layers))
        lines.append("   ]")
        lines.append("  }" if number == len(networks) - 1 else "  },")
    return "\n".join(lines + [" }", "}", ""])


def main():
    networks = {name: describe(name) for name in NETWORKS}
    with torch.device("meta"):
        with_aux = models.googlenet(aux_logits=True, init_weights=False)
    networks["googlenet"]["parameters_with_aux"] = sum(value.numel() for value in with_aux.parameters())
    about = (
        f"torchvision {torchvision.__version__.split('+')[0]}, PyTorch {torch.__version__.split('+')[0]}. macs counts "
        "multiply-adds of conv and fc, without biases. Layers stand in the order in which they run; weight is "
        "[K, C/G, R, S], output is [C, H, W]. parameters includes normalisation and layer scale, not the running "
        "statistics."
    )
    text = written(networks, about)
    assert json.loads(text) == {"about": about, "networks": networks}
    Path(__file__).with_name("zoo.json").write_text(text)
    for name, network in networks.items():
        checked = "published" if name in PUBLISHED else "counted here"
        print(f"{name:18} {network['parameters']:>11} parameters ({checked}) {network['macs']:>14} macs "
              f"{len(network['layers']):>4} layers")


if __name__ == "__main__":
    main()
