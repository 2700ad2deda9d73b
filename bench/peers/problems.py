"""What is compared: the rows of the table with their targets, and the cases of each row."""

from dataclasses import dataclass

PASSES = {"forward": "forward", "backward_input": "backward to input", "backward_weight": "backward to weights"}


@dataclass(frozen=True)
class Row:
    """One line of the table: a geometric mean and a minimum of ratios that must be reached."""

    name: str
    against: str
    mean: float | None
    least: float | None
    #: Which part of the measurement fills it; None where this machine or the program cannot.
    part: str | None


TORCH = "PyTorch, best layout and allocator"
ROWS = [
    Row("convolution, forward", TORCH, 1.3, 0.9, "layers"),
    Row("convolution, backward to input", TORCH, 1.3, 0.9, "layers"),
    Row("convolution, backward to weights", TORCH, 1.3, 0.9, "layers"),
    Row("depthwise, forward", TORCH, 1.5, 1.0, "layers"),
    Row("depthwise, backward to input", TORCH, 1.5, 1.0, "layers"),
    Row("depthwise, backward to weights", TORCH, 1.5, 1.0, "layers"),
    Row("pooling, norm, ReLU, softmax, forward", TORCH, 1.5, 1.0, "ops"),
    Row("pooling, norm, ReLU, softmax, backward", TORCH, 1.5, 1.0, "ops"),
    Row("other layers, forward", TORCH, None, None, "ops"),
    Row("other layers, backward", TORCH, None, None, "ops"),
    Row("inference, f32", "best of all peers", 1.2, 1.0, "models"),
    Row("training step, f32", "PyTorch eager, best layout and allocator", 1.5, 1.2, "train"),
    Row("peak memory of a training step", "PyTorch's peak resident", 1 / 0.6, 1 / 0.6, "memory"),
    Row("start to first prediction, PyTorch", "python + torch", 20.0, 20.0, "start"),
    Row("start to first prediction, onnxruntime", "python + onnxruntime", 3.0, 3.0, "start"),
]
#: Rows that need AMX.
AMX_ROWS = [
    ("compute-bound layers in f32x6, three passes", "PyTorch f32", "1.5"),
    ("compute-bound layers in f32x3, three passes", "PyTorch f32", "2.5"),
    ("training step, bf16", "PyTorch bf16 autocast", "1.2 (1.0)"),
    ("inference, bf16", "best of OpenVINO (bf16 hint) and PyTorch", "1.0 (0.8)"),
]


@dataclass(frozen=True)
class Conv:
    """A convolution of `n` images, c x h x w -> k filters of r x r."""

    net: str
    n: int
    c: int
    h: int
    k: int
    r: int
    stride: int
    pad: int
    groups: int = 1

    @property
    def problem(self):
        text = f"conv n{self.n} c{self.c} {self.h}x{self.h} -> {self.k} w{self.r} s{self.stride} p{self.pad}"
        return text if self.groups == 1 else f"{text} g{self.groups}"

    @property
    def flops(self):
        out = (self.h + 2 * self.pad - self.r) // self.stride + 1
        return 2 * self.n * self.k * out * out * self.c // self.groups * self.r * self.r

    def row(self, passed):
        return f"{'depthwise' if self.groups > 1 else 'convolution'}, {PASSES[passed]}"


def resnet50():
    yield (3, 224, 64, 7, 2, 3)
    yield from [(64, 56, 64, 1, 1, 0), (64, 56, 64, 3, 1, 1), (64, 56, 256, 1, 1, 0), (256, 56, 64, 1, 1, 0)]
    for narrow, size in [(128, 56), (256, 28), (512, 14)]:
        half = size // 2
        yield from [(2 * narrow, size, narrow, 1, 1, 0), (narrow, size, narrow, 3, 2, 1), (narrow, half, 4 * narrow, 1, 1, 0)]
        yield from [(2 * narrow, size, 4 * narrow, 1, 2, 0), (4 * narrow, half, narrow, 1, 1, 0), (narrow, half, narrow, 3, 1, 1)]


def vgg16():
    pairs = [(3, 224, 64), (64, 224, 64), (64, 112, 128), (128, 112, 128), (128, 56, 256), (256, 56, 256)]
    for c, h, k in pairs + [(256, 28, 512), (512, 28, 512), (512, 14, 512)]:
        yield (c, h, k, 3, 1, 1)


def mobilenet_v2():
    yield (3, 224, 32, 3, 2, 1)
    pairs = [(32, 112, 16), (16, 112, 96), (96, 56, 24), (24, 56, 144), (144, 56, 24), (144, 28, 32), (32, 28, 192)]
    pairs += [(192, 28, 32), (192, 14, 64), (64, 14, 384), (384, 14, 64), (384, 14, 96), (96, 14, 576), (576, 14, 96)]
    for c, h, k in pairs + [(576, 7, 160), (160, 7, 960), (960, 7, 160), (960, 7, 320), (320, 7, 1280)]:
        yield (c, h, k, 1, 1, 0)


