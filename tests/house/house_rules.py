"""The rules of the house, each a function from a tree of files to findings.

A tree is a dict from path (relative to the root, '/' between parts) to text. A finding is one line:
"path:line: what was expected and what came".
"""

import re

# What every folder may include of ours, itself always among it (DESIGN: base <- tensor <- kernels
# <- norm <- state <- registry <- server, base <- store <- registry; the client depends on the wire
# alone, and on the kernels for local moments).
ALLOWED_ARROWS = {
    "proto/wire": [],
    "core/base": [],
    "core/tensor": ["core/base"],
    "core/kernels": ["core/base", "core/tensor"],
    "core/norm": ["core/base", "core/tensor", "core/kernels"],
    "core/state": ["core/base", "core/tensor", "core/kernels", "core/norm"],
    "core/store": ["core/base"],
    "core/registry": ["core/base", "core/tensor", "core/kernels", "core/norm", "core/state",
                      "core/store"],
    "server": ["proto/wire", "core/base", "core/tensor", "core/kernels", "core/norm", "core/state",
               "core/store", "core/registry"],
    "client/cpp": ["proto/wire", "core/base", "core/tensor", "core/kernels"],
    "client/load": ["client/cpp"],
    "client/cli": ["client/cpp", "client/load"],
}

# Headers of others (and generated ones) that only some folders may include. Tests may include any.
ALLOWED_FOREIGN = [
    ("normd/v1/", ["proto/wire", "server", "client/cpp", "client/load"]),
    ("google/rpc/", ["server", "client/cpp", "client/load"]),
    ("normd/storage/", ["core/state"]),
    ("grpc", ["server", "client/cpp", "client/load"]),
    ("prometheus/", ["server"]),
    ("spdlog/", ["server"]),
    ("CLI/", ["server", "client/cli"]),
    ("hwy/", ["core/kernels"]),
    ("isa-l/", ["core/base"]),
    ("immintrin.h", ["core/kernels"]),
    ("rocksdb/", ["core/store"]),
]

TOP_LEVEL = {
    "proto", "server", "client", "core", "tests", "deploy", "CMakeLists.txt", "CMakePresets.json",
    "Dockerfile", "README.md", "LICENSE",
}

LINES_MAX = 500
COLUMNS_MAX = 100

CODE = r"\.(cc|h)$"
TEXT = r"(\.(cc|h|proto|py|sh|cmake|md|yaml|yml)|CMakeLists\.txt|Dockerfile|\.ci/run)$"
# The rules themselves must spell what they forbid.
HOUSE = r"^tests/house/"

# (paths, pattern, what to do instead)
BANNED = [
    (r"^tests/.*\.(cc|h|py)$",
     r"\b(sleep_for|sleep_until|SleepFor|usleep|nanosleep|time\.sleep)\b|(?<![\w.:])sleep\(",
     "wait on a condition or use a fake clock, not a sleep"),
    (r"^(core|client/cpp)/.*" + CODE, r"\bstd::(cout|cerr|clog)\b|\b(f?printf|puts)\(",
     "a library prints nothing"),
    (r"^core/.*" + CODE, r"\b(getenv|exit|abort|quick_exit)\(",
     "core neither reads the environment nor ends the process"),
    (CODE, r"\busing namespace\b", "name what is used"),
    (CODE, r"\.detach\(\)", "join threads"),
    (CODE, r"\b(std::)?s?rand\(", "use <random> with a printed seed"),
    (r"^tests/(?!benchmarks/|testing/seeded_random\.cc).*" + CODE, r"\brandom_device\b",
     "use SeededRandom, whose seed can be given"),
    (r"^(core|server|client)/.*\.h$", r"\bstd::string_view\b",
     "absl::string_view stands in our interfaces"),
    (CODE, r"catch \(\.\.\.\)", "catch what is expected"),
    (r"\.py$", r"\bexcept( Exception)?:", "catch what is expected"),
    (CODE, r"NOLINT(?!(NEXTLINE|BEGIN|END)?\([a-z])|//\s*NOLINT\w*\([^)]*\)\s*$",
     "name the check, and the reason beside it"),
    (TEXT, r"\b(TODO|FIXME|XXX|HACK)\b", "finish it or leave it out"),
    (CODE, r"\bDISABLED_", "mend the test or delete it"),
    (r"(CMakeLists\.txt|\.cmake)$", r"-march=", "one binary runs everywhere: dispatch at run time"),
    (TEXT, r"(?<![\w./-])/(work|root|home)/", "no path of one machine"),
    (TEXT, r"\t", "spaces, not tabs"),
    (TEXT, r"[ \t]+$", "no space at the end of a line"),
]


