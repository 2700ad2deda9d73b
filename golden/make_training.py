"""Makes training.safetensors: ten steps of small networks, and the paths of the optimisers, as PyTorch takes them.

A run of ten steps is one network, its first parameters, ten batches, the ten losses (each before its step) and the
last parameters. A parameter is named by its layer, which is its kind and its number among the layers of its kind in the
order of the text.

PyTorch's SGD couples weight decay with the gradient (it adds wd·p to it). Here weight decay is decoupled everywhere:
`p *= 1 - lr·wd` by hand before the step of an SGD without decay, which is what PyTorch's AdamW does itself.
"""

import math
from pathlib import Path
from typing import Callable, NamedTuple

import numpy
import torch
import torch.nn.functional as F

from golden_file import about, random_for, rounded, write

torch.set_num_threads(1)

STEPS = 10
IMAGES = 8
CLASSES = 5


class Network(NamedTuple):
    text: str
    image: tuple  # C, H, W
    forward: Callable  # (images, parameters by name) -> logits [n, classes]; folds in the running statistics
    shapes: dict  # parameter name -> shape, in the order of the text


def conv(x, p, name, **options):
    return F.conv2d(x, p[f"{name}.weight"], p.get(f"{name}.bias"), **options)


def fc(x, p, name):
    return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])


def bn(x, p, name):
    running = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    return F.batch_norm(x, *running, p[f"{name}.weight"], p[f"{name}.bias"], training=True, momentum=0.1, eps=1e-5)


def layernorm(x, p, name):
    last = x.permute(0, 2, 3, 1)
    normal = F.layer_norm(last, last.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], eps=1e-6)
    return normal.permute(0, 3, 1, 2)


def weight(name, *shape):
    return {f"{name}.weight": shape}


