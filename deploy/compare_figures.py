"""Compares what normd says with what PyTorch printed; used by quickstart.sh. Standard library only.

usage: compare_figures.py input EXAMPLE                      prints the example's batch
       compare_figures.py trained EXAMPLE OUTPUT STATE       after the training step
       compare_figures.py same STATE STATE                   before and after the crash
       compare_figures.py normalized EXAMPLE OUTPUT STATE    eval mode, against its formula

Exits 1 when a figure is off its tolerance.
"""

import json
import math
import sys

# float32 keeps 24 bits; the formula takes four roundings.
EVAL_RELATIVE_MAX = 1e-6


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


class Comparison:
    def __init__(self):
        self.all_agree = True

    def judge(self, what, difference, allowed):
        """Prints the largest difference, and whether it is allowed."""
        agrees = difference <= allowed
        self.all_agree &= agrees
        print(f"  {what}: largest difference {difference:.1e}, allowed {allowed:.0e}: "
              f"{'agrees' if agrees else 'OFF'}")


def row(title, values):
    print(f"  {title:9}" + "".join(f"{value:9.4f}" for value in values))


def largest_difference(actual, expected):
    if len(actual) != len(expected):
        return math.inf
    return max(abs(a - e) for a, e in zip(actual, expected))


def compare_trained(comparison, example, output, state):
    tolerance = example["tolerance"]
    print("  output (each row of the batch by the batch's own statistics)")
    for actual, expected in zip(output, example["output"]):
        row("normd", actual)
        row("PyTorch", expected)
    difference = (math.inf if len(output) != len(example["output"]) else
                  max(map(largest_difference, output, example["output"])))
    comparison.judge("output", difference, tolerance["output_abs"])

    stats = state["running_stats"]
    print("\n  channel   running_mean: normd, PyTorch      running_var: normd, PyTorch")
    for channel, figures in enumerate(zip(stats["running_mean"], example["running_mean"],
                                          stats["running_var"], example["running_var"])):
        print("  {:7}   {:18.4f} {:9.4f}   {:20.4f} {:12.4f}".format(channel, *figures))
    comparison.judge("running_mean",
                     largest_difference(stats["running_mean"], example["running_mean"]),
                     tolerance["running_mean_abs"])
    relative = [actual / expected for actual, expected
                in zip(stats["running_var"], example["running_var"])]
    comparison.judge("running_var (relative)",
                     largest_difference(relative, [1] * len(example["running_var"])),
                     tolerance["running_var_rel"])
    counts = stats["num_batches_tracked"], example["num_batches_tracked"]
    comparison.all_agree &= counts[0] == counts[1]
    print("  num_batches_tracked: normd {}, PyTorch {}: {}".format(
        *counts, "agrees" if counts[0] == counts[1] else "OFF"))


def compare_same(comparison, before, after):
    for field in sorted(before.keys() | after.keys()):
        if before.get(field) != after.get(field):
            comparison.all_agree = False
            print(f"  {field} was {before.get(field)} and is {after.get(field)}: LOST")
    if comparison.all_agree:
        print(f"nothing was lost: all {len(before)} fields are the same, to the last digit "
              f"(revision {after['revision']}, "
              f"num_batches_tracked {after['running_stats']['num_batches_tracked']})")


def compare_normalized(comparison, example, output, state):
    stats, parameters = state["running_stats"], state["parameters"]
    channels = list(zip(stats["running_mean"], stats["running_var"], parameters["weight"],
                        parameters["bias"]))
    worst = 0 if len(output) == len(example["input"]) else math.inf
    print("  (x - running_mean) / sqrt(running_var + eps) * weight + bias")
    for values, actual in zip(example["input"], output):
        expected = [(x - mean) / math.sqrt(var + state["config"]["eps"]) * weight + bias
                    for x, (mean, var, weight, bias) in zip(values, channels)]
        row("normd", actual)
        row("formula", expected)
        scaled = [(a / e if e else a) for a, e in zip(actual, expected)]
        worst = max(worst, largest_difference(scaled, [1 if e else 0 for e in expected]))
    comparison.judge("output (relative)", worst, EVAL_RELATIVE_MAX)


def main(arguments):
    comparisons = {"trained": compare_trained, "same": compare_same,
                   "normalized": compare_normalized}
    mode, *paths = arguments or [""]
    if mode == "input" and len(paths) == 1:
        print(json.dumps(load(paths[0])["input"]))
        return 0
    if mode not in comparisons:
        print(__doc__, file=sys.stderr)
        return 2
    comparison = Comparison()
    comparisons[mode](comparison, *map(load, paths))
    return 0 if comparison.all_agree else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
