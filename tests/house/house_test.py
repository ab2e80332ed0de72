"""Scans the tree for what the house does not allow, and proves that each rule can fail.

usage: house_test.py ROOT
"""

import os
import sys
import unittest

import house_rules as rules

ROOT = ""
SKIPPED_FOLDERS = {".git", "build", "__pycache__"}


def read_tree(root):
    tree = {}
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                tree[os.path.relpath(path, root)] = file.read().decode("utf-8", "replace")
    return tree


class HouseTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tree = read_tree(ROOT)

    def test_tree_was_found(self):
        for path in ("core/base/error.h", "proto/normd/v1/errors.proto", "tests/CMakeLists.txt"):
            self.assertIn(path, self.tree)

    def test_no_rule_is_broken(self):
        findings = [finding for rule in rules.RULES for finding in rule(self.tree)]
        self.assertEqual([], findings, "\n" + "\n".join(findings))

    def test_scripts_can_be_run(self):
        for path, text in self.tree.items():
            if text.startswith("#!"):
                self.assertTrue(os.access(os.path.join(ROOT, path), os.X_OK), f"chmod +x {path}")


def guarded(path, body):
    guard = "NORMD_" + path.replace("/", "_").replace(".", "_").upper() + "_"
    return f"#ifndef {guard}\n#define {guard}\n{body}\n#endif  // {guard}\n"


# (rule, files planted in an otherwise clean tree, words of the finding)
PLANTED = [
    (rules.check_includes, {"core/base/a.h": '#include "core/norm/b.h"\n',
                            "core/norm/b.h": ""}, "core/base may not include core/norm/b.h"),
    (rules.check_includes, {"core/kernels/a.cc": '#include "core/norm/b.h"\n',
                            "core/norm/b.h": ""}, "core/kernels may not include"),
    (rules.check_includes, {"core/store/a.cc": '#include "core/norm/b.h"\n',
                            "core/norm/b.h": ""}, "core/store may not include"),
    (rules.check_includes, {"core/registry/a.cc": '#include "server/b.h"\n',
                            "server/b.h": ""}, "core/registry may not include server/b.h"),
    (rules.check_includes, {"client/cpp/a.cc": '#include "core/registry/b.h"\n',
                            "core/registry/b.h": ""}, "client/cpp may not include"),
    (rules.check_includes, {"server/a.cc": '#include "client/cpp/b.h"\n',
                            "client/cpp/b.h": ""}, "server may not include"),
    (rules.check_includes, {"server/a.cc": '#include "tests/testing/b.h"\n',
                            "tests/testing/b.h": ""}, "server may not include"),
    (rules.check_includes, {"core/state/a.cc": "#include <grpcpp/grpcpp.h>\n"}, "grpcpp/grpcpp.h"),
    (rules.check_includes, {"core/state/a.cc": '#include "normd/v1/state.pb.h"\n'}, "normd/v1"),
    (rules.check_includes, {"core/registry/a.cc": '#include "spdlog/spdlog.h"\n'}, "spdlog"),
    (rules.check_includes, {"core/registry/a.cc": '#include "prometheus/gauge.h"\n'}, "prometheus"),
    (rules.check_includes, {"core/norm/a.cc": '#include "hwy/highway.h"\n'}, "hwy/highway.h"),
    (rules.check_includes, {"server/a.cc": '#include "rocksdb/db.h"\n'}, "rocksdb/db.h"),
    (rules.check_includes, {"server/a.cc": '#include "core/base/gone.h"\n'}, "not there"),
    (rules.check_includes, {"core/other/a.cc": ""}, "expected one of the folders"),
    (rules.check_rocksdb_in_one_file, {"core/store/a.cc": '#include "rocksdb/db.h"\n',
                                       "core/store/b.cc": '#include "rocksdb/db.h"\n'},
     "one .cc alone"),
    (rules.check_rocksdb_in_one_file, {"core/store/a.h": '#include "rocksdb/db.h"\n'},
     "this is a header"),
    (rules.check_wire_errors_in_one_place,
     {"server/a.cc": '#include "google/rpc/error_details.pb.h"\n'}, "server/grpc_status.cc alone"),
    (rules.check_header_guards, {"core/base/a.h": "#pragma once\n"}, "NORMD_CORE_BASE_A_H_"),
    (rules.check_banned, {"tests/core/a.cc": "  absl::SleepFor(x);\n"}, "not a sleep"),
    (rules.check_banned, {"tests/a.py": "  time.sleep(1)\n"}, "not a sleep"),
    (rules.check_banned, {"core/base/a.cc": "  std::cout << 1;\n"}, "prints nothing"),
    (rules.check_banned, {"core/base/a.cc": "  std::abort();\n"}, "ends the process"),
    (rules.check_banned, {"server/a.cc": "using namespace std;\n"}, "name what is used"),
    (rules.check_banned, {"server/a.cc": "  thread.detach();\n"}, "join threads"),
    (rules.check_banned, {"server/a.cc": "  int x = rand();\n"}, "printed seed"),
    (rules.check_banned, {"tests/core/a.cc": "  std::random_device seed;\n"}, "SeededRandom"),
    (rules.check_banned, {"server/a.h": "void F(std::string_view x);\n"}, "absl::string_view"),
    (rules.check_banned, {"server/a.cc": "  } catch (...) {\n"}, "catch what"),
    (rules.check_banned, {"tests/a.py": "  except:\n"}, "catch what"),
    (rules.check_banned, {"server/a.cc": "int x;  // NOLINT\n"}, "the reason"),
    (rules.check_banned, {"server/a.cc": "int x;  // NOLINT(google-x)\n"}, "the reason"),
    (rules.check_banned, {"server/a.cc": "// TODO: later\n"}, "finish it"),
    (rules.check_banned, {"tests/a.cc": "TEST(A, DISABLED_B) {\n"}, "mend the test"),
    (rules.check_banned, {"CMakeLists.txt": "add_compile_options(-march=native)\n"}, "run time"),
    (rules.check_banned, {"deploy/a.sh": "cd /root/x\n"}, "one machine"),
    (rules.check_banned, {"server/a.cc": "\tint x;\n"}, "not tabs"),
    (rules.check_banned, {"server/a.cc": "int x; \n"}, "end of a line"),
    (rules.check_size, {"server/a.cc": "\n" * 501}, "501 lines"),
    (rules.check_size, {"server/a.cc": "x" * 101}, "101 columns"),
    (rules.check_last_line, {"server/a.cc": "int x;"}, "exactly one line break"),
    (rules.check_last_line, {"server/a.cc": "int x;\n\n"}, "exactly one line break"),
    (rules.check_top_level, {"docs/a.md": ""}, "docs:1"),
    (rules.check_sources_are_built, {"core/base/a.cc": "",
                                     "core/base/CMakeLists.txt": "SRCS ba.cc"}, "nothing builds"),
    (rules.check_sources_are_built, {"tests/x/a_test.cc": "",
                                     "tests/x/CMakeLists.txt": "foreach(n b) ${n}_test.cc"},
     "nothing builds"),
    (rules.check_tests_are_reached, {"tests/x/CMakeLists.txt": "",
                                     "tests/CMakeLists.txt": "core"}, "never sees it"),
    (rules.check_readme_code, {"README.md": "```cpp\nint x;\nint y;\n```\n",
                               "tests/a.cc": "int x;\nint z;\n"}, "'int x;' and what follows"),
    (rules.check_proto_comments, {"proto/a.proto": "message A {\n}\n"}, "A has no comment"),
    (rules.check_proto_comments, {"proto/a.proto": "  repeated int64 b = 1;\n"}, "b has no"),
    (rules.check_proto_comments, {"proto/a.proto": "  optional x.Y c = 2 [packed = true];\n"},
     "c has no"),
    (rules.check_proto_comments, {"proto/a.proto": "  D_E = 3;\n"}, "D_E has no comment"),
    (rules.check_proto_comments, {"proto/a.proto": "  rpc F(A) returns (B);\n"}, "F has no"),
    (rules.check_proto_comments, {"proto/a.proto": "service G {\n"}, "G has no comment"),
    (rules.check_proto_comments, {"proto/a.proto": "  oneof h {\n"}, "h has no comment"),
]

