"""Runs the comparison of compare.sh, which see."""

import argparse
import collections
import importlib.metadata
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import compare_picture
import compare_report
from compare_report import Cell, Sample

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "testing"))
from normd_server import cpu_seconds  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
START_SECONDS_MAX = 60
RUN_SECONDS_MAX = 300
QUICK_MESSAGES = 2
SYNCED_WRITES = 201

# Values in a message: (shape, messages in flight when pipelined). Every channel has two values or
# more, without which there is no training.
PAYLOADS = {64: ("2,32", 64), 1024: ("16,64", 64), 16384: ("256,64", 16),
            262144: ("4096,64", 8), 4194304: ("65536,64", 4)}
MOMENTS_FLOATS = 4096
MOMENTS_SHAPE = "64,64"
MOMENTS_WINDOW = 64

# What normctl bench is told.
WORKLOADS = {
    "normalize": ["--mode", "normalize"],
    "train": ["--mode", "train", "--durability", "relaxed"],
    "moments": ["--mode", "train-moments", "--durability", "durable"],
}


class ServerProcess:
    """A server of its own that listens on a free TCP port and on a unix socket."""

    def __init__(self, name, command, scratch):
        self.name = name
        self._log_path = os.path.join(scratch, f"{name}.log")
        port_file = os.path.join(scratch, f"{name}.ports")
        with open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(
                [*command, "--listen=127.0.0.1:0", f"--listen=unix:{scratch}/{name}.sock",
                 f"--port-file={port_file}"], stdout=log, stderr=subprocess.STDOUT)
        tcp, unix = self._wait_for_addresses(port_file)
        self.addresses = {"TCP": tcp, "unix": unix}

    def _wait_for_addresses(self, port_file):
        deadline = time.monotonic() + START_SECONDS_MAX
        while not os.path.exists(port_file):
            try:
                code = self._process.wait(timeout=0.01)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                code = f"none within {START_SECONDS_MAX} s"
            self.stop()
            raise RuntimeError(f"{self.name} did not serve; exit code {code}\n{self.log()}")
        with open(port_file, encoding="utf-8") as file:
            return file.read().split()

    def log(self):
        with open(self._log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def cpu_seconds(self):
        return cpu_seconds(self._process)

    def stop(self):
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start_servers(build_dir, scratch):
    binaries = os.path.join(build_dir, "bin")
    commands = {
        "normd": [f"{binaries}/normd", f"--data-dir={scratch}/states", "--log-level=warning"],
        "echo": [f"{binaries}/echo_server"],
        "Python": [sys.executable, "-B", os.path.join(HERE, "python_server.py"),
                   f"--stubs={build_dir}/python"],
    }
    servers = []
    try:
        for name, command in commands.items():
            servers.append(ServerProcess(name, command, scratch))
    except RuntimeError:
        stop_servers(servers)
        raise
    return servers


def stop_servers(servers):
    for server in servers:
        server.stop()


def all_cells():
    """Every cell with its shape."""
    cells = {}
    for transport in ("TCP", "unix"):
        for floats, (shape, window) in PAYLOADS.items():
            cells[Cell("normalize", transport, floats, window)] = shape
            cells[Cell("normalize", transport, floats, 1)] = shape
            cells[Cell("train", transport, floats, window)] = shape
        cells[Cell("moments", transport, MOMENTS_FLOATS, MOMENTS_WINDOW)] = MOMENTS_SHAPE
    return cells


def run_bench(arguments, server, cell, shape):
    """One turn of a server in a cell."""
    command = [os.path.join(arguments.build_dir, "bin", "normctl"), "bench", "--json",
               "--address", server.addresses[cell.transport], "--shape", shape,
               "--window", str(cell.window), "--seed", "1",
               "--prefix", f"{cell.workload}/{cell.floats}/", *WORKLOADS[cell.workload]]
    if server.name != "normd":
        command += ["--peer", "any"]
    if arguments.quick:
        command += ["--messages", str(QUICK_MESSAGES)]
    else:
        command += ["--duration", str(arguments.seconds), "--warmup", str(arguments.seconds / 5)]
    cpu_before = server.cpu_seconds()
    done = subprocess.run(command, capture_output=True, timeout=RUN_SECONDS_MAX, check=False)
    cpu = server.cpu_seconds() - cpu_before
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\nexit code {done.returncode}\n"
                           f"{done.stdout.decode()}{done.stderr.decode()}"
                           f"{server.name} says:\n{server.log()}")
    result = json.loads(done.stdout)
    if not result["messages"]:
        raise RuntimeError(f"{' '.join(command)}\nno message was answered within "
                           f"{arguments.seconds} s: give more --seconds")
    return Sample(rate=result["messages_per_second"], p50=result["latency_us"]["p50"],
                  p99=result["latency_us"]["p99"], cpu=1e6 * cpu / result["answered"],
                  sent=result["sent_bytes_per_second"],
                  received=result["received_bytes_per_second"])


