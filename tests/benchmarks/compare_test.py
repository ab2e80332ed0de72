"""The comparison does not rot: a quick run of it writes what it should, and its figures are right.

usage: compare_test.py BUILD_DIR
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

import compare_picture
import compare_report
from compare_report import Cell, Sample

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD_DIR = ""
RUN_SECONDS_MAX = 280

PAYLOADS = (64, 1024, 16384, 262144, 4194304)
# Payloads in TCP and unix rows of the three sections with values, and moments.
ROWS = {"Normalize, pipelined": 10, "Normalize, one in flight": 10,
        "Train with values: RELAXED, output returned, pipelined": 10,
        "Train with moments: DURABLE, one state, pipelined": 2}


def sections(markdown):
    """The text below each heading of the second order."""
    parts = re.split(r"(?m)^## (.*)\n", markdown)
    return dict(zip(parts[1::2], parts[2::2]))


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")]
            for line in text.splitlines() if line.startswith("|")]


def sample(rate, p50=10, p99=20, cpu=5):
    return Sample(rate=rate, p50=p50, p99=p99, cpu=cpu, sent=rate * 100, received=rate * 50)


def all_as_wanted():
    """Three rounds in which normd is the echo's equal and ten times as fast as Python."""
    samples = {}
    for transport in ("TCP", "unix"):
        for floats in PAYLOADS:
            for workload, window in (("normalize", 64), ("normalize", 1), ("train", 64)):
                samples[Cell(workload, transport, floats, window)] = {
                    "normd": [sample(1000)] * 3, "echo": [sample(1000)] * 3,
                    "Python": [sample(100)] * 3}
        samples[Cell("moments", transport, 4096, 64)] = {
            "normd": [sample(1000)] * 3, "echo": [sample(1000)] * 3}
    return samples


class FiguresTest(unittest.TestCase):
    def test_numbers_have_three_digits(self):
        for value, words in [(0, "0.00"), (1.234, "1.23"), (9.996, "10.0"), (99.96, "100"),
                             (999.4, "999"), (999.6, "1.00 k"), (83210, "83.2 k"),
                             (1.5e6, "1.50 M")]:
            self.assertEqual(compare_report.figure(value), words)
        self.assertEqual([compare_report.floats(count) for count in PAYLOADS],
                         ["64", "1 Ki", "16 Ki", "256 Ki", "4 Mi"])

    def test_ratios_are_medians_over_the_rounds(self):
        turns = {"normd": [sample(90), sample(50), sample(300)],
                 "echo": [sample(100), sample(100), sample(200)]}
        self.assertEqual(compare_report.ratio(turns, "normd", "echo", "rate"), 0.9)
        self.assertEqual(compare_report.median(turns, "normd", "rate"), 90)

    def test_nothing_is_below_its_aim_where_all_is_as_wanted(self):
        self.assertEqual(compare_report.shortfalls(all_as_wanted()), [])
        markdown = compare_report.markdown(all_as_wanted(), ["a machine"], 3, "1 s")
        self.assertEqual(sections(markdown)["Below the aims"].strip(), "Nothing.")

    def test_what_is_below_its_aim_is_told(self):
        for cell, normd, words in [
                (Cell("normalize", "TCP", 262144, 64), sample(940), "echo's 0.94, aim 0.95"),
                (Cell("normalize", "unix", 4194304, 64), sample(840), "echo's 0.84, aim 0.85"),
                (Cell("normalize", "TCP", 64, 1), sample(1000, p50=12), "p50 by the echo's 1.20"),
                (Cell("normalize", "TCP", 64, 1), sample(1000, p99=31), "p99 by the echo's 1.55"),
                (Cell("train", "TCP", 1024, 64), sample(840), "echo's 0.84, aim 0.85"),
                (Cell("moments", "TCP", 4096, 64), sample(690), "echo's 0.69, aim 0.7 or more"),
                (Cell("normalize", "TCP", 1024, 1), sample(790), "7.90, aim 8 or more, the echo's"),
                (Cell("normalize", "TCP", 16384, 1), sample(290), "Python server's 2.90, aim 3")]:
            with self.subTest(words=words):
                samples = all_as_wanted()
                samples[cell]["normd"] = [normd] * 3
                found = compare_report.shortfalls(samples)
                self.assertEqual(len([entry for entry in found if words in entry]), 1, found)
                self.assertIn(words, compare_report.markdown(samples, ["a machine"], 3, "1 s"))

    def test_the_picture_has_bars_as_high_as_the_ratios(self):
        samples = all_as_wanted()
        samples[Cell("normalize", "TCP", 64, 64)]["normd"] = [sample(500)] * 3
        picture = ElementTree.fromstring(compare_picture.svg(samples, "a < machine & more"))
        bars = [float(bar.get("height")) for bar in picture.iter() if bar.get("class") == "normd"]
        self.assertEqual(len(bars), 6 * len(PAYLOADS))
        self.assertAlmostEqual(bars[0] / bars[1], 0.5, places=2)


class QuickRunTest(unittest.TestCase):
    def test_one_round_of_two_messages_writes_the_page_and_the_picture(self):
        with tempfile.TemporaryDirectory(prefix="normd_compare_test_") as parent:
            folder = os.path.join(parent, "not", "there")
            done = subprocess.run(
                [os.path.join(HERE, "compare.sh"), "--quick", f"--build-dir={BUILD_DIR}",
                 f"--output={folder}"],
                capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            with open(os.path.join(folder, "compare.md"), encoding="utf-8") as file:
                markdown = file.read()
            picture = ElementTree.parse(os.path.join(folder, "compare.svg"))
        self.assertIn("Linux ", markdown)
        self.assertRegex(markdown, r"a synced write of 4 KiB takes \d+\.\d\d ms")
        self.assertRegex(markdown, r"gRPC \d+\.\d+\.\d+; Python 3\.")
        found = sections(markdown)
        for title, count in ROWS.items():
            table = rows(found[title])
            self.assertEqual(len(table), count + 2, title)
            self.assertEqual({len(row) for row in table}, {len(table[0])}, title)
        self.assertIn("Below the aims", found)
        bars = [bar for bar in picture.iter() if bar.get("class") in ("normd", "Python")]
        self.assertEqual(len(bars), 2 * 6 * len(PAYLOADS))

    def test_a_folder_that_cannot_be_made_is_told_before_anything_is_measured(self):
        done = subprocess.run(
            [os.path.join(HERE, "compare.sh"), f"--build-dir={BUILD_DIR}", "--output=/dev/null/x"],
            capture_output=True, text=True, timeout=10, check=False)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertEqual(done.stderr, "compare: cannot write '/dev/null/x': "
                                      "Not a directory\n")


if __name__ == "__main__":
    BUILD_DIR = os.path.abspath(sys.argv.pop(1))
    unittest.main()