def folder_of(path, folders):
    """The longest of `folders` that holds `path`, or None."""
    holding = [f for f in folders if path.startswith(f + "/")]
    return max(holding, key=len) if holding else None


def numbered(text):
    return enumerate(text.split("\n"), start=1)


def includes(text):
    """(line number, path) of every #include."""
    for number, line in numbered(text):
        match = re.match(r'\s*#\s*include\s+["<]([^">]+)[">]', line)
        if match:
            yield number, match.group(1)


def check_includes(tree):
    ours = re.compile(r"^(core|server|client|tests)/")
    for path, text in tree.items():
        if not re.search(CODE, path):
            continue
        folder = folder_of(path, ALLOWED_ARROWS)
        if folder is None and not path.startswith("tests/"):
            yield f"{path}:1: expected one of the folders {', '.join(ALLOWED_ARROWS)}"
            continue
        for number, included in includes(text):
            if ours.match(included):
                if included not in tree:
                    yield f"{path}:{number}: includes {included}, which is not there"
                elif folder is not None and folder_of(included, ALLOWED_ARROWS) not in (
                        [folder] + ALLOWED_ARROWS[folder]):
                    yield f"{path}:{number}: {folder} may not include {included}"
            elif folder is not None:
                for prefix, allowed in ALLOWED_FOREIGN:
                    if included.startswith(prefix) and folder not in allowed:
                        yield (f"{path}:{number}: {included} may be included in "
                               f"{', '.join(allowed)} alone")


def check_rocksdb_in_one_file(tree):
    users = sorted(path for path, text in tree.items()
                   if re.search(CODE, path) and not path.startswith("tests/")
                   and any(included.startswith("rocksdb/") for _, included in includes(text)))
    for path in users:
        if not path.endswith(".cc"):
            yield f"{path}:1: RocksDB headers are for one .cc, this is a header"
    if len(users) > 1:
        yield f"{users[1]}:1: RocksDB headers are for one .cc alone, and {users[0]} has them too"


def check_wire_errors_in_one_place(tree):
    for path, text in tree.items():
        if not re.match(r"server/.*" + CODE, path) or path.startswith("server/grpc_status."):
            continue
        for number, included in includes(text):
            if included.startswith("google/rpc/error_details"):
                yield f"{path}:{number}: error details are made in server/grpc_status.cc alone"


def check_header_guards(tree):
    for path, text in tree.items():
        if path.endswith(".h") and not path.endswith("-inl.h"):
            guard = "NORMD_" + re.sub(r"[^A-Za-z0-9]", "_", path).upper() + "_"
            if f"#ifndef {guard}\n#define {guard}\n" not in text:
                yield f"{path}:1: expected the header guard {guard}"


def check_banned(tree):
    for path, text in tree.items():
        if re.search(HOUSE, path):
            continue
        for paths, pattern, instead in BANNED:
            if not re.search(paths, path):
                continue
            for number, line in numbered(text):
                match = re.search(pattern, line)
                if match:
                    yield f"{path}:{number}: '{match.group(0)}': {instead}"


def check_size(tree):
    for path, text in tree.items():
        if not re.search(r"\.(cc|h|py|sh|proto)$", path):
            continue
        count = text.count("\n")
        if count > LINES_MAX:
            yield f"{path}:{count}: {count} lines; split by subject at {LINES_MAX}"
        for number, line in numbered(text):
            if len(line) > COLUMNS_MAX:
                yield f"{path}:{number}: {len(line)} columns, expected at most {COLUMNS_MAX}"


def check_last_line(tree):
    for path, text in tree.items():
        if re.search(TEXT, path) and text and (not text.endswith("\n") or text.endswith("\n\n")):
            yield f"{path}:1: expected exactly one line break at the end of the file"


def check_top_level(tree):
    for entry in sorted({path.split("/")[0] for path in tree}):
        if entry not in TOP_LEVEL and not entry.startswith("."):
            yield f"{entry}:1: not one of the top-level entries {', '.join(sorted(TOP_LEVEL))}"


