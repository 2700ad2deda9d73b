"""The tables of ../RESULTS.md and its plot, from the raw results."""

import json
import math
import statistics
from collections import defaultdict
from pathlib import Path

from problems import AMX_ROWS, ROWS
from shortfalls import reason

#: How many times fewer multiplications Winograd's algorithms make than the definition, on tiles that fit.
WINOGRAD = {"winograd 2x2": 2.25, "winograd 4x4": 4.0}
RUST_PEERS = ["tract", "rten", "candle", "burn"]


def ratio(case):
    """How many times faster (or smaller) than the best peer."""
    return min(case["peers"].values()) / case["convnet"]


def reproduced(rows, threads):
    """For each row, the cases that were measured twice: both means, and how far apart the two ratios of a case lie."""
    for row in ROWS:
        for count in threads:
            cases = [case for case in rows.get((row.name, count), []) if "again" in case]
            if not cases:
                continue
            first, second = [ratio(case) for case in cases], [ratio(case["again"]) for case in cases]
            apart = [max(pair) / min(pair) - 1 for pair in zip(first, second)]
            furthest = cases[apart.index(max(apart))]
            yield [row.name, str(count), f"{len(cases)} of {len(rows[row.name, count])}", f"{mean(first):.2f}", f"{mean(second):.2f}",
                   "—" if row.least is None else f"{sum(value < row.least for value in first)} / {sum(value < row.least for value in second)}",
                   f"{100 * statistics.median(apart):.1f} %", f"{100 * max(apart):.0f} % ({furthest['case']})"]


def mean(ratios):
    """The geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def by_row(raw):
    """Cases under (row, threads), in the order in which they sort."""
    rows = defaultdict(list)
    for case in raw["cases"].values():
        rows[case["row"], case["threads"]].append(case)
    return {key: sorted(cases, key=lambda case: case["case"]) for key, cases in rows.items()}


def threads_of(raw):
    return sorted({case["threads"] for case in raw["cases"].values()})


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def milliseconds(seconds):
    return f"{1e3 * seconds:.4g}"


def measured(records):
    """When, and with which commits of convnet."""
    dates, commits = sorted(record["date"] for record in records), sorted({record["commit"] for record in records})
    return f"measured from {dates[0]} to {dates[-1]} UTC, convnet at {', '.join(commits)}"


def about(raw):
    """The machine, the versions, the dates."""
    machine = raw["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine.get("versions", {}).items()))
    lines = [f"* {machine['cpu']} ({machine['name']}), {machine['threads']} threads, {machine['memory_gib']} GiB, {machine['system']}; "
             f"instructions `{machine['isa']}`, {'AMX' if machine['amx'] else 'no AMX'}"]
    for threads in [1, *range(2, 257)]:
        if peak := machine.get(f"peak_{threads}"):
            lines.append(f"* `convnet bench machine`, {threads} threads: {peak['peak_gflops']:.0f} GFLOP/s of fused multiply-adds, "
                         f"{peak['memory_gigabytes_per_second']:.1f} GB/s read from memory, a parallel region "
                         f"{peak['parallel_region_microseconds']:.1f} µs")
    turns = sorted({case["turns"] for case in raw["cases"].values()})
    lines += [f"* {versions}; Python {machine['python']}",
              f"* {measured(raw['cases'].values())}; medians of "
              f"{' or '.join(map(str, turns))} turns"]
    return lines


def summary(rows, threads):
    """One line for each row and number of threads."""
    for row in ROWS:
        target = "—" if row.mean is None else f"{row.mean:.2g} ({row.least:.2g})"
        for count in threads:
            cases = rows.get((row.name, count))
            if not cases:
                yield [row.name, row.against, str(count), target, "not measured", "", "", ""]
                continue
            ratios = [ratio(case) for case in cases]
            worst = min(cases, key=ratio)
            reached = "—" if row.mean is None else "yes" if mean(ratios) >= row.mean and min(ratios) >= row.least else "no"
            below = "—" if row.mean is None else f"{sum(value < row.least for value in ratios)} of {len(ratios)}"
            yield [row.name, row.against, str(count), target, f"**{mean(ratios):.2f}**", f"{min(ratios):.2f} ({worst['case']})", below, reached]


def shortfalls(rows, threads):
    """Every case that is below the least of its row, the worst first."""
    for row in ROWS:
        below = [case for count in threads for case in rows.get((row.name, count), []) if row.least and ratio(case) < row.least]
        for case in sorted(below, key=ratio):
            yield [row.name, case["case"], str(case["threads"]), f"{ratio(case):.2f}", f"{row.least:.2g}", reason(row.name, case["case"])]


def usual_whole(cases, rate, percent):
    """What 100 % is: the median of what the cases' own processes found, of which some ran in a bad moment."""
    found = [100 * case["detail"][rate] / case["detail"][percent] for case in cases if case["detail"][percent]]
    return statistics.median(found) if found else math.inf


