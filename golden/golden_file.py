"""Writes a golden file: a safetensors file whose bytes depend on nothing but its contents.

The format (https://github.com/huggingface/safetensors): eight bytes little-endian length of the header, the header
in JSON (`{name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {text: text}}`), then the values.
The library's own writer leaves the order of the metadata open, so the file is written here and read back by it.
"""

import json
import math
import zlib

import numpy
import safetensors
import torch

TYPE_NAMES = {"float32": "F32", "int64": "I64"}


def random_for(name):
    """A random stream of its own for every case, so that a new case leaves the others as they are.

    RandomState, not Generator: its streams are frozen for all versions of numpy.
    """
    return numpy.random.RandomState(zlib.crc32(name.encode()))


def rounded(values):
    """Values of any precision as the float32 numbers that are stored."""
    if isinstance(values, torch.Tensor):
        values = values.detach().numpy()
    return numpy.asarray(values).astype(numpy.float32)


def about(what):
    """The metadata entry `about`: where the numbers come from."""
    return (
        f"{what} Computed by PyTorch {torch.__version__.split('+')[0]} in float64 from float32 values, "
        "every result rounded once to float32."
    )


def write(path, tensors, metadata):
    """Writes named arrays (float32 or int64) and the metadata, whose values that are not text become JSON."""
    described = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    header = {"__metadata__": described}
    begin = 0
    # The 8-byte values come first: then every value is aligned in the file.
    ordered = sorted(tensors.items(), key=lambda item: item[1].dtype.itemsize, reverse=True)
    for name, values in ordered:
        end = begin + values.nbytes
        header[name] = {
            "dtype": TYPE_NAMES[values.dtype.name],
            "shape": list(values.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for _, values in ordered:
            file.write(numpy.ascontiguousarray(values).tobytes())
    check(path, tensors, described)


def check(path, tensors, metadata):
    """Reads the file back with the safetensors library and compares all of it, to the bit."""
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == metadata
        assert set(file.keys()) == set(tensors)
        for name, values in tensors.items():
            read = file.get_tensor(name)
            assert read.shape == values.shape and read.tobytes() == values.tobytes(), name
    count = sum(math.prod(values.shape) for values in tensors.values())
    print(f"{path}: {len(metadata) - 1} cases, {len(tensors)} tensors, {count} values")
