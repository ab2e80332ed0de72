"""A real normd in a process of its own, for tests in Python."""

import os
import shutil
import subprocess
import tempfile
import time

START_SECONDS_MAX = 60


def cpu_seconds(process):
    """User and system time of a process so far, to a hundredth of a second."""
    with open(f"/proc/{process.pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class NormdServer:
    """Starts a server on a fresh data folder and waits until it serves; `with` ends it."""

    def __init__(self, binary, *flags):
        self._scratch = tempfile.mkdtemp(prefix="normd_test_")
        self._log_path = os.path.join(self._scratch, "log")
        port_file = os.path.join(self._scratch, "ports")
        with open(self._log_path, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "--listen=127.0.0.1:0", f"--port-file={port_file}",
                 f"--data-dir={self._scratch}/states", *flags],
                stdout=log, stderr=subprocess.STDOUT)
        self.address = self._wait_for_address(port_file)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self._scratch)

    def log(self):
        with open(self._log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def _wait_for_address(self, port_file):
        deadline = time.monotonic() + START_SECONDS_MAX
        while not os.path.exists(port_file):
            try:
                code = self.process.wait(timeout=0.01)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                code = f"none within {START_SECONDS_MAX} s"
            log = self.log()
            self.__exit__()
            raise RuntimeError(f"normd did not serve; exit code {code}\n{log}")
        with open(port_file, encoding="utf-8") as file:
            return file.readline().strip()
