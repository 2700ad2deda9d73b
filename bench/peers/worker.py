"""A process that measures one peer on request: a line of JSON in, a line of JSON out.

    python worker.py torch|onnxruntime|openvino

It keeps what was prepared under a handle, so that several variants can be measured in turn:
{"do": "prepare", "handle": h, ...} -> {"sample": [16 numbers]}, {"do": "measure", "handles": [h], "rounds": n} ->
{h: median seconds}, {"do": "drop"}, {"do": "threads", "count": n}, {"do": "versions"}. An error comes back as {"error": text}.
"""

import gc
import json
import statistics
import sys
import time
import traceback


def median_seconds(work, rounds):
    """Works once without counting, then `rounds` times."""
    work()
    seconds = []
    for _ in range(max(rounds, 1)):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def engine(name):
    """The module that knows the peer: it has prepare(request) -> (work, sample), set_threads(count) and versions()."""
    if name == "torch":
        import torch_side as side
    elif name == "onnxruntime":
        import onnxruntime_side as side
    elif name == "openvino":
        import openvino_side as side
    else:
        raise SystemExit(f"there is no peer '{name}'")
    return side


def answer(side, prepared, request):
    """Does what one line asks for."""
    match request["do"]:
        case "prepare":
            work, sample = side.prepare(request)
            prepared[request["handle"]] = work
            return {"sample": sample}
        case "measure":
            gc.disable()
            seconds = {handle: median_seconds(prepared[handle], request["rounds"]) for handle in request["handles"]}
            gc.enable()
            return seconds
        case "drop":
            for handle in request.get("handles", list(prepared)):
                prepared.pop(handle, None)
            gc.collect()
            return {}
        case "threads":
            side.set_threads(request["count"])
            return {}
        case "versions":
            return side.versions()
        case "export":
            side.export(request)
            return {}
    raise ValueError(f"'{request['do']}' is not understood")


def main():
    side = engine(sys.argv[1])
    prepared = {}
    # Libraries that print must not get in between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            reply = answer(side, prepared, json.loads(line))
        except Exception as error:  # Whatever it is, the other side must hear of it.
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