def layer_tables(row, cases_by_threads):
    """A layer's time, what it makes of the machine, and the best peer."""
    head = ["case", "threads", "algorithm", "convnet ms", "packing ms", "GFLOP/s", "% of peak", "% by own products", "GB/s", "% of bandwidth",
            "best PyTorch ms", "its variant", "ratio"]
    rows = []
    for threads, cases in cases_by_threads:
        peak, bandwidth = usual_whole(cases, "gflops", "percent_of_peak"), usual_whole(cases, "gigabytes_per_second", "percent_of_bandwidth")
        for case in cases:
            detail, best = case["detail"], min(case["peers"], key=case["peers"].get)
            percent = 100 * detail["gflops"] / peak
            operations = [f"{detail['gflops']:.1f}", f"{percent:.0f}",
                          f"{percent / WINOGRAD.get(detail['algorithm'], 1):.0f}"] if detail["gflops"] else ["—"] * 3
            rows.append([case["case"], str(threads), detail["algorithm"], milliseconds(case["convnet"]),
                         milliseconds(detail["pack_seconds"]) if detail["pack_seconds"] else "—", *operations,
                         f"{detail['gigabytes_per_second']:.1f}", f"{100 * detail['gigabytes_per_second'] / bandwidth:.0f}",
                         milliseconds(case["peers"][best]), best.removeprefix("torch, "), f"{ratio(case):.2f}"])
    return table(head, rows)


def peer_times(case):
    """The best time of each peer."""
    best = {}
    for name, seconds in case["peers"].items():
        peer = name.split(",")[0]
        best[peer] = min(seconds, best.get(peer, math.inf))
    return best


def model_tables(row, cases_by_threads):
    """A model's time beside every peer's."""
    peers = ["torch", "onnxruntime", "openvino", *RUST_PEERS]
    rows = []
    for threads, cases in cases_by_threads:
        for case in cases:
            times, missing = peer_times(case), case.get("missing", {})
            cells = [milliseconds(times[peer]) if peer in times else missing.get(peer, "not measured") for peer in peers]
            rows.append([case["case"], str(threads), milliseconds(case["convnet"]), *cells, f"{ratio(case):.2f}"])
    return table(["case", "threads", "convnet ms", *[f"{peer} ms" for peer in peers], "ratio to the best"], rows)


def time_tables(row, cases_by_threads):
    """Times of convnet and of the best variant."""
    rows = []
    for threads, cases in cases_by_threads:
        for case in cases:
            best = min(case["peers"], key=case["peers"].get)
            rows.append([case["case"], str(threads), milliseconds(case["convnet"]), milliseconds(case["peers"][best]), best,
                         f"{ratio(case):.2f}"])
    return table(["case", "threads", "convnet ms", "best peer ms", "it is", "ratio"], rows)


def memory_tables(row, cases_by_threads):
    """Peak resident mebibytes."""
    rows = []
    for threads, cases in cases_by_threads:
        for case in cases:
            best = min(case["peers"], key=case["peers"].get)
            rows.append([case["case"], str(threads), f"{case['convnet'] / 2**20:.0f}", f"{case['peers'][best] / 2**20:.0f}", best,
                         f"{case['detail']['idle'] / 2**20:.0f}", f"{case['convnet'] / case['peers'][best]:.2f}",
                         f"{ratio(case):.2f}", f"{case['detail']['beyond']:.2f}"])
    return table(["case", "threads", "convnet MiB", "PyTorch's least MiB", "it is", "import alone MiB", "share of PyTorch's",
                  "ratio", "ratio without the import's"], rows)


TABLES = {"layers": layer_tables, "ops": layer_tables, "models": model_tables, "train": time_tables, "memory": memory_tables,
          "start": time_tables}

NOTES = """\
Ratios are the best peer's time by convnet's: above 1 convnet is faster. Every figure comes from one process of each contender,
measured in turn in the same minutes (`bench/peers/README.md`), and every case first compares 16 numbers of the results. PyTorch
counts with the best of contiguous and channels last, under glibc's allocator tuned and under jemalloc, both with huge pages, and
in forward convolutions also with weights packed beforehand, which convnet's are too. Convolutions to the input contain convnet's
packing of the weights (the column says how much), since PyTorch packs them in every such pass. Rates count the multiplications
and additions of the definition; `% by own products` counts those that Winograd's algorithms really make. Bytes are inputs and
outputs once each; above 100 % of the bandwidth from memory they stayed in a cache.
Least and mean are over all cases of a row; the tables below hold every one."""


