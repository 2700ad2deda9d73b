"""Compares convnet with its peers on this machine, in turns, and writes ../RESULTS.md. See README.md.

    python compare.py [--only layers|ops|models|train|memory|start] [--threads 1,2] [--filter TEXT] [--quick]
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import problems
import report
from inputs import difference
from processes import first_predictions, training_memory
from turns import HERE, TOLERANCE, TRAINING_TOLERANCE, Canary, Convnet, Failed, RustPeer, Variant, Worker, alternate, environment, jemalloc

ROOT = HERE.parent.parent
PARTS = ["layers", "ops", "models", "train", "memory", "start"]
RUST_PEERS = ["tract", "rten", "candle", "burn"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="measure only this part (may be repeated)")
    parser.add_argument("--threads", default=",".join(str(count) for count in sorted({1, len(os.sched_getaffinity(0))})),
                        help="numbers of threads, as 1,2")
    parser.add_argument("--rounds", type=int, default=7, help="turns of which the median is taken")
    parser.add_argument("--filter", action="append", default=[],
                        help="measure only cases whose name, with net and batch, has this regular expression (all of them)")
    parser.add_argument("--quick", action="store_true", help="three turns, and batch 1 or the training batch only")
    parser.add_argument("--missing", action="store_true", help="leave out what the raw results hold already")
    parser.add_argument("--again", action="store_true", help="measure a second time: keep the figures beside those that are there")
    parser.add_argument("--seconds", type=float, help="begin no further case after so many seconds")
    parser.add_argument("--report", action="store_true", help="measure nothing: write the report anew from the raw results")
    parser.add_argument("--convnet", type=Path, default=ROOT / "target/release/convnet", help="the program")
    parser.add_argument("--rust-peers", type=Path, default=HERE / "rust/target/release/peers-rust", help="the Rust peers' program")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/convnet-peers", help="folder for weights and ONNX files")
    parser.add_argument("--commit", help="the commit that the program was built from, if it is not the current one")
    parser.add_argument("--machine", help="name of the raw results; by default the processor's")
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results", help="folder of the raw results")
    return parser.parse_args()


class Session:
    """One run of the script: the processes that stay, and the raw results that cases are merged into."""

    def __init__(self, options):
        self.options = options
        self.workers = {}
        self.canaries = {}
        self.begun = time.monotonic()
        self.turns = 3 if options.quick else options.rounds
        self.machine = machine(options)
        self.path = options.results / f"{options.machine or self.machine['name']}.json"
        self.raw = json.loads(self.path.read_text()) if self.path.exists() else {"cases": {}}
        self.raw["machine"] = self.raw.get("machine", {}) | self.machine
        self.failures = []

    def torch(self):
        """PyTorch under each allocator that there is."""
        allocators = ["glibc"] + (["jemalloc"] if jemalloc() else [])
        return [self.worker("torch", allocator) for allocator in allocators]

    def worker(self, engine, allocator=None):
        """The process of a peer, begun anew if it has died."""
        if (engine, allocator) not in self.workers or not self.workers[engine, allocator].lives():
            worker = Worker(engine, allocator)
            self.raw["machine"].setdefault("versions", {}).update(worker.ask(do="versions"))
            self.workers[engine, allocator] = worker
        return self.workers[engine, allocator]

    def canary(self, threads):
        if threads not in self.canaries:
            self.canaries[threads] = Canary(self.options.convnet, threads)
        return self.canaries[threads]

    def wants(self, name, row, case, threads):
        """Whether a case is to be measured; `name` is what --filter looks at."""
        if self.options.seconds and time.monotonic() - self.begun > self.options.seconds:
            return False
        if not all(re.search(pattern, name) for pattern in self.options.filter):
            return False
        known = self.raw["cases"].get(self.key(row, case, threads))
        if self.options.again:
            return known is not None and not (self.options.missing and "again" in known)
        return not (self.options.missing and known)

    @staticmethod
    def key(row, case, threads):
        return f"{row} | {case} | {threads}"

    def merge(self, row, case, threads, record):
        """Keeps one case, and writes the raw results whole."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
        record |= {"row": row, "case": case, "threads": threads, "turns": self.turns, "date": now, "commit": self.machine["commit"]}
        key = self.key(row, case, threads)
        if self.options.again and key in self.raw["cases"]:
            self.raw["cases"][key]["again"] = {name: record[name] for name in ["convnet", "peers", "turns", "date", "commit"]}
        else:
            self.raw["cases"][key] = record
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.raw, indent=1, sort_keys=True) + "\n")
        partial.replace(self.path)
        peers = record["peers"]
        best = min(peers, key=peers.get)
        print(f"{peers[best] / record['convnet']:6.2f}x  {case} | {row} | {threads} thread(s): {1e3 * record['convnet']:.3f} ms, "
              f"{best} {1e3 * peers[best]:.3f} ms", flush=True)

    def check(self, case, record, variants, tolerance=TOLERANCE):
        """Numbers must agree before times may be compared."""
        worst = 0.0
        for variant in variants:
            error = difference(record["sample"], variant.sample)
            worst = max(worst, error)
            if not error <= tolerance:
                raise Failed(f"{case}: the numbers of {variant.name} differ by {error:.1e} of the largest: "
                             f"{variant.sample} against {record['sample']}")
        return worst

    def guarded(self, what, work, *arguments):
        """A case that fails is told and counted, and the others go on."""
        try:
            work(*arguments)
        except Failed as failure:
            self.failures.append(f"{what}: {failure}")
            print(f"FAILED {what}: {failure}", file=sys.stderr, flush=True)

    def close(self):
        for process in [*self.workers.values(), *self.canaries.values()]:
            process.close()
        repeated = sum(canary.repeated for canary in self.canaries.values())
        if repeated:
            print(f"{repeated} measurements were repeated because the machine was slow", flush=True)


