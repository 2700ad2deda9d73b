"""PyTorch's side: single layers through the operators that autograd itself calls, whole models, and training steps."""

import os

import torch
import torch.nn.functional as F
import torchvision

import torch_models
from inputs import around_one, sample_places, values

aten = torch.ops.aten
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
#: The recipe that convnet's training step has: what the numbers are makes no difference to the time.
RATE, MOMENTUM, DECAY = 1e-6, 0.9, 5e-4


def set_threads(count):
    torch.set_num_threads(count)


def versions():
    return {"torch": torch.__version__, "torchvision": torchvision.__version__}


def sample(tensor):
    """16 evenly spaced numbers in logical order."""
    flat = tensor.detach().contiguous().reshape(-1)
    return [float(number) for number in flat[sample_places(flat.numel())]]


def stream(number, shape, layout, make=values):
    tensor = torch.from_numpy(make(number, shape))
    return tensor.contiguous(memory_format=FORMATS[layout]) if tensor.dim() == 4 else tensor


def prepare(request):
    """The work that a request describes, and a sample of what it computes."""
    make = {"conv": conv, "op": op, "model": model, "train": train}[request["kind"]]
    return make(request)


def conv(request):
    """One pass of a convolution, as autograd would call it."""
    n, c, h, k, r, stride, pad, groups = (request[key] for key in ["n", "c", "h", "k", "r", "stride", "pad", "groups"])
    passed, layout = request["pass"], request["layout"]
    out = (h + 2 * pad - r) // stride + 1
    weight = stream(16, (k, c // groups, r, r), "channels_last" if layout == "prepacked" else layout)
    steps, pads, ones = [stride] * 2, [pad] * 2, [1, 1]
    if layout == "prepacked":
        x = stream(0, (n, c, h, h), "channels_last")
        packed = torch.ops.mkldnn._reorder_convolution_weight(weight, pads, steps, ones, groups, list(x.shape))

        def work():
            with torch.inference_mode():
                return torch.ops.mkldnn._convolution_pointwise(x, packed, None, pads, steps, ones, groups, "none", [], "")

        return work, sample(work())
    x = stream(0, (n, c, h, h), layout)
    if passed == "forward":

        def work():
            with torch.inference_mode():
                return F.conv2d(x, weight, None, stride, pad, 1, groups)

        return work, sample(work())
    dy = stream(32, (n, k, out, out), layout)
    which = {"backward_input": 0, "backward_weight": 1}[passed]
    mask = [which == 0, which == 1, False]

    def work():
        with torch.no_grad():
            return aten.convolution_backward(dy, x, weight, None, steps, pads, ones, False, [0, 0], groups, mask)

    return work, sample(work()[which])


def op(request):
    """A layer without multiply-adds; `layer` is its text in the network language."""
    layer, shape, passed, layout = request["layer"], tuple(request["shape"]), request["pass"], request["layout"]
    forward, backward = operators(layer.split(" "), shape, layout)
    x = stream(0, shape, layout)
    with torch.no_grad():
        kept = forward(x)
        y = kept[0] if isinstance(kept, tuple) else kept
        dy = stream(32, tuple(y.shape), layout) if passed == "backward" else None

    def work():
        with torch.no_grad():
            return forward(x) if passed == "forward" else backward(dy, x, kept)

    result = work()
    return work, sample(result[0] if isinstance(result, tuple) else result)


def operators(words, shape, layout):
    """The two operators of a layer: forward(x) and backward(dy, x, what forward gave)."""
    channels = shape[1]
    option = {word: int(value) for word, value in zip(words, words[1:]) if word in ("stride", "pad")}
    match words:
        case ["maxpool", kernel, *_]:
            kernel = int(kernel)
            window = [[kernel] * 2, [option.get("stride", kernel)] * 2, [option.get("pad", 0)] * 2, [1, 1], False]
            return (lambda x: aten.max_pool2d_with_indices(x, *window),
                    lambda dy, x, kept: aten.max_pool2d_with_indices_backward(dy, x, *window, kept[1]))
        case ["avgpool", kernel, *_]:
            kernel = int(kernel)
            window = [[kernel] * 2, [option.get("stride", kernel)] * 2, [option.get("pad", 0)] * 2, False, True, None]
            return (lambda x: aten.avg_pool2d(x, *window), lambda dy, x, kept: aten.avg_pool2d_backward(dy, x, *window))
        case ["global", "avgpool"]:
            # What autograd does for AdaptiveAvgPool2d(1): a mean forward, an expanded and divided gradient backward.
            pixels = shape[2] * shape[3]
            return (lambda x: aten.mean(x, [2, 3], True), lambda dy, x, kept: dy.expand(shape) / pixels)
        case ["bn"]:
            weight, bias = stream(16, (channels,), layout, around_one), stream(17, (channels,), layout)
            mean, variance = torch.zeros(channels), torch.ones(channels)
            return (lambda x: aten.native_batch_norm(x, weight, bias, mean, variance, True, 0.1, 1e-5),
                    lambda dy, x, kept: aten.native_batch_norm_backward(
                        dy, x, weight, mean, variance, kept[1], kept[2], True, 1e-5, [True] * 3))
        case ["layernorm"]:
            weight, bias = stream(16, (channels,), layout, around_one), stream(17, (channels,), layout)

            def forward(x):
                last = x.permute(0, 2, 3, 1)
                y, mean, scale = aten.native_layer_norm(last, [channels], weight, bias, 1e-6)
                return y.permute(0, 3, 1, 2), mean, scale

            def backward(dy, x, kept):
                last, grad = x.permute(0, 2, 3, 1), dy.permute(0, 2, 3, 1)
                found = aten.native_layer_norm_backward(grad, last, [channels], kept[1], kept[2], weight, bias, [True] * 3)
                return found[0].permute(0, 3, 1, 2), found[1], found[2]

            return forward, backward
        case ["relu"]:
            return aten.relu, lambda dy, x, kept: aten.threshold_backward(dy, kept, 0)
        case ["gelu"]:
            return aten.gelu, lambda dy, x, kept: aten.gelu_backward(dy, x)
        case ["softmax"]:
            return (lambda x: aten._softmax(x, 1, False),
                    lambda dy, x, kept: aten._softmax_backward_data(dy, kept, 1, torch.float32))
        case ["add"]:
            other = stream(1, shape, layout)
            return lambda x: aten.add(x, other), None
    raise ValueError(f"the layer '{' '.join(words)}' is not known here")


def model(request):
    """A whole model for inference, eager or frozen (batch norms folded, convolutions and activations joined)."""
    layout = "channels_last" if request["layout"].endswith("channels_last") else "contiguous"
    net = torch_models.build(request["net"], request["weights"]).eval().to(memory_format=FORMATS[layout])
    x = stream(0, (request["batch"], *torch_models.INPUTS[request["net"]]), layout)
    if request["layout"].startswith("frozen"):
        with torch.inference_mode():
            net = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, x)))
            for _ in range(3):
                net(x)

    def work():
        with torch.inference_mode():
            return net(x)

    return work, sample(work()[0])


def train(request):
    """Forward, cross-entropy, backward, and the update by Nesterov momentum with weight decay."""
    layout = request["layout"].removesuffix(", fused")
    net = torch_models.build(request["net"], request["weights"]).train().to(memory_format=FORMATS[layout])
    x = stream(0, (request["batch"], *torch_models.INPUTS[request["net"]]), layout)
    classes = [module.out_features for module in net.modules() if isinstance(module, torch.nn.Linear)][-1]
    labels = torch.arange(request["batch"]) % classes
    options = {"fused": True} if request["layout"].endswith(", fused") else {}
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY, **options)

    def work():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()

    first = next(net.parameters())
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(net(x), labels).backward()
    # The fused update may reuse the gradient, so the sample is taken before it.
    found = sample(first.grad)
    optimizer.step()
    return work, found


def export(request):
    """Writes the model as ONNX for the peers that read it, at one batch size."""
    net = torch_models.build(request["net"], request["weights"]).eval()
    x = torch.from_numpy(values(0, (request["batch"], *torch_models.INPUTS[request["net"]])))
    partial = request["path"] + ".partial"
    torch.onnx.export(net, (x,), partial, input_names=["images"], output_names=["scores"], opset_version=17, dynamo=False)
    os.replace(partial, request["path"])