def compare(arguments, servers):
    """{cell: {server's name: [sample of every round]}}."""
    samples = collections.defaultdict(lambda: collections.defaultdict(list))
    cells = all_cells()
    begin = time.monotonic()
    for number in range(1, arguments.rounds + 1):
        for cell, shape in cells.items():
            for server in servers:
                # The Python server takes values alone.
                if cell.workload == "moments" and server.name == "Python":
                    continue
                samples[cell][server.name].append(run_bench(arguments, server, cell, shape))
            print(f"{time.monotonic() - begin:6.0f} s  round {number} of {arguments.rounds}  "
                  f"{compare_report.line(cell, samples[cell])}", flush=True)
    return samples


def first_match(path, pattern):
    with open(path, encoding="utf-8") as file:
        match = re.search(pattern, file.read(), re.MULTILINE)
    return match.group(1).strip() if match else "unknown"


def said(*command):
    """The one line that a command prints."""
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


def synced_write_seconds(folder):
    """The median time that a write of 4 KiB at the end of a file takes until it is on disk."""
    times = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(SYNCED_WRITES):
            begin = time.monotonic()
            file.write(b"\1" * 4096)
            os.fdatasync(file.fileno())
            times.append(time.monotonic() - begin)
    return statistics.median(times)


def machine(build_dir, scratch):
    """What was measured on, a line each."""
    versions = [f"{name} {importlib.metadata.version(name).partition('+')[0]}"
                for name in ("grpcio", "torch")]
    return [
        f"{first_match('/proc/cpuinfo', r'^model name.*?:(.*)')}, {os.cpu_count()} cores",
        f"Linux {platform.release()}, TCP congestion control "
        f"{first_match('/proc/sys/net/ipv4/tcp_congestion_control', '(.*)')}",
        f"{said(f'{build_dir}/bin/echo_server', '--version')}; Python {platform.python_version()}, "
        f"{', '.join(versions)}",
        f"client and server share these cores; normd's states are in RocksDB on "
        f"{said('stat', '-f', '-c', '%T', scratch)}, where a synced write of 4 KiB takes "
        f"{1e3 * synced_write_seconds(scratch):.2f} ms",
    ]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build-dir", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or not arguments.seconds > 0:
        parser.error("expected --rounds of 1 or more and --seconds above 0")
    if arguments.quick:
        arguments.rounds = 1
    return arguments


def main():
    arguments = parse_arguments()
    paths = [os.path.join(arguments.output, name) for name in ("compare.md", "compare.svg")]
    try:
        # Before the quarter of an hour whose results go there.
        os.makedirs(arguments.output, exist_ok=True)
        for path in paths:
            with open(path, "a", encoding="utf-8"):
                pass
    except OSError as error:
        print(f"compare: cannot write '{error.filename}': {error.strerror}", file=sys.stderr)
        return 1
    scratch = tempfile.mkdtemp(prefix="normd_compare_")
    servers = []
    try:
        servers = start_servers(arguments.build_dir, scratch)
        samples = compare(arguments, servers)
        lines = machine(arguments.build_dir, scratch)
    except RuntimeError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    finally:
        stop_servers(servers)
        shutil.rmtree(scratch)
    turn = f"{QUICK_MESSAGES} messages" if arguments.quick else f"{arguments.seconds} s"
    for path, text in zip(paths, [
            compare_report.markdown(samples, lines, arguments.rounds, turn),
            compare_picture.svg(samples, lines[0])]):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        print(f"wrote {path}")
    if not arguments.quick:
        for shortfall in compare_report.shortfalls(samples):
            print(f"below the aim: {shortfall}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
