#!/usr/bin/env bash
# Installs what is missing, builds and passes every test. Ends with the line "N passed, N failed".
#
#   tests/run.sh [arguments for ctest]      as in: tests/run.sh -R conformance
#   NORMD_PRESET=dev tests/run.sh           another preset of CMakePresets.json than ci
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=${NORMD_PRESET:-ci}
jobs=$(nproc)

deploy/install-deps.sh test
mkdir -p build
# One build at a time: two scripts may run at once.
flock "build/$preset.lock" bash -c \
  'cmake --preset "$0" && cmake --build --preset "$0" -j "$1"' "$preset" "$jobs"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
ctest --preset "$preset" --output-on-failure --no-tests=error -j 2 "$@" | tee "$log" || status=$?

# "98% tests passed, 1 tests failed out of 40"
read -r failed total < <(
  sed -n 's/.* \([0-9]*\) tests failed out of \([0-9]*\).*/\1 \2/p' "$log"
) || true
if [[ -z ${total:-} ]]; then
  echo "tests/run.sh: ctest ran no test (exit code $status)" >&2
  exit 1
fi
echo "$((total - failed)) passed, $failed failed"
exit "$status"
