"""Prints the peak resident bytes of this process after some training steps, or, without arguments, after importing torch.

    python memory_torch.py [NET WEIGHTS BATCH LAYOUT THREADS]
"""

import re
import sys
from pathlib import Path

import torch

if len(sys.argv) > 1:
    import torch_side

    net, weights, batch, layout, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    step, _ = torch_side.train({"net": net, "weights": weights, "batch": int(batch), "layout": layout})
    for _ in range(3):
        step()
print(int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text()).group(1)) * 1024)
