#!/usr/bin/env python3
"""Draws the images that are embedded in the program from the full Fashion-MNIST set.

    tools/embedded_images.py FOLDER [OUTPUT]

FOLDER holds the four files of upstream (`train-images-idx3-ubyte.gz` and its
sisters); Debian's package `dataset-fashion-mnist` has them under
usr/share/datasets/fashion-mnist. OUTPUT is crates/convnet/src/data/embedded
of this repository unless it is given. Only Python's standard library is needed.

The draw: an image has the key SHA-256("convnet embedded images SEED SPLIT
CLASS INDEX"), INDEX being its place in upstream's file. Of each class the
images with the smallest keys are kept, 500 of the training split and 100 of
the test split. The kept images of a split are then put in the order of their
keys, which mixes the classes. No random generator of any Python version takes
part, so the same files come out everywhere.

The gzip streams carry no time and no name; their exact bytes depend on the
version of zlib, the images in them do not. The script prints the SHA-256 of
the uncompressed contents.
"""

import gzip
import hashlib
import io
import struct
import sys
from pathlib import Path

SEED = 1
CLASSES = 10
SIDE = 28
SPLITS = {
    # name of the split in upstream's files: images in all, kept per class
    "train": (60_000, 500),
    "t10k": (10_000, 100),
}

NOTICE = """\
The images and labels in this folder are a selection from Fashion-MNIST
(https://github.com/zalandoresearch/fashion-mnist), made by
tools/embedded_images.py. They are under the following licence (MIT, which
Debian calls Expat).

Copyright: 2017, Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a
copy of this software and associated documentation files (the "Software"),
to deal in the Software without restriction, including without limitation
the rights to use, copy, modify, merge, publish, distribute, sublicense,
and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included
in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS
OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT.
IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY
CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT,
TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def read_idx(path, dims):
    """The values of an IDX file of bytes whose dimensions must be `dims`."""
    content = gzip.decompress(path.read_bytes())
    header = struct.pack(f">HBB{len(dims)}I", 0, 0x08, len(dims), *dims)
    if not content.startswith(header):
        found = content[: len(header)].hex()
        sys.exit(f"{path}: the header is {found}, that of upstream is {header.hex()}")
    if len(content) != len(header) + product(dims):
        sys.exit(f"{path}: {len(content)} bytes, upstream has {len(header) + product(dims)}")
    return content[len(header) :]


def write_idx(path, dims, values):
    """Writes an IDX file of bytes, compressed, and prints its figures."""
    content = struct.pack(f">HBB{len(dims)}I", 0, 0x08, len(dims), *dims) + values
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as stream:
        stream.write(content)
    path.write_bytes(packed.getvalue())
    digest = hashlib.sha256(content).hexdigest()
    print(f"{path.name}: {len(packed.getvalue())} bytes, content {digest}")


def product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result


def key(split, label, index):
    return hashlib.sha256(f"convnet embedded images {SEED} {split} {label} {index}".encode()).digest()


def draw(split, labels, per_class):
    """The places of the kept images, in the order of their keys."""
    of_class = [[] for _ in range(CLASSES)]
    for index, label in enumerate(labels):
        of_class[label].append((key(split, label, index), index))
    kept = []
    for label, keyed in enumerate(of_class):
        if len(keyed) < per_class:
            sys.exit(f"{split}: class {label} has {len(keyed)} images, {per_class} are wanted")
        kept += sorted(keyed)[:per_class]
    return [index for _, index in sorted(kept)]


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: tools/embedded_images.py FOLDER [OUTPUT]")
    source = Path(sys.argv[1])
    root = Path(__file__).resolve().parent.parent
    output = Path(sys.argv[2]) if len(sys.argv) == 3 else root / "crates/convnet/src/data/embedded"
    output.mkdir(parents=True, exist_ok=True)

    for split, (count, per_class) in SPLITS.items():
        images_name = f"{split}-images-idx3-ubyte.gz"
        labels_name = f"{split}-labels-idx1-ubyte.gz"
        images = read_idx(source / images_name, (count, SIDE, SIDE))
        labels = read_idx(source / labels_name, (count,))
        kept = draw(split, labels, per_class)
        pixels = SIDE * SIDE
        kept_images = b"".join(images[i * pixels : (i + 1) * pixels] for i in kept)
        kept_labels = bytes(labels[i] for i in kept)
        write_idx(output / images_name, (len(kept), SIDE, SIDE), kept_images)
        write_idx(output / labels_name, (len(kept),), kept_labels)

    (output / "LICENSE-fashion-mnist").write_text(NOTICE)


if __name__ == "__main__":
    main()