ERRORS_PROTO = "  // NOT_FOUND: no such.\n  A_B = 1;\n"
ERROR_H = "  kAB = 1,\n"
ERROR_CC = '{Reason::kAB, "A_B", absl::StatusCode::kNotFound}'
# (errors.proto, error.h, error.cc, words of the finding)
PLANTED_ERRORS = [
    (ERRORS_PROTO, "  kAB = 2,\n", ERROR_CC, "expected A_B = 1"),
    (ERRORS_PROTO, ERROR_H, ERROR_CC.replace("NotFound", "Aborted"), "with NOT_FOUND"),
    (ERRORS_PROTO, ERROR_H, "", "expected a row for A_B"),
    ("", ERROR_H, ERROR_CC, "is no ErrorReason"),
    (ERRORS_PROTO.replace("NOT_FOUND: ", ""), ERROR_H, ERROR_CC, "must begin with the code"),
]


class RulesTest(unittest.TestCase):
    def test_each_rule_finds_what_was_planted(self):
        for rule, tree, words in PLANTED:
            with self.subTest(rule=rule.__name__, tree=tree):
                self.assertTrue(any(words in finding for finding in rule(tree)),
                                f"expected '{words}' in {list(rule(tree))}")

    def test_each_rule_has_a_plant(self):
        planted = {rule for rule, _, _ in PLANTED} | {rules.check_error_table}
        self.assertEqual(set(rules.RULES), planted)

    def test_clean_files_pass(self):
        tree = {
            "core/norm/a.h": guarded("core/norm/a.h", '#include "core/tensor/b.h"'),
            "core/tensor/b.h": guarded("core/tensor/b.h", "#include <string>"),
            "core/store/c.cc": '#include "rocksdb/db.h"\nint x;  // NOLINT(google-x): reason\n',
            "core/store/CMakeLists.txt": "foreach(name c d) SRCS ${name}.cc",
            "core/base/error.h": guarded("core/base/error.h", ERROR_H),
            "core/base/error.cc": ERROR_CC + "\n",
            "core/base/CMakeLists.txt": "SRCS error.cc",
            "proto/normd/v1/errors.proto": ERRORS_PROTO,
            "tests/core/d.py": "cursor.sleepless(1)\n",
            ".ci/run": "true\n",
        }
        for path in list(tree):
            if path.endswith("CMakeLists.txt"):
                tree[path] += "\n"
        self.assertEqual([], [finding for rule in rules.RULES for finding in rule(tree)])

    def test_error_tables_that_differ_are_found(self):
        for proto, header, table, words in PLANTED_ERRORS:
            with self.subTest(words=words):
                tree = {"proto/normd/v1/errors.proto": proto, "core/base/error.h": header,
                        "core/base/error.cc": table}
                findings = list(rules.check_error_table(tree))
                self.assertTrue(any(words in finding for finding in findings), findings)


if __name__ == "__main__":
    ROOT = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=1)