def weight_and_bias(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def statistics(name, channels):
    return weight_and_bias(name, channels) | {
        f"{name}.running_mean": (channels,),
        f"{name}.running_var": (channels,),
    }


def chain(x, p):
    x = F.max_pool2d(F.relu(conv(x, p, "conv1", padding=1)), 2)
    x = F.max_pool2d(F.relu(conv(x, p, "conv2")), 2)
    return fc(F.relu(fc(x.flatten(1), p, "fc1")), p, "fc2")


CHAIN = Network(
    """input 1x12x12
conv 6 3x3 pad 1 -> relu -> maxpool 2
conv 8 3x3 -> relu -> maxpool 2
flatten -> fc 16 -> relu -> fc 5
""",
    (1, 12, 12),
    chain,
    weight_and_bias("conv1", 6, 1, 3, 3)
    | weight_and_bias("conv2", 8, 6, 3, 3)
    | weight_and_bias("fc1", 16, 32)
    | weight_and_bias("fc2", 5, 16),
)


def residual(x, p):
    x = F.relu(bn(conv(x, p, "conv1", padding=1), p, "bn1"))
    main = F.relu(bn(conv(x, p, "conv2", padding=1), p, "bn2"))
    x = F.relu(bn(conv(main, p, "conv3", padding=1), p, "bn3") + x)
    main = F.relu(bn(conv(x, p, "conv4", stride=2, padding=1), p, "bn4"))
    main = bn(conv(main, p, "conv5", padding=1), p, "bn5")
    x = F.relu(main + bn(conv(x, p, "conv6", stride=2), p, "bn6"))
    return fc(x.mean((2, 3)), p, "fc1")


RESIDUAL = Network(
    """input 3x12x12
conv 8 3x3 pad 1 no bias -> bn -> relu
add( conv 8 3x3 pad 1 no bias -> bn -> relu -> conv 8 3x3 pad 1 no bias -> bn | identity ) -> relu
add( conv 12 3x3 stride 2 pad 1 no bias -> bn -> relu -> conv 12 3x3 pad 1 no bias -> bn | conv 12 1x1 stride 2 no bias -> bn ) -> relu
global avgpool -> flatten -> fc 5
""",
    (3, 12, 12),
    residual,
    weight("conv1", 8, 3, 3, 3)
    | statistics("bn1", 8)
    | weight("conv2", 8, 8, 3, 3)
    | statistics("bn2", 8)
    | weight("conv3", 8, 8, 3, 3)
    | statistics("bn3", 8)
    | weight("conv4", 12, 8, 3, 3)
    | statistics("bn4", 12)
    | weight("conv5", 12, 12, 3, 3)
    | statistics("bn5", 12)
    | weight("conv6", 12, 8, 1, 1)
    | statistics("bn6", 12)
    | weight_and_bias("fc1", 5, 12),
)


def depthwise(x, p):
    x = layernorm(conv(x, p, "conv1", stride=2), p, "layernorm1")
    main = layernorm(conv(x, p, "conv2", padding=1, groups=8), p, "layernorm2")
    main = conv(F.gelu(conv(main, p, "conv3")), p, "conv4")
    x = main * p["scale1.weight"][:, None, None] + x
    x = conv(layernorm(x, p, "layernorm3"), p, "conv5", stride=2)
    x = layernorm(x.mean((2, 3), keepdim=True), p, "layernorm4")
    return fc(x.flatten(1), p, "fc1")


DEPTHWISE = Network(
    """input 3x12x12
conv 8 2x2 stride 2 -> layernorm
add( conv 8 3x3 pad 1 groups 8 -> layernorm -> conv 16 1x1 -> gelu -> conv 8 1x1 -> scale 0.5 | identity )
layernorm -> conv 12 2x2 stride 2
global avgpool -> layernorm -> flatten -> fc 5
""",
    (3, 12, 12),
    depthwise,
    weight_and_bias("conv1", 8, 3, 2, 2)
    | weight_and_bias("layernorm1", 8)
    | weight_and_bias("conv2", 8, 1, 3, 3)
    | weight_and_bias("layernorm2", 8)
    | weight_and_bias("conv3", 16, 8, 1, 1)
    | weight_and_bias("conv4", 8, 16, 1, 1)
    | weight("scale1", 8)
    | weight_and_bias("layernorm3", 8)
    | weight_and_bias("conv5", 12, 8, 2, 2)
    | weight_and_bias("layernorm4", 12)
    | weight_and_bias("fc1", 5, 12),
)

SGD = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "dampening": 0.0, "nesterov": True, "weight_decay": 0.0}
ADAMW = {"optimizer": "adamw", "lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}

RUNS = {
    "chain": (CHAIN, SGD),
    "residual": (RESIDUAL, SGD),
    "depthwise": (DEPTHWISE, SGD),
    "chain_adamw": (CHAIN, ADAMW),
    "residual_adamw": (RESIDUAL, ADAMW),
    "depthwise_adamw": (DEPTHWISE, ADAMW),
}


def decays(name):
    """Weight decay is for the weights of conv and fc: not for biases, norms and scales."""
    return name.endswith(".weight") and name.startswith(("conv", "fc"))


def start_value(name, shape, random):
    if name.endswith("running_var"):
        return numpy.ones(shape)
    if name.endswith("running_mean"):
        return numpy.zeros(shape)
    if name.endswith("bias"):
        return random.uniform(-0.1, 0.1, shape)
    if decays(name):
        return random.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
    return random.uniform(0.5, 1.0 if name.startswith("scale") else 1.5, shape)


def optimizer_for(named, settings):
    """The optimiser of a run; `named` gives the parameters that are learnt, by name."""
    if settings["optimizer"] == "sgd":
        assert settings["weight_decay"] == 0
        return torch.optim.SGD(
            named.values(), settings["lr"], settings["momentum"], settings["dampening"], 0, settings["nesterov"]
        )
    groups = [
        {"params": [value for name, value in named.items() if decays(name)], "weight_decay": settings["weight_decay"]},
        {"params": [value for name, value in named.items() if not decays(name)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, settings["lr"], settings["betas"], settings["eps"])


def train(network, settings, start, images, labels, precision):
    """The ten losses and the last parameters, computed in the given precision."""
    # A copy, or the steps of a float32 run would write over `start`.
    parameters = {
        name: torch.from_numpy(value).to(precision, copy=True).requires_grad_("running" not in name)
        for name, value in start.items()
    }
    learnt = {name: value for name, value in parameters.items() if value.requires_grad}
    optimizer = optimizer_for(learnt, settings)
    losses = []
    for batch, right in zip(torch.from_numpy(images).to(precision), torch.from_numpy(labels)):
        optimizer.zero_grad()
        loss = F.cross_entropy(network.forward(batch, parameters), right)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return numpy.array(losses), {name: value.detach().double().numpy() for name, value in parameters.items()}


def run(name):
    """The tensors of one run of ten steps, and what describes it."""
    network, settings = RUNS[name]
    random = random_for(name)
    start = {key: rounded(start_value(key, shape, random)) for key, shape in network.shapes.items()}
    labels = random.randint(0, CLASSES, (STEPS, IMAGES)).astype(numpy.int64)
    patterns = random.standard_normal((CLASSES, *network.image))
    images = rounded(patterns[labels] / 2 + random.standard_normal((STEPS, IMAGES, *network.image)) / 4)
    losses, end = train(network, settings, start, images, labels, torch.float64)
    losses_32, end_32 = train(network, settings, start, images, labels, torch.float32)
    tensors = {"images": images, "labels": labels, "losses": rounded(losses)}
    tensors |= {f"start.{key}": value for key, value in start.items()}
    tensors |= {f"end.{key}": rounded(value) for key, value in end.items()}
    description = {
        "network": network.text,
        "loss": "cross entropy",
        "parameters": list(start),
        "decayed": [key for key in start if settings["weight_decay"] and decays(key)],
        # The largest differences of the same run in PyTorch's own float32: a yardstick for tolerances.
        "float32_loss_difference": float(abs(losses_32 - losses).max()),
        "float32_end_difference": max(float(abs(end_32[key] - end[key]).max()) for key in end),
    }
    return tensors, settings | description


def sgd(lr=0.1, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
    """Settings of SGD; `lr` is a number or one number per step."""
    return {
        "optimizer": "sgd",
        "lr": lr,
        "momentum": momentum,
        "dampening": dampening,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
    }


def adamw(lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    return {"optimizer": "adamw", "lr": lr, "betas": list(betas), "eps": eps, "weight_decay": weight_decay}


WARM_UP = [0.01, 0.02, 0.04, 0.08, 0.1, 0.05, 0.025, 0.0]

PATHS = {
    "sgd": sgd(),
    "sgd_changing_lr": sgd(WARM_UP),
    "sgd_momentum": sgd(momentum=0.9),
    "sgd_momentum_changing_lr": sgd(WARM_UP, momentum=0.9),
    "sgd_dampening": sgd(momentum=0.9, dampening=0.5),
    "sgd_dampening_as_momentum": sgd(momentum=0.9, dampening=0.9),
    "sgd_nesterov": sgd(momentum=0.9, nesterov=True),
    "sgd_nesterov_changing_lr": sgd(WARM_UP, momentum=0.9, nesterov=True),
    "sgd_weight_decay": sgd(weight_decay=0.1),
    "sgd_momentum_weight_decay": sgd(momentum=0.9, weight_decay=0.1),
    "sgd_nesterov_weight_decay_changing_lr": sgd(WARM_UP, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adamw_no_decay": adamw(),
    "adamw": adamw(weight_decay=0.1),
    "adamw_changing_lr": adamw(WARM_UP, weight_decay=0.1),
    "adamw_betas_eps": adamw(0.05, (0.8, 0.95), 1e-3, 0.01),
}


def path(name):
    """Eight steps of one optimiser from given gradients."""
    settings = PATHS[name]
    steps, size = 8, 7
    random = random_for("optim/" + name)
    start = rounded(random.standard_normal(size))
    grads = rounded(random.standard_normal((steps, size)) + 0.5)
    grads[:, -1] = 0
    grads[3] *= 10
    parameter = torch.from_numpy(start).double().requires_grad_()
    rates = settings["lr"] if isinstance(settings["lr"], list) else [settings["lr"]] * steps
    decay = settings["weight_decay"]
    if settings["optimizer"] == "sgd":
        optimizer = torch.optim.SGD(
            [parameter], rates[0], settings["momentum"], settings["dampening"], 0, settings["nesterov"]
        )
    else:
        optimizer = torch.optim.AdamW([parameter], rates[0], settings["betas"], settings["eps"], decay)
    visited = []
    for rate, grad in zip(rates, grads):
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = torch.from_numpy(grad).double()
        if settings["optimizer"] == "sgd":
            with torch.no_grad():
                parameter.mul_(1 - rate * decay)
        optimizer.step()
        visited.append(rounded(parameter))
    return {"start": start, "grads": grads, "params": numpy.stack(visited)}, settings


def main():
    tensors = {}
    metadata = {"about": about("Ten training steps and optimiser paths.")}
    for name in RUNS:
        run_tensors, metadata[name] = run(name)
        tensors |= {f"{name}/{key}": value for key, value in run_tensors.items()}
        losses = " ".join(f"{loss:.4f}" for loss in run_tensors["losses"])
        print(f"{name}: losses {losses}; in float32 {metadata[name]['float32_loss_difference']:.1e} off, "
              f"the last parameters {metadata[name]['float32_end_difference']:.1e}")
    for name in PATHS:
        path_tensors, metadata[f"optim/{name}"] = path(name)
        tensors |= {f"optim/{name}/{key}": value for key, value in path_tensors.items()}
    write(Path(__file__).with_name("training.safetensors"), tensors, metadata)


if __name__ == "__main__":
    main()