def peaks(options, threads):
    """`convnet bench machine` with so many threads."""
    command = [options.convnet, "bench", "machine", "--threads", str(threads), "--json"]
    output = subprocess.run(command, capture_output=True, text=True, env=environment())
    if output.returncode != 0:
        raise SystemExit(f"{options.convnet} bench machine: {output.stderr}")
    return json.loads(output.stdout)


def machine(options):
    """What the figures were measured on."""
    found = peaks(options, 1)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    # Two kinds of processors may bear one name.
    family = re.search(r"^model\s*:\s*(\d+)", flags, re.M)
    name = f"{found['cpu'] or platform.machine()} model {family.group(1) if family else 0} {found['available_threads']} threads"
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text()) if Path("/proc/meminfo").exists() else None
    return {
        "name": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        "cpu": found["cpu"],
        "isa": found["isa"],
        "amx": "amx_tile" in flags,
        "threads": found["available_threads"],
        "memory_gib": round(int(memory.group(1)) / 2**20, 1) if memory else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": options.commit or head,
    }


def layers(session, threads):
    for conv in problems.convolutions():
        name = f"{conv.net} {conv.problem}"
        if session.options.quick and conv.n == 16:
            continue
        if any(session.wants(name, conv.row(passed), conv.problem, threads) for passed in problems.PASSES):
            session.guarded(name, convolution, session, conv, threads)


def convolution(session, conv, threads):
    convnet = Convnet(session.options.convnet, ["layers", conv.problem], threads)
    convnet.measure(1)
    variants = []
    try:
        shape = {key: getattr(conv, key) for key in ["n", "c", "h", "k", "r", "stride", "pad", "groups"]}
        for worker in session.torch():
            worker.ask(do="threads", count=threads)
            for passed in problems.PASSES:
                for layout in ["contiguous", "channels_last"] + (["prepacked"] if passed == "forward" else []):
                    request = {"kind": "conv", "pass": passed, "layout": layout} | shape
                    variants.append(Variant(worker, f"{worker.name}, {layout}", passed, request))
        measured = alternate(session.canary(threads), convnet, list(problems.PASSES), variants, session.turns)
        for passed, (record, peers) in measured.items():
            error = session.check(conv.problem, record, [variant for variant in variants if variant.key == passed])
            # PyTorch packs the weights in every backward pass; where it may pack them once (forward), it did.
            seconds = record["seconds"] + (record["pack_seconds"] if passed == "backward_input" else 0.0)
            session.merge(conv.row(passed), conv.problem, threads,
                          {"convnet": seconds, "peers": peers, "error": error, "detail": detail(record), "net": conv.net})
    finally:
        convnet.close()
        for worker in session.torch():
            worker.ask(do="drop")