def write(folder, path, plot):
    """Writes a report and a plot of the raw results of each machine in the folder: the one with the most cases is the report, which
    sums up the others, and these lie beside their raw results."""
    machines = [(file, json.loads(file.read_text())) for file in sorted(Path(folder).glob("*.json"))]
    machines = sorted([machine for machine in machines if machine[1]["cases"]], key=lambda machine: -len(machine[1]["cases"]))
    others = []
    for file, raw in machines[1:]:
        write_one(raw, file.with_suffix(".md"), file.with_suffix(".svg"))
        others += elsewhere(raw, f"{file.parent.name}/{file.stem}.md")
    if machines:
        write_one(machines[0][1], path, plot, others)


def targets(raw):
    """What must be reached, and what was."""
    rows, threads = by_row(raw), threads_of(raw)
    missing = "not yet" if raw["machine"]["amx"] else "this CPU has no AMX"
    return table(["work", "against", "threads", "target: mean (least)", "geometric mean", "least", "below the least", "reached"],
                 [*summary(rows, threads), *[[name, against, "—", target, "not run", "", "", missing] for name, against, target in AMX_ROWS]])


def elsewhere(raw, link):
    """The section on another machine, whose own report is behind the link."""
    return [f"## On {raw['machine']['cpu']} with `{raw['machine']['isa']}`", "", *about(raw), "", *targets(raw), "",
            f"Every case: [{link}]({link})", ""]


def write_one(raw, path, plot, others=()):
    """Writes the report of one machine, with what there is to say of others, and its plot."""
    rows, threads = by_row(raw), threads_of(raw)
    lines = ["# Results", "", "Made by `bench/peers/compare.py`; not edited by hand.", "", *about(raw), "", NOTES, "",
             f"![Ratios of every row]({Path(plot).name})", "", "## Against what must be reached", "", *targets(raw), "", *others,
             "## Where it falls short", "", "With the cause, or the likeliest one where none was measured.", "",
             *table(["work", "case", "threads", "ratio", "least", "why"], list(shortfalls(rows, threads))), ""]
    if again := list(reproduced(rows, threads)):
        when = measured([case["again"] for case in raw["cases"].values() if "again" in case])
        lines += ["## Measured a second time", "", f"Everything was prepared anew, and {when}.", "", *table(["work", "threads", "cases", "mean before", "mean again", "below the least, before / again",
                              "median difference of a case's ratios", "largest"], again), ""]
    for row in ROWS:
        cases = [(count, rows[row.name, count]) for count in threads if (row.name, count) in rows]
        if cases:
            lines += [f"## {row.name[0].upper()}{row.name[1:]}", "", *TABLES[row.part](row.name, cases), ""]
    Path(path).write_text("\n".join(lines))
    draw(rows, threads, plot)


def draw(rows, threads, path):
    """One dot for each case, a bar at each geometric mean, a mark at each target."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "convnet"
    from matplotlib import pyplot

    shown = [(row, count) for row in ROWS for count in threads if (row.name, count) in rows]
    figure, axes = pyplot.subplots(figsize=(10, 0.36 * len(shown) + 1.3), facecolor="white")
    colours = dict(zip(threads, ["#1f5fa8", "#b3541e", "#3a7d34", "#6b3fa0"]))
    for height, (row, count) in enumerate(reversed(shown)):
        ratios = [ratio(case) for case in rows[row.name, count]]
        axes.scatter(ratios, [height] * len(ratios), s=14, color=colours[count], alpha=0.35, linewidths=0)
        axes.scatter([mean(ratios)], [height], s=130, marker="|", color=colours[count], linewidths=3)
        if row.mean is not None:
            axes.scatter([row.mean], [height], s=55, marker="D", facecolors="none", edgecolors="#222222", linewidths=1.2)
    axes.axvline(1, color="#222222", linewidth=1)
    axes.set_xscale("log")
    ticks = [0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 40]
    low = min(ratio(case) for key in rows for case in rows[key])
    high = max(ratio(case) for key in rows for case in rows[key])
    ticks = [tick for tick in ticks if low / 1.5 <= tick <= high * 1.5]
    axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks], color="#222222")
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_yticks(range(len(shown)), [f"{row.name} · {count} thread{'s' if count > 1 else ''}" for row, count in reversed(shown)],
                    color="#222222", fontsize=9)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_title("Time of the best peer by convnet's: dots are cases, bars geometric means, diamonds targets", color="#222222",
                   fontsize=10, loc="left")
    for side in ["top", "right", "left"]:
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
