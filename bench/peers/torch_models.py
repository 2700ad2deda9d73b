"""The networks of convnet's zoo in PyTorch, with the very numbers that `convnet bench model --write-model` wrote."""

import re

import torch
import torch.nn as nn
import torchvision
from safetensors.torch import load_file

INPUTS = {"lenet5": (1, 32, 32), "default": (1, 28, 28), "resnet18_cifar": (3, 32, 32), "resnet20_cifar": (3, 32, 32)}
INPUTS |= {name: (3, 224, 224) for name in ["resnet18", "resnet50", "vgg16", "mobilenet_v2", "convnext_tiny"]}


def lenet5():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def unit(c, k, stride=1, kernel=3):
    return [nn.Conv2d(c, k, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(k)]


class Residual(nn.Module):
    """ReLU of the sum of a branch and of the input, or of a second branch."""

    def __init__(self, branch, shortcut=None):
        super().__init__()
        self.branch = nn.Sequential(*branch)
        self.shortcut = nn.Sequential(*shortcut) if shortcut else None

    def forward(self, x):
        return torch.relu(self.branch(x) + (self.shortcut(x) if self.shortcut else x))


def block(c, k, stride):
    branch = [*unit(c, k, stride), nn.ReLU(), *unit(k, k)]
    return Residual(branch, unit(c, k, stride, 1) if stride != 1 or c != k else None)


def residual_net(widths, blocks):
    layers, c = [*unit(3, widths[0]), nn.ReLU()], widths[0]
    for stage, k in enumerate(widths):
        for place in range(blocks):
            layers.append(block(c, k, 2 if stage and not place else 1))
            c = k
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 10))


def default():
    layers = [*unit(1, 24), nn.ReLU()]
    for c, k in [(24, 32), (32, 64)]:
        layers += [*unit(c, k, 2), nn.ReLU(), Residual([*unit(k, k), nn.ReLU(), *unit(k, k)])]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def mobilenet_v2():
    """torchvision's, with ReLU in place of ReLU6 as in convnet's zoo."""
    net = torchvision.models.mobilenet_v2()
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(module, name, nn.ReLU(inplace=True))
    return net


OWN = {
    "lenet5": lenet5,
    "default": default,
    "mobilenet_v2": mobilenet_v2,
    "resnet18_cifar": lambda: residual_net([64, 128, 256, 512], 2),
    "resnet20_cifar": lambda: residual_net([16, 32, 64], 3),
}


def build(name, weights):
    """The network with the numbers of a model file."""
    make = OWN.get(name)
    net = make() if make else getattr(torchvision.models, name)()
    load(net, load_file(weights), name)
    return net


def load(net, numbers, name):
    """Copies the numbers in the order in which layers of each kind are defined; every one must be used, and fit."""
    by_kind = {}
    for key in numbers:
        kind, number, parameter = re.fullmatch(r"([a-z_]+)(\d+)\.(\w+)", key).groups()
        by_kind.setdefault(kind, {}).setdefault(int(number), {})[parameter] = numbers[key]
    queues = {kind: [layers[number] for number in sorted(layers)] for kind, layers in by_kind.items()}
    with torch.no_grad():
        for kind, tensors in definition(net):
            if not queues.get(kind):
                raise ValueError(f"{name}: PyTorch has one more layer '{kind}' than the model file")
            given = queues[kind].pop(0)
            if set(given) != set(tensors):
                raise ValueError(f"{name}: a layer '{kind}' has {sorted(tensors)} here, but {sorted(given)} in the model file")
            for parameter, tensor in tensors.items():
                number = given[parameter]
                # A fully connected layer at each position is a convolution of 1x1; a scale of channels is C x 1 x 1.
                if [size for size in tensor.shape if size != 1] != [size for size in number.shape if size != 1]:
                    raise ValueError(f"{name}: {kind}.{parameter} is {list(tensor.shape)} here, but {list(number.shape)} in the file")
                tensor.copy_(number.reshape(tensor.shape))
    left = {kind: len(queue) for kind, queue in queues.items() if queue}
    if left:
        raise ValueError(f"{name}: layers of the model file without a place: {left}")


def definition(net):
    """Every layer with parameters in the order of definition: convnet's name of its kind, and its tensors by name."""
    pointwise = set()
    for module in net.modules():
        parameters = dict(module.named_parameters(recurse=False)) | {
            name: buffer for name, buffer in module.named_buffers(recurse=False) if name != "num_batches_tracked"}
        if isinstance(module, torchvision.models.convnext.CNBlock):
            pointwise |= {id(child) for child in module.modules() if isinstance(child, nn.Linear)}
            yield "scale", {"weight": module.layer_scale}
        elif isinstance(module, nn.Conv2d) or id(module) in pointwise:
            yield "conv", parameters
        elif isinstance(module, nn.Linear):
            yield "fc", parameters
        elif isinstance(module, nn.BatchNorm2d):
            yield "bn", parameters
        elif isinstance(module, nn.LayerNorm):
            yield "layernorm", parameters
        elif parameters:
            raise ValueError(f"{type(module).__name__} has parameters, but no place in convnet's zoo")
