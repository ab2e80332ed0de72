#!/usr/bin/env bash
# Installs what is missing, builds normd and runs its main job on real input: a state learns from a
# batch, survives kill -9 and normalizes from what it learned, each figure beside PyTorch's. Exits
# non-zero when a figure is off. Leaves nothing running and no data behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

example=tests/data/seed_example.json
bin=build/release/bin
work=$(mktemp -d "${TMPDIR:-/tmp}/normd_quickstart_XXXXXX")
server=

end_all() {
  [[ -z $server ]] || kill -9 "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap end_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[[ -t 1 ]] || step() { printf '\n%s\n' "$*"; }

fail() {
  echo "quickstart: $*" >&2
  [[ ! -s $work/server.log ]] || tail -n 20 "$work/server.log" >&2
  exit 1
}

# Starts a server on the data folder and a free port, and waits until it serves.
start_server() {
  rm -f "$work/ports"
  "$bin/normd" --listen=127.0.0.1:0 --data-dir="$work/data" --port-file="$work/ports" \
    >>"$work/server.log" 2>&1 &
  server=$!
  until [[ -s $work/ports ]]; do
    kill -0 "$server" 2>/dev/null || fail "normd ended before it served; its log:"
    sleep 0.02
  done
  NORMD_ADDRESS=$(head -n 1 "$work/ports")
  export NORMD_ADDRESS
}

compare() { /usr/bin/python3 -B deploy/compare_figures.py "$@" || fail "a figure is off"; }

step "1. Packages and build"
deploy/install-deps.sh build
mkdir -p build
# One build at a time: two scripts may run at once.
flock build/release.lock bash -c '
  cmake --preset release >"$0" && cmake --build --preset release -j "$(nproc)" >>"$0"' \
  "$work/build.log" 2>&1 || {
  cat "$work/build.log" >&2
  fail "the build failed; its words are above"
}
echo "built $bin/normd and $bin/normctl"

step "2. A server on a fresh data folder"
start_server
echo "normd (process $server) serves at $NORMD_ADDRESS"

step "3. normctl create demo/bn1 --num-features 10"
"$bin/normctl" create demo/bn1 --num-features 10 >"$work/created" || fail "create failed"
echo "created: momentum 0.1, eps 1e-5, as torch.nn.BatchNorm1d(10)"

step "4. One training step: a batch of 3 x 10 through the training stream"
compare input "$example" >"$work/batch.json"
"$bin/normctl" train demo/bn1 --input "$work/batch.json" --output "$work/output.json" \
  >"$work/trained" || fail "train failed"
"$bin/normctl" get demo/bn1 --json >"$work/before.json" || fail "get failed"
compare trained "$example" "$work/output.json" "$work/before.json"

step "5. kill -9, and start again on the same folder"
# In a group, so that the shell does not tell of the kill.
{ kill -9 "$server" && wait "$server"; } 2>/dev/null || true
start_server
echo "normd (process $server) serves at $NORMD_ADDRESS"
"$bin/normctl" get demo/bn1 --json >"$work/after.json" || fail "get failed after the restart"
compare same "$work/before.json" "$work/after.json"

step "6. normctl normalize: the batch in eval mode, by the running statistics"
"$bin/normctl" normalize demo/bn1 --input "$work/batch.json" --output "$work/normalized.json" \
  >"$work/normalize.log" || fail "normalize failed"
compare normalized "$example" "$work/normalized.json" "$work/after.json"

kill -TERM "$server"
wait "$server" || fail "normd did not end with exit code 0 after SIGTERM"
server=

step "All figures agree. To try next:"
cat <<NEXT
  $bin/normd --data-dir=/tmp/normd &
  $bin/normctl create my/bn1 --num-features 10
  echo '[[0,1,2,3,4,5,6,7,8,9],[9,8,7,6,5,4,3,2,1,0]]' | $bin/normctl train my/bn1 --input -
NEXT
