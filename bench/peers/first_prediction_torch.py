"""Prints the best class of each image by a ResNet-18 in PyTorch, as a user's short script would.

    python first_prediction_torch.py WEIGHTS THREADS IMAGE...
"""

import json
import sys

import numpy as np
import torch
from PIL import Image

import torch_models

weights, threads, *paths = sys.argv[1:]
torch.set_num_threads(int(threads))
net = torch_models.build("resnet18", weights).eval()
found = []
with torch.inference_mode():
    for path in paths:
        pixels = torch.from_numpy(np.asarray(Image.open(path), np.float32) / 255)
        found.append(int(net(pixels.permute(2, 0, 1)[None]).argmax()))
print(json.dumps(found))
