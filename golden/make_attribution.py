"""Writes attribution.safetensors: where the scores of two small networks come from, as the packages Captum and
pytorch-grad-cam compute it.

Each network stands here twice, as its text and as PyTorch modules; `golden/README.md` describes the file.
"""

import pathlib
import sys
import zlib

import numpy
import torch
from captum.attr import (
    Deconvolution,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    NeuronGradient,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from golden_file import about, random_for, rounded, write

STEPS = 32
SAMPLES = 6
NOISE = 0.25


class Branches(nn.Module):
    """Modules that read the same value; `join` makes one of what they give."""

    def __init__(self, join, *branches):
        super().__init__()
        self.join = join
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return self.join([branch(x) for branch in self.branches])


def residual():
    """Grey, with a residual block and batch norms, whose last maps are those of a ReLU behind an addition."""
    text = (
        "input 1x12x11 -> conv 6 3x3 pad 1 -> relu -> maxpool 2"
        " -> add( conv 6 3x3 pad 1 -> bn -> relu -> conv 6 3x3 pad 1 -> bn | identity ) -> relu -> flatten -> fc 5 -> softmax"
    )
    conv1, conv2, conv3 = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
    bn1, bn2, fc1 = nn.BatchNorm2d(6), nn.BatchNorm2d(6), nn.Linear(180, 5)
    relu1, relu2, relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
    block = Branches(sum, nn.Sequential(conv2, bn1, relu2, conv3, bn2), nn.Identity())
    model = nn.Sequential(conv1, relu1, nn.MaxPool2d(2), block, relu3, nn.Flatten(), fc1)
    named = {"conv1": conv1, "conv2": conv2, "bn1": bn1, "conv3": conv3, "bn2": bn2, "fc1": fc1}
    return text, model, named, {"relu3": relu3, "relu1": relu1}, (1, 12, 11)


def inception():
    """Colour, with three branches that are joined, and a mean over the places before the scores."""
    text = (
        "input 3x14x13 -> conv 6 3x3 -> relu"
        " -> concat( conv 4 1x1 -> relu | conv 3 1x1 -> relu -> conv 4 3x3 pad 1 -> relu"
        " | maxpool 3 stride 1 pad 1 -> conv 3 1x1 -> relu )"
        " -> maxpool 2 -> conv 8 3x3 -> relu -> global avgpool -> flatten -> fc 4"
    )
    convs = [
        nn.Conv2d(3, 6, 3),
        nn.Conv2d(6, 4, 1),
        nn.Conv2d(6, 3, 1),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(6, 3, 1),
        nn.Conv2d(11, 8, 3),
    ]
    relus = [nn.ReLU() for _ in convs]
    joined = Branches(
        lambda parts: torch.cat(parts, dim=1),
        nn.Sequential(convs[1], relus[1]),
        nn.Sequential(convs[2], relus[2], convs[3], relus[3]),
        nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), convs[4], relus[4]),
    )
    fc1 = nn.Linear(8, 4)
    model = nn.Sequential(
        convs[0], relus[0], joined, nn.MaxPool2d(2), convs[5], relus[5], nn.AdaptiveAvgPool2d(1), nn.Flatten(), fc1
    )
    named = {f"conv{number}": conv for number, conv in enumerate(convs, 1)} | {"fc1": fc1}
    return text, model, named, {"relu6": relus[5], "concat1": joined}, (3, 14, 13)


def fill(name, named):
    """Draws every number of a network, as exact float32 values."""
    tensors = {}
    for layer, module in named.items():
        for parameter, values in module.state_dict().items():
            if parameter == "num_batches_tracked":
                continue
            random = random_for(f"{name}/{layer}.{parameter}")
            if parameter in ("running_var", "weight") and isinstance(module, nn.BatchNorm2d):
                drawn = 0.5 + random.rand(*values.shape)
            else:
                fan_in = values[0].numel() if values.dim() > 1 else 16
                drawn = random.randn(*values.shape) * (2 / fan_in) ** 0.5
            drawn = drawn.astype(numpy.float32)
            values.copy_(torch.from_numpy(drawn))
            tensors[f"{name}/param.{layer}.{parameter}"] = drawn
    return tensors


def class_activation_map(kind, model, layer, image, target):
    """The signed sum of the layer's maps, and what the package makes of it: above 0, brought to 0 … 1, over the image."""
    with kind(model=model, target_layers=[layer]) as cam:
        goal = ClassifierOutputTarget(target)
        scores = cam.activations_and_grads(image)
        model.zero_grad()
        goal(scores[0]).backward()
        activations = cam.activations_and_grads.activations[0].detach().numpy()
        gradients = cam.activations_and_grads.gradients[0].detach().numpy()
        signed = cam.get_cam_image(image, layer, [goal], activations, gradients, False)
        shown = cam(input_tensor=image, targets=[goal])
    return signed, shown