def mobilenet_v2_depthwise():
    sizes = [(32, 112, 1), (96, 112, 2), (144, 56, 1), (144, 56, 2), (192, 28, 1), (192, 28, 2)]
    for c, h, stride in sizes + [(384, 14, 1), (576, 14, 1), (576, 14, 2), (960, 7, 1)]:
        yield (c, h, c, 3, stride, 1, c)


def convnext_tiny_depthwise():
    for c, h in [(96, 56), (192, 28), (384, 14), (768, 7)]:
        yield (c, h, c, 7, 1, 3, c)


def residual_stages(widths, size, shortcuts=True):
    """The convolutions of a residual net for small images behind its first layer."""
    yield (widths[0], size, widths[0], 3, 1, 1)
    for c, k in zip(widths, widths[1:]):
        yield (c, size, k, 3, 2, 1)
        if shortcuts:
            yield (c, size, k, 1, 2, 0)
        size //= 2
        yield (k, size, k, 3, 1, 1)


def convolutions():
    """Every case, without repetitions: a layer belongs to the first net that has it."""
    nets = [("resnet50", [1, 16], resnet50()), ("vgg16", [1, 16], vgg16()), ("mobilenet_v2", [1, 16], mobilenet_v2())]
    nets += [("resnet18_cifar", [128], [(3, 32, 64, 3, 1, 1), *residual_stages([64, 128, 256, 512], 32)])]
    nets += [("resnet20_cifar", [128], [(3, 32, 16, 3, 1, 1), *residual_stages([16, 32, 64], 32)])]
    default = [(1, 28, 24, 3, 1, 1), (24, 28, 32, 3, 2, 1), (32, 14, 32, 3, 1, 1), (32, 14, 64, 3, 2, 1), (64, 7, 64, 3, 1, 1)]
    nets += [("default", [128], default)]
    nets += [("mobilenet_v2", [1, 16], mobilenet_v2_depthwise()), ("convnext_tiny", [1, 16], convnext_tiny_depthwise())]
    seen = set()
    for net, batches, layers in nets:
        layers = list(layers)
        for n in batches:
            for layer in layers:
                if (n, layer) not in seen:
                    seen.add((n, layer))
                    yield Conv(net, n, *layer)


@dataclass(frozen=True)
class Op:
    """Another layer on a batch: its text in the network language, and its shape N, C, H, W."""

    layer: str
    shape: tuple
    named: bool = True

    @property
    def problem(self):
        return f"{self.layer} @ {'x'.join(map(str, self.shape))}"

    def passes(self):
        return ["forward"] if self.layer == "add" else ["forward", "backward"]

    def row(self, passed):
        return f"{'pooling, norm, ReLU, softmax' if self.named else 'other layers'}, {passed}"


def ops():
    for n in [1, 16]:
        yield Op("maxpool 3 stride 2 pad 1", (n, 64, 112, 112))
        yield Op("maxpool 2", (n, 64, 224, 224))
        yield Op("maxpool 2", (n, 512, 14, 14))
        yield Op("avgpool 2", (n, 256, 56, 56))
        yield Op("avgpool 3 stride 1 pad 1", (n, 192, 28, 28))
        yield Op("global avgpool", (n, 2048, 7, 7))
        for shape in [(n, 64, 112, 112), (n, 256, 56, 56), (n, 1024, 14, 14), (n, 2048, 7, 7)]:
            yield Op("bn", shape)
            yield Op("relu", shape)
        yield Op("softmax", (n, 1000, 1, 1))
        yield Op("softmax", (n, 21, 64, 64))
        yield Op("gelu", (n, 384, 56, 56), False)
        yield Op("gelu", (n, 3072, 7, 7), False)
        yield Op("layernorm", (n, 96, 56, 56), False)
        yield Op("layernorm", (n, 768, 7, 7), False)
        yield Op("add", (n, 256, 56, 56), False)
        yield Op("add", (n, 2048, 7, 7), False)
    yield Op("maxpool 2", (64, 6, 28, 28))
    yield Op("maxpool 2", (128, 64, 32, 32))
    yield Op("global avgpool", (128, 512, 4, 4))
    yield Op("softmax", (128, 10, 1, 1))
    for shape in [(128, 64, 32, 32), (128, 512, 4, 4), (50, 24, 28, 28)]:
        yield Op("bn", shape)
        yield Op("relu", shape)


#: Whole networks for inference, at batch 1 and 16.
MODELS = ["lenet5", "resnet18", "resnet50", "vgg16", "mobilenet_v2", "convnext_tiny"]
MODEL_BATCHES = [1, 16]
#: Training steps: network and batch.
TRAININGS = [("lenet5", 64), ("default", 50), ("resnet18_cifar", 128), ("resnet50", 8)]
#: Multiplications with additions of one image, roughly: for the length of a round.
MACS = {"lenet5": 4e5, "default": 1e7, "resnet18": 1.8e9, "resnet50": 4.1e9, "vgg16": 15.5e9, "mobilenet_v2": 3e8,
        "convnext_tiny": 4.5e9, "resnet18_cifar": 5.6e8}
