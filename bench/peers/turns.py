"""Processes that are measured in turn, and the turns: every contender once, again and again, so that what else the machine does
falls on all of them alike."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
#: A peer's numbers may differ by this share of the largest: rounding, in sums of some thousand products, many layers deep.
TOLERANCE = 2e-3
#: Gradients of a whole network: one number at a ReLU that rounding puts on the other side of 0 changes them, and fifty layers of
#: batch norm over the few numbers of small maps amplify it. PyTorch's own f32 differs from its f64 by 0.2 % for the default
#: network and by 1 to 2 % for ResNet-50 with 2 to 8 images, as convnet's does; without such a number by 0.0001 %.
TRAINING_TOLERANCE = 8e-2
#: A turn lasts about so long, seconds, where one round is shorter.
TURN = 0.02
#: Variants slower than the best by this factor in the first turn are measured no further.
DROP = 1.15
#: Pause before each measurement, in which threads of the process before end their waiting.
SETTLE = 0.01

#: glibc keeps what was freed and takes huge pages; jemalloc does the same its way.
GLIBC = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=4294967296",
    "THP_MEM_ALLOC_ENABLE": "1",
}
JEMALLOC = {"MALLOC_CONF": "thp:always,oversize_threshold:1,background_thread:false,metadata_thp:auto,dirty_decay_ms:-1,muzzy_decay_ms:-1"}


def spoken(command):
    """A command as it is reported: programs and files by their names, wherever they lie."""
    return " ".join(Path(str(part)).name for part in command)


class Failed(Exception):
    """A process ended, or answered with an error."""


def environment(extra=None):
    """Ours, without what would slow a peer down or pin convnet to other instructions."""
    hidden = {"OPENBLAS_CORETYPE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "CONVNET_ISA", "LD_PRELOAD"}
    return {key: value for key, value in os.environ.items() if key not in hidden} | (extra or {})


def jemalloc():
    """The library file, or None where it is not installed."""
    for folder in ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/lib/aarch64-linux-gnu"]:
        for path in sorted(Path(folder).glob("libjemalloc.so*")):
            return str(path)
    return None


class LineProcess:
    """A child that answers each line with one line of JSON."""

    def __init__(self, command, extra=None):
        self.command = [str(part) for part in command]
        pipe = subprocess.PIPE
        self.child = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=pipe if extra is None else None,
                                      env=environment(extra), text=True)

    def ask(self, line):
        try:
            self.child.stdin.write(line + "\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass
        reply = self.child.stdout.readline()
        if not reply:
            reason = self.child.stderr.read().strip() if self.child.stderr else f"exit code {self.child.wait()}"
            raise Failed(f"{spoken(self.command)}: {reason}")
        return json.loads(reply)

    def lives(self):
        return self.child.poll() is None

    def close(self):
        try:
            self.child.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Worker:
    """A Python process of one peer that stays for many cases; `name` says the peer and its allocator."""

    def __init__(self, engine, allocator=None):
        self.engine = engine
        self.name = engine if allocator is None else f"{engine}, {allocator}"
        extra = {}
        if allocator == "glibc":
            extra = GLIBC
        if allocator == "jemalloc":
            extra = JEMALLOC | {"LD_PRELOAD": jemalloc()}
        self.process = LineProcess([sys.executable, HERE / "worker.py", engine], extra)

    def ask(self, **request):
        reply = self.process.ask(json.dumps(request))
        if "error" in reply:
            raise Failed(f"{self.name}: {reply['error']} ({request})")
        return reply

    def lives(self):
        return self.process.lives()

    def close(self):
        self.process.close()


class Convnet:
    """A `convnet bench … --paced`: what it answers are records."""

    def __init__(self, binary, arguments, threads):
        self.process = LineProcess([binary, "bench", *arguments, "--threads", threads, "--paced", "--quiet"])

    def measure(self, rounds):
        return self.process.ask(str(rounds))

    def close(self):
        self.process.close()


class Canary:
    """A small computation whose best time is known: it tells when the machine does not give what it can, as a virtual one whose
    processors share a core for a while. What is measured then is measured again, whoever it was."""

    PROBLEM = "conv n1 c64 56x56 -> 64 w1 s1 p0"
    #: It may be slower than its best by this factor.
    SLOWER = 1.3
    #: How often a measurement is repeated, and how often calm is waited for.
    REPEATS, WAITS = 6, 40

    def __init__(self, binary, threads):
        self.convnet = Convnet(binary, ["layers", self.PROBLEM, "--pass", "forward"], threads)
        self.best = min(self.once() for _ in range(20))
        self.repeated = 0

    def once(self):
        return self.convnet.measure(5)[0]["seconds"]

    def calm(self):
        seconds = self.once()
        self.best = min(self.best, seconds)
        return seconds <= self.SLOWER * self.best

    def soon_calm(self):
        """Whether the machine is calm as soon as threads of the process before have ended their waiting."""
        for _ in range(3):
            if self.calm():
                return True
            time.sleep(SETTLE / 2)
        return False

    def guard(self, work):
        """What `work` measured while the machine was calm before and after."""
        for _ in range(self.REPEATS):
            for _ in range(self.WAITS):
                if self.calm():
                    break
                time.sleep(0.02)
            result = work()
            if self.soon_calm():
                break
            self.repeated += 1
        return result

    def close(self):
        self.convnet.close()


class Variant:
    """One way in which a peer computes one pass."""

    def __init__(self, worker, name, key, request):
        self.worker, self.name, self.key = worker, name, key
        self.handle = f"{name} {key}"
        self.sample = worker.ask(do="prepare", handle=self.handle, **request)["sample"]
        self.seconds = []

    def measure(self, rounds):
        return self.worker.ask(do="measure", handles=[self.handle], rounds=rounds)[self.handle]

    def drop(self):
        if self.worker.lives():
            self.worker.ask(do="drop", handles=[self.handle])


class RustPeer:
    """A `peers-rust --paced` of one peer and model."""

    def __init__(self, binary, peer, arguments, threads, rounds):
        self.name, self.key = peer, "model"
        command = [binary, "--peer", peer, *arguments, "--threads", threads, "--rounds", rounds, "--paced"]
        self.process = LineProcess(command)
        self.sample = self.process.ask("")["sample"]
        self.seconds = []

    def measure(self, _rounds):
        return self.process.ask("")["seconds"]

    def drop(self):
        self.process.close()


def rounds_for(seconds):
    return max(1, min(2000, round(TURN / max(seconds, 1e-7))))


def alternate(canary, convnet, keys, variants, turns, peers_apart=False):
    """Measures convnet and the variants in turn. `keys` names the records that convnet gives; gives for each key convnet's
    record with its median seconds, and the median seconds of every variant that was kept."""
    first = dict(zip(keys, canary.guard(lambda: convnet.measure(1))))
    seconds = {key: [] for key in keys}
    packs = {key: [] for key in keys}
    rounds = rounds_for(max(record["seconds"] for record in first.values()))
    kept = {}
    for key in keys:
        trials = []
        for variant in (variant for variant in variants if variant.key == key):
            time.sleep(SETTLE)
            once = variant.measure(1)
            again = canary.guard(lambda: variant.measure(rounds_for(once)))
            trials.append((min(once, again), variant))
        groups = {}
        for trial in trials:
            peer = trial[1].name.split(",")[0] if peers_apart else "all"
            groups.setdefault(peer, []).append(trial)
        kept[key] = []
        for group in groups.values():
            best = min(trial[0] for trial in group)
            kept[key] += [trial for trial in sorted(group, key=lambda trial: trial[0]) if trial[0] <= DROP * best][:2]
    for turn in range(turns):

        def measure_convnet():
            time.sleep(SETTLE)
            for key, record in zip(keys, canary.guard(lambda: convnet.measure(rounds))):
                seconds[key].append(record["seconds"])
                packs[key].append(record.get("pack_seconds", 0.0))

        if turn % 2 == 0:
            measure_convnet()
        for key in keys:
            for once, variant in kept[key]:
                time.sleep(SETTLE)
                variant.seconds.append(canary.guard(lambda: variant.measure(rounds_for(once))))
        if turn % 2 == 1:
            measure_convnet()
    result = {}
    for key in keys:
        record = first[key] | {"once": first[key]["seconds"], "seconds": statistics.median(seconds[key]), "pack_seconds": statistics.median(packs[key])}
        result[key] = record, {variant.name: statistics.median(variant.seconds) for _, variant in kept[key]}
    return result