def detail(record):
    """What convnet says of itself beside the time; rates by the median of all turns."""
    kept = {key: record[key] for key in ["algorithm", "pack_seconds"]}
    return kept | {key: round(record[key] * record["once"] / record["seconds"], 2)
                   for key in ["gflops", "percent_of_peak", "gigabytes_per_second", "percent_of_bandwidth"]}


def ops(session, threads):
    for op in problems.ops():
        if session.options.quick and op.shape[0] == 16:
            continue
        if any(session.wants(op.problem, op.row(passed), op.problem, threads) for passed in op.passes()):
            session.guarded(op.problem, operator, session, op, threads)


def operator(session, op, threads):
    arguments = ["layers", op.problem] + (["--pass", "forward"] if op.passes() == ["forward"] else [])
    convnet = Convnet(session.options.convnet, arguments, threads)
    convnet.measure(1)
    variants = []
    try:
        for worker in session.torch():
            worker.ask(do="threads", count=threads)
            for passed in op.passes():
                for layout in ["contiguous", "channels_last"]:
                    request = {"kind": "op", "layer": op.layer, "shape": op.shape, "pass": passed, "layout": layout}
                    variants.append(Variant(worker, f"{worker.name}, {layout}", passed, request))
        for passed, (record, peers) in alternate(session.canary(threads), convnet, op.passes(), variants, session.turns).items():
            error = session.check(op.problem, record, [variant for variant in variants if variant.key == passed])
            session.merge(op.row(passed), op.problem, threads,
                          {"convnet": record["seconds"], "peers": peers, "error": error, "detail": detail(record)})
    finally:
        convnet.close()
        for worker in session.torch():
            worker.ask(do="drop")


def weights(session, net):
    """The file with the numbers that convnet measures."""
    session.options.cache.mkdir(parents=True, exist_ok=True)
    path = session.options.cache / f"{net}.safetensors"
    if not path.exists():
        command = [session.options.convnet, "bench", "model", net, "--rounds", "1", "--quiet", "--write-model", path]
        output = subprocess.run(command, capture_output=True, text=True, env=environment())
        if output.returncode != 0:
            raise Failed(f"{net}: {output.stderr}")
    return path


def onnx_file(session, net, batch):
    """The model for peers that read ONNX."""
    path = session.options.cache / f"{net}-{batch}.onnx"
    if not path.exists():
        session.torch()[0].ask(do="export", net=net, weights=str(weights(session, net)), batch=batch, path=str(path))
    return path


def models(session, threads):
    for net in problems.MODELS:
        for batch in problems.MODEL_BATCHES:
            if session.options.quick and batch == 16:
                continue
            case = f"{net}, batch {batch}"
            if session.wants(case, "inference, f32", case, threads):
                session.guarded(case, inference, session, net, batch, case, threads)