def smooth_gradient(model, image, target):
    """SmoothGrad, and the noise that Captum drew for it."""
    drawn = []
    draw = torch.normal

    def noted(*arguments, **settings):
        drawn.append(draw(*arguments, **settings).float().double())
        return drawn[-1]

    torch.normal = noted
    try:
        tunnel = NoiseTunnel(Saliency(model))
        mean = tunnel.attribute(
            image, nt_type="smoothgrad", nt_samples=SAMPLES, stdevs=NOISE, target=target, abs=False
        )
    finally:
        torch.normal = draw
    (noise,) = drawn
    return mean, noise


def most_active(model, layer, image):
    """Channel, row and column of a layer's largest number."""
    outputs = []
    handle = layer.register_forward_hook(lambda module, inputs, output: outputs.append(output.detach()[0]))
    model(image)
    handle.remove()
    return tuple(int(number) for number in numpy.unravel_index(int(outputs[0].argmax()), outputs[0].shape))


def cases(name, model, layers, image, target):
    """What the packages say, by the name of the method."""
    random = random_for(f"{name}/settings")
    baseline = torch.from_numpy(random.randn(*image.shape).astype(numpy.float32)).double() / 2
    fill_values = torch.from_numpy(random.randn(1, image.shape[1], 1, 1).astype(numpy.float32)).double()
    image = image.clone().requires_grad_()
    path = IntegratedGradients(model)
    shares, missing = path.attribute(
        image,
        baseline,
        target=target,
        n_steps=STEPS,
        method="riemann_middle",
        return_convergence_delta=True,
    )
    smooth, noise = smooth_gradient(model, image.detach(), target)
    channels = image.shape[1]
    lower, module = list(layers.items())[-1]
    place = most_active(model, module, image)
    at = ",".join(map(str, place))
    found = {
        "gradient": Saliency(model).attribute(image, target=target, abs=False),
        "gradient-x-input": InputXGradient(model).attribute(image, target=target),
        "integrated-gradients": shares,
        "integrated-gradients.baseline": baseline,
        "integrated-gradients.missing": missing,
        "smoothgrad": smooth,
        "smoothgrad.noise": noise,
        "guided-backprop": GuidedBackprop(model).attribute(image, target=target),
        "deconvnet": Deconvolution(model).attribute(image, target=target),
        "occlusion": Occlusion(model).attribute(
            image.detach(),
            sliding_window_shapes=(channels, 4, 3),
            strides=(channels, 3, 2),
            baselines=fill_values.expand_as(image),
            target=target,
        )[:, :1],
        "occlusion.fill": fill_values,
        f"neuron.{lower}:{at}": NeuronGradient(model, module).attribute(image, place),
    }
    kinds = {"grad-cam": GradCAM, "grad-cam++": GradCAMPlusPlus, "layer-cam": LayerCAM}
    for layer, module in layers.items():
        for method, kind in kinds.items():
            signed, shown = class_activation_map(kind, model, module, image.detach(), target)
            found[f"{method}.{layer}"] = signed
            found[f"{method}.{layer}.shown"] = shown
    return found


def main():
    torch.set_num_threads(1)
    torch.manual_seed(zlib.crc32(b"attribution"))
    tensors = {}
    metadata = {"about": about("Attributions by captum and pytorch-grad-cam (versions in requirements.txt).")}
    for build in (residual, inception):
        name = build.__name__
        text, model, named, layers, shape = build()
        model = model.double().eval()
        with torch.no_grad():
            tensors |= fill(name, named)
        image = torch.from_numpy(random_for(f"{name}/image").randn(1, *shape).astype(numpy.float32)).double()
        tensors[f"{name}/image"] = rounded(image[0])
        scores = model(image).detach()[0]
        tensors[f"{name}/scores"] = rounded(scores)
        targets = sorted({int(scores.argmax()), int(scores.argmin())})
        for target in targets:
            for case, values in cases(name, model, layers, image, target).items():
                values = rounded(values)
                if case != "smoothgrad.noise":
                    values = values.reshape(values.shape[1:]) if values.ndim > 2 else values
                tensors[f"{name}/{target}/{case}"] = values
        metadata[name] = {
            "network": text,
            "targets": targets,
            "layers": list(layers),
            "steps": STEPS,
            "window": [4, 3],
            "stride": [3, 2],
        }
    write(pathlib.Path(__file__).with_name("attribution.safetensors"), tensors, metadata)


if __name__ == "__main__":
    sys.exit(main())
