"""Prints the best class of each image by a ResNet-18 in onnxruntime, as a user's short script would.

    python first_prediction_onnxruntime.py ONNX THREADS IMAGE...
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

onnx, threads, *paths = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
found = []
for path in paths:
    pixels = (np.asarray(Image.open(path), np.float32) / 255).transpose(2, 0, 1)[None]
    found.append(int(session.run(None, {"images": np.ascontiguousarray(pixels)})[0].argmax()))
print(json.dumps(found))
