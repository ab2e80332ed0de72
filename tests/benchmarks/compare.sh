#!/usr/bin/env bash
# Holds normd against a bare gRPC echo and a Python server, and writes compare.md and compare.svg.
# Builds what it needs first. It takes about 15 minutes on two cores; leave the machine alone.
#
#   tests/benchmarks/compare.sh [--rounds=N] [--seconds=S] [--output=FOLDER] [--quick]
#
#   --rounds=N          turns that every server takes in every cell; medians are told (default 5)
#   --seconds=S         of one turn, after a warm-up of a fifth of it (default 1.5)
#   --output=FOLDER     where the two files go (default tests/benchmarks)
#   --quick             one round of two messages: whether it works, not how fast
#   --build-dir=FOLDER  use what was built there, as it is (default: build/ci, built now)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

build_dir=
arguments=()
for argument in "$@"; do
  case "$argument" in
    --build-dir=*) build_dir=${argument#*=} ;;
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) arguments+=("$argument") ;;
  esac
done
if [[ -z $build_dir ]]; then
  build_dir=$root/build/ci
  "$root/deploy/install-deps.sh" test
  (cd "$root" && cmake --preset ci)
  cmake --build "$build_dir" -j "$(nproc)" --target normd normctl echo_server normd_python_stubs
fi
# Debian's own: it is the one that has python3-torch and python3-grpcio.
exec /usr/bin/python3 -B "$here/compare.py" --build-dir "$build_dir" --output "$here" \
  "${arguments[@]}"
