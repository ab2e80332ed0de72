"""Base of the tests of normctl that have a server."""

import io
import os
import sys

import numpy as np

import normctl_process
from normctl_process import NormctlTest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..",
                                "testing"))
from normd_server import NormdServer, cpu_seconds  # noqa: E402, F401


class ServerTest(NormctlTest):
    """One server for all tests; every test has states of its own name."""

    normd = None

    @classmethod
    def setUpClass(cls):
        cls.server = NormdServer(cls.normd)
        cls.address = cls.server.address

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def setUp(self):
        super().setUp()
        self.name = self.id().split(".")[-1]
        self.random = np.random.default_rng(7)

    def save(self, name, array):
        np.save(self.path(name), array)
        return self.path(name)

    @staticmethod
    def bytes_of(array):
        buffer = io.BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()

    def create(self, *arguments):
        return self.json("create", self.name, *arguments)


def main():
    """unittest.main, with the paths of normctl and normd as the first arguments."""
    ServerTest.normd = sys.argv.pop(2)
    normctl_process.main()