def inference(session, net, batch, case, threads):
    file, onnx = weights(session, net), onnx_file(session, net, batch)
    convnet = Convnet(session.options.convnet, ["model", net, "--batch", batch], threads)
    expected = convnet.measure(1)[0]["seconds"]
    variants, missing = [], {}
    try:
        for worker in session.torch():
            worker.ask(do="threads", count=threads)
            for layout in ["contiguous", "channels_last", "frozen contiguous", "frozen channels_last"]:
                request = {"kind": "model", "net": net, "weights": str(file), "batch": batch, "layout": layout}
                variants.append(Variant(worker, f"{worker.name}, {layout}", "model", request))
        for engine in ["onnxruntime", "openvino"]:
            worker = session.worker(engine)
            worker.ask(do="threads", count=threads)
            variants.append(Variant(worker, engine, "model", {"onnx": str(onnx)}))
        for peer in RUST_PEERS:
            if not session.options.rust_peers.exists():
                missing[peer] = "not built"
                continue
            try:
                arguments = ["--model", net, "--onnx", onnx, "--batch", batch]
                rounds = max(1, min(200, round(0.02 / expected / 4)))
                variants.append(RustPeer(session.options.rust_peers, peer, arguments, threads, rounds))
            except Failed as failure:
                missing[peer] = str(failure).splitlines()[-1][:200]
        [(record, peers)] = alternate(session.canary(threads), convnet, ["model"], variants, session.turns, peers_apart=True).values()
        error = session.check(case, record, variants)
        session.merge("inference, f32", case, threads,
                      {"convnet": record["seconds"], "peers": peers, "error": error, "missing": missing,
                       "detail": {"images_per_second": batch / record["seconds"]}})
    finally:
        convnet.close()
        for variant in variants:
            variant.drop()


def train(session, threads):
    for net, batch in problems.TRAININGS:
        case = f"{net}, batch {batch}"
        if session.wants(case, "training step, f32", case, threads):
            session.guarded(case, training, session, net, batch, case, threads)


def training(session, net, batch, case, threads):
    file = weights(session, net)
    convnet = Convnet(session.options.convnet, ["train", net, "--batch", batch], threads)
    convnet.measure(1)
    variants = []
    try:
        for worker in session.torch():
            worker.ask(do="threads", count=threads)
            for layout in ["contiguous", "channels_last", "contiguous, fused", "channels_last, fused"]:
                request = {"kind": "train", "net": net, "weights": str(file), "batch": batch, "layout": layout}
                variants.append(Variant(worker, f"{worker.name}, {layout}", "train", request))
        [(record, peers)] = alternate(session.canary(threads), convnet, ["train"], variants, session.turns).values()
        error = session.check(case, record, variants, TRAINING_TOLERANCE)
        session.merge("training step, f32", case, threads,
                      {"convnet": record["seconds"], "peers": peers, "error": error,
                       "detail": {"images_per_second": batch / record["seconds"]}})
    finally:
        convnet.close()
        for worker in session.torch():
            worker.ask(do="drop")


def memory(session, threads):
    row = "peak memory of a training step"
    for net, batch in problems.TRAININGS:
        case = f"{net}, batch {batch}"
        if session.wants(case, row, case, threads):
            session.guarded(case, lambda: session.merge(row, case, threads, training_memory(session, net, batch, threads)))


def start(session, threads):
    for images in [1, 8]:
        case = f"resnet18, {images} image{'s' if images > 1 else ''}"
        rows = {peer: f"start to first prediction, {peer}" for peer in ["PyTorch", "onnxruntime"]}
        if any(session.wants(case, row, case, threads) for row in rows.values()):

            def measure():
                for peer, record in first_predictions(session, images, threads).items():
                    session.merge(rows[peer], case, threads, record)

            session.guarded(case, measure)


def main():
    options = arguments()
    session = Session(options)
    try:
        if not options.report:
            for threads in [int(count) for count in options.threads.split(",")]:
                session.raw["machine"][f"peak_{threads}"] = peaks(options, threads)
                for part in options.only or PARTS:
                    {"layers": layers, "ops": ops, "models": models, "train": train, "memory": memory, "start": start}[part](session, threads)
    finally:
        session.close()
    report.write(options.results, ROOT / "bench/RESULTS.md", ROOT / "bench/results.svg")
    if session.failures:
        raise SystemExit("\n".join(["failed:", *session.failures]))


Session.weights, Session.onnx_file = weights, onnx_file

if __name__ == "__main__":
    main()
