"""What compare.py measured, as Markdown, and what of it is below its aim.

`samples` is {Cell: {server's name: [Sample of every round]}}; the servers are "normd", "echo" and
"Python".
"""

import collections
import statistics

# `floats` values in a message, `window` messages in flight.
Cell = collections.namedtuple("Cell", "workload transport floats window")

# Of one turn: messages a second; microseconds of latency; microseconds of the server's CPU a
# message; bytes a second of messages sent and of answers.
Sample = collections.namedtuple("Sample", "rate p50 p99 cpu sent received")

SECTIONS = [
    ("normalize", True, "Normalize, pipelined"),
    ("normalize", False, "Normalize, one in flight"),
    ("train", True, "Train with values: RELAXED, output returned, pipelined"),
    ("moments", True, "Train with moments: DURABLE, one state, pipelined"),
]

INTRODUCTION = """\
`tests/benchmarks/compare.sh` wrote this page. In every cell the servers take turns of {turn},
{rounds} each, driven by the same `normctl bench`; figures are medians over the rounds, ratios are
medians of the ratios within a round, CPU is that of the server a message. The echo is a completion
queue that sends every message back as it came; the Python server is `grpcio` around
`torch.nn.BatchNorm1d`.

"""


def figure(value):
    """Three digits: "12.3", "1.23 k", "123 M"."""
    prefix = 0
    while value >= 999.5 and prefix < 3:
        value /= 1000
        prefix += 1
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}{['', ' k', ' M', ' G'][prefix]}"


def floats(count):
    """64, "16 Ki", "4 Mi"."""
    for power, prefix in ((20, " Mi"), (10, " Ki")):
        if count >= 1 << power and count % (1 << power) == 0:
            return f"{count >> power}{prefix}"
    return str(count)


def median(samples, name, field):
    return statistics.median(getattr(sample, field) for sample in samples[name])


def ratio(samples, one, other, field):
    """The median over the rounds of one's figure by the other's in the same round."""
    return statistics.median(getattr(a, field) / getattr(b, field)
                             for a, b in zip(samples[one], samples[other]) if getattr(b, field))


def line(cell, samples):
    """The last round of a cell, for the one who waits."""
    rates = ", ".join(f"{name} {figure(turns[-1].rate)}/s" for name, turns in samples.items())
    return (f"{cell.workload:9} {cell.transport:4} {floats(cell.floats):>6} floats, window "
            f"{cell.window:2}: {rates}")


def cells_of(samples, workload, is_pipelined):
    cells = [cell for cell in samples
             if cell.workload == workload and (cell.window > 1) == is_pipelined]
    return sorted(cells, key=lambda cell: (cell.transport, cell.floats))


def table(rows):
    """Rows of cells, titles first, as Markdown; all but the first column to the right."""
    bars = [":--" if i == 0 else "--:" for i in range(len(rows[0]))]
    return "".join(f"| {' | '.join(row)} |\n" for row in [rows[0], bars, *rows[1:]])


def titles(group, names):
    """Titles of neighbouring columns, the first with what they have in common."""
    return [f"{group}: {names[0]}", *names[1:]]


def medians(samples, field):
    return [figure(median(samples, name, field)) for name in samples]


def pipelined_table(samples, cells):
    names = list(samples[cells[0]])
    rows = [["transport", "floats", "window", *titles("messages/s", names),
             *titles("ratio", [f"normd/{name}" for name in names if name != "normd"]),
             *titles("normd, MB/s", ["sent", "received"]), *titles("server CPU us", names)]]
    for cell in cells:
        turns = samples[cell]
        rows.append([cell.transport, floats(cell.floats), str(cell.window),
                     *medians(turns, "rate"),
                     *(f"{ratio(turns, 'normd', name, 'rate'):.2f}"
                       for name in names if name != "normd"),
                     *(figure(median(turns, "normd", field) / 1e6)
                       for field in ("sent", "received")),
                     *medians(turns, "cpu")])
    return table(rows)


def latency_table(samples, cells):
    names = list(samples[cells[0]])
    rows = [["transport", "floats", *titles("p50 us", names), "normd/echo",
             *titles("p99 us", names), "normd/echo", "messages/s: normd/Python",
             *titles("server CPU us", names)]]
    for cell in cells:
        turns = samples[cell]
        row = [cell.transport, floats(cell.floats)]
        for field in ("p50", "p99"):
            row += medians(turns, field)
            row.append(f"{ratio(turns, 'normd', 'echo', field):.2f}")
        rows.append([*row, f"{ratio(turns, 'normd', 'Python', 'rate'):.2f}",
                     *medians(turns, "cpu")])
    return table(rows)


def echo_aim(cell):
    """The least of the echo's messages/s that normd is to reach; None where latency is the aim."""
    if cell.window == 1:
        return None
    if cell.workload == "normalize":
        return 0.95 if cell.floats <= 256 << 10 else 0.85
    return {"train": 0.85, "moments": 0.7}[cell.workload]


def shortfalls(samples):
    """What is below its aim, a line each."""
    found = []

    def check(cell, what, value, aim, is_enough):
        if not is_enough:
            found.append(f"{cell.workload}, {cell.transport}, {floats(cell.floats)} floats, window "
                         f"{cell.window}: {what} {value:.2f}, aim {aim}")

    for cell, turns in samples.items():
        aim = echo_aim(cell)
        if aim is not None:
            value = ratio(turns, "normd", "echo", "rate")
            check(cell, "messages/s by the echo's", value, f"{aim} or more", value >= aim)
        else:
            for field, most in (("p50", 1.15), ("p99", 1.5)):
                value = ratio(turns, "normd", "echo", field)
                check(cell, f"{field} by the echo's", value, f"{most} or less", value <= most)
        if "Python" in turns:
            value, aim = ratio(turns, "normd", "Python", "rate"), 8 if cell.floats <= 1024 else 3
            of_echo = ratio(turns, "echo", "Python", "rate")
            check(cell, "messages/s by the Python server's", value,
                  f"{aim} or more, the echo's {of_echo:.2f}", value >= aim)
    return found


def markdown(samples, machine, rounds, turn):
    text = "# normd, a bare gRPC echo and a Python server\n\n"
    text += INTRODUCTION.format(turn=turn, rounds=rounds)
    text += "".join(f"- {entry}\n" for entry in machine)
    text += "\n![messages a second, in percent of the echo's](compare.svg)\n"
    for workload, is_pipelined, title in SECTIONS:
        cells = cells_of(samples, workload, is_pipelined)
        make = pipelined_table if is_pipelined else latency_table
        text += f"\n## {title}\n\n{make(samples, cells)}"
    text += "\n## Below the aims\n\n"
    found = shortfalls(samples)
    return text + ("".join(f"- {entry}\n" for entry in found) or "Nothing.\n")
