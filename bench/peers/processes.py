"""Figures of whole processes: the peak memory of a training step, and the time from the start to the first prediction."""

import json
import statistics
import subprocess
import sys
import time

from turns import HERE, Failed, environment, jemalloc, spoken


def run(command, extra=None):
    """Standard output and seconds of a process that must succeed."""
    begun = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment(extra))
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise Failed(f"{spoken(command)}: {done.stderr.strip()[-400:]}")
    return done.stdout, seconds


def training_memory(session, net, batch, threads):
    """Peak resident bytes of a few training steps, each peer in a process of its own; PyTorch's is the least of its layouts and
    allocators. `beyond` is what remains without the peak of a process that only imported torch."""
    weights = session.weights(net)
    command = [session.options.convnet, "bench", "train", net, "--batch", batch, "--rounds", 2, "--threads", threads, "--json"]
    convnet = json.loads(run(command)[0])[0]["peak_bytes"]
    script = HERE / "memory_torch.py"
    idle = int(run([sys.executable, script])[0])
    peers = {}
    for layout in ["contiguous", "channels_last", "contiguous, fused", "channels_last, fused"]:
        for name, extra in [("default allocator", {})] + ([("jemalloc", {"LD_PRELOAD": jemalloc()})] if jemalloc() else []):
            output, _ = run([sys.executable, script, net, weights, batch, layout, threads], extra)
            peers[f"torch, {name}, {layout}"] = int(output)
    least = min(peers.values())
    return {"convnet": convnet, "peers": peers, "error": 0.0, "detail": {"idle": idle, "beyond": (least - idle) / convnet}}


def pictures(folder, count):
    """Image files of the size that the network takes, so that nobody resizes."""
    import numpy as np
    from PIL import Image

    from inputs import values

    paths = [folder / f"image-{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            pixels = ((values(number, (224, 224, 3)) + 0.5) * 256).astype(np.uint8)
            Image.fromarray(pixels).save(path)
    return paths


def first_predictions(session, images, threads):
    """Seconds of whole processes that load a ResNet-18, read images and name their classes, in turn; the classes must agree."""
    model, onnx = session.weights("resnet18"), session.onnx_file("resnet18", 1)
    paths = pictures(session.options.cache, images)
    commands = {
        "convnet": [session.options.convnet, "predict", model, *paths, "--top", 1, "--threads", threads, "--json"],
        "PyTorch": [sys.executable, HERE / "first_prediction_torch.py", model, threads, *paths],
        "onnxruntime": [sys.executable, HERE / "first_prediction_onnxruntime.py", onnx, threads, *paths],
    }
    seconds = {name: [] for name in commands}
    for turn in range(session.turns + 1):
        classes = {}
        for name, command in commands.items():
            output, spent = run(command)
            classes[name] = [int(found["top"][0]["class"]) for found in json.loads(output)] if name == "convnet" else json.loads(output)
            # The first turn brings files into memory.
            if turn:
                seconds[name].append(spent)
        if len({json.dumps(found) for found in classes.values()}) != 1:
            raise Failed(f"the classes differ: {classes}")
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {name: {"convnet": medians["convnet"], "peers": {name: medians[name]}, "error": 0.0, "detail": {}}
            for name in ["PyTorch", "onnxruntime"]}