def is_listed(name, lists):
    """Whether a CMakeLists.txt names a file, or a loop over its stem as in ${name}_test.cc does."""
    if re.search(rf"(?<![\w/]){re.escape(name)}(?!\w)", lists):
        return True
    stems = (name[:-len(end)] for end in re.findall(r"\$\{\w+\}(\w*\.cc)", lists)
             if name.endswith(end))
    return any(re.search(rf"(?<![\w/]){re.escape(stem)}(?!\w)", lists) for stem in stems)


def check_sources_are_built(tree):
    for path in tree:
        if not path.endswith(".cc"):
            continue
        folder, _, name = path.rpartition("/")
        if not is_listed(name, tree.get(f"{folder}/CMakeLists.txt", "")):
            yield f"{path}:1: not named in {folder}/CMakeLists.txt, so nothing builds it"


def check_tests_are_reached(tree):
    """Every folder of tests that has a CMakeLists.txt is added by the one above it."""
    for path in tree:
        match = re.match(r"(tests(?:/.+)?)/([^/]+)/CMakeLists\.txt$", path)
        if match:
            above, name = match.groups()
            if not re.search(rf"\b{re.escape(name)}\b", tree.get(f"{above}/CMakeLists.txt", "")):
                yield f"{path}:1: not named in {above}/CMakeLists.txt, so ctest never sees it"


PROTO_ELEMENT = re.compile(
    r"^\s*(message|enum|service|rpc|oneof)\s+(\w+)|"
    r"^\s*(?:repeated\s+|optional\s+)?[\w.]+(?:<[^>]*>)?\s+(\w+)\s*=\s*\d+\s*[;\[]|"
    r"^\s*([A-Z][A-Z0-9_]*)\s*=\s*\d+\s*;")


def check_proto_comments(tree):
    for path, text in tree.items():
        if not path.endswith(".proto"):
            continue
        lines = text.split("\n")
        for number, line in numbered(text):
            match = PROTO_ELEMENT.match(line)
            if match is None:
                continue
            name = next(g for g in (match.group(2), match.group(3), match.group(4)) if g)
            before = lines[number - 2].strip() if number >= 2 else ""
            if not before.startswith("//") and "//" not in line:
                yield f"{path}:{number}: {name} has no comment"


def snake_case(camel):
    """kMomentsM2Negative -> MOMENTS_M2_NEGATIVE."""
    return re.sub(r"(?<=.)([A-Z])", r"_\1", camel[1:]).upper()


def check_error_table(tree):
    """errors.proto, the enum in error.h and the table in error.cc say the same."""
    proto_path, header_path, table_path = (
        "proto/normd/v1/errors.proto", "core/base/error.h", "core/base/error.cc")
    wire = {}
    comment = ""
    for number, line in numbered(tree[proto_path]):
        stripped = line.strip()
        if stripped.startswith("//"):
            comment += stripped[2:]
            continue
        match = re.match(r"([A-Z0-9_]+) = (\d+);", stripped)
        if match and match.group(2) != "0":
            code = re.match(r" ([A-Z_]+): ", comment)
            if code is None:
                yield (f"{proto_path}:{number}: the comment must begin with the code, "
                       "as 'NOT_FOUND: '")
            wire[match.group(1)] = (int(match.group(2)), code.group(1) if code else "")
        comment = ""
    header = {snake_case(name): int(value) for name, value in re.findall(
        r"^  (k\w+) = (\d+),", tree[header_path], re.MULTILINE)}
    table = {name: (snake_case(reason), snake_case(code)) for reason, name, code in re.findall(
        r'\{Reason::(k\w+),\s*"(\w+)",\s*absl::StatusCode::(k\w+)\}', tree[table_path])}
    for name, (value, code) in wire.items():
        if header.get(name) != value:
            yield f"{header_path}:1: expected {name} = {value}, got {header.get(name)}"
        if table.get(name) != (name, code):
            yield f"{table_path}:1: expected a row for {name} with {code}, got {table.get(name)}"
    for name in sorted((set(header) | set(table)) - set(wire)):
        yield f"{proto_path}:1: {name} stands in core/base and is no ErrorReason"


def check_readme_code(tree):
    """C++ in the README is code that a test compiles and runs."""
    tests = "".join(text for path, text in tree.items()
                    if path.startswith("tests/") and path.endswith(".cc"))
    for block in re.findall(r"```cpp\n(.*?)```", tree.get("README.md", ""), re.DOTALL):
        if block not in tests:
            yield f"README.md:1: '{block.splitlines()[0]}' and what follows it is in no test"


RULES = [value for name, value in sorted(globals().items()) if name.startswith("check_")]
