"""Runs the real normctl and checks what it prints and how it ends."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

RUN_SECONDS_MAX = 60

OK, ERROR, USAGE, NOT_FOUND, ALREADY_EXISTS, REFUSED, UNAVAILABLE, INPUT = range(8)


class NormctlTest(unittest.TestCase):
    """Base of the tests; `binary` is set by main, `address` by the tests that have a server."""

    binary = None
    address = None

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="normctl_test_")
        self.addCleanup(scratch.cleanup)
        self.scratch = scratch.name

    def path(self, name):
        return os.path.join(self.scratch, name)

    def environment(self):
        environment = dict(os.environ)
        environment.pop("NORMD_ADDRESS", None)
        if self.address:
            environment["NORMD_ADDRESS"] = self.address
        return environment

    def run_normctl(self, *arguments, stdin=b"", code=OK):
        """Runs normctl and expects an exit code; returns standard output and error as bytes."""
        done = subprocess.run([self.binary, *arguments], input=stdin, capture_output=True,
                              timeout=RUN_SECONDS_MAX, env=self.environment(), check=False)
        self.assertEqual(done.returncode, code,
                         f"{arguments}\nstdout: {done.stdout!r}\nstderr: {done.stderr!r}")
        return done.stdout, done.stderr

    def out(self, *arguments, stdin=b""):
        """Standard output of a run that succeeds, as text."""
        return self.run_normctl(*arguments, stdin=stdin)[0].decode()

    def json(self, *arguments, stdin=b""):
        """The one JSON value that a run with --json prints."""
        return json.loads(self.out(*arguments, "--json", stdin=stdin))

    def failure(self, code, *arguments, stdin=b""):
        """Standard error of a run that fails with `code`, as text."""
        return self.run_normctl(*arguments, stdin=stdin, code=code)[1].decode()


def main():
    """unittest.main, with the path of normctl as the first argument."""
    NormctlTest.binary = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
