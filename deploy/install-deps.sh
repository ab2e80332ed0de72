#!/usr/bin/env bash
# The one list of the Debian 12 packages that normd needs. Installs what is missing, as root or
# through sudo; does nothing, in a moment, when all is there.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: deploy/install-deps.sh [build|test|runtime] [--print]

  build     (default) what compiles normd and normctl and runs deploy/quickstart.sh
  test      build, and what the tests and the checks of .ci/run need
  runtime   the shared libraries that a finished normd and normctl load; nothing else
  --print   print the packages, one a line, and install nothing
USAGE
}

# What normd and normctl load as the preset `release` builds them, with gRPC, protobuf and Abseil
# linked in. librocksdb and libspdlog bring their own libraries along.
runtime_packages=(
  libc-ares2
  libhwy1
  libisal2
  libre2-9
  librocksdb7.8
  libspdlog1.10
  libssl3
  zlib1g
)

build_packages=(
  ccache
  cmake
  g++
  git
  golang-github-gogo-googleapis-dev # google/rpc/*.proto
  libabsl-dev
  libcli11-dev
  libgrpc++-dev
  libgrpc-dev
  libhwy-dev
  libisal-dev
  libprotobuf-dev
  librocksdb-dev
  libspdlog-dev
  mold
  ninja-build
  nlohmann-json3-dev
  pkgconf
  protobuf-compiler
  protobuf-compiler-grpc
  python3 # deploy/quickstart.sh compares figures with it
)

test_packages=(
  clang-format
  clang-tidy
  e2fsprogs # a disk that loses its power
  libbenchmark-dev
  libdnnl-dev # what kernels_bench compares with
  libgmock-dev
  libgtest-dev
  libonnx-testdata
  python3-grpcio
  python3-numpy
  python3-onnx
  python3-protobuf
  python3-torch
  zlib1g-dev # what our checksums are compared with
)

fail() {
  echo "install-deps: $*" >&2
  exit 1
}

mode=build
print_only=false
for argument in "$@"; do
  case "$argument" in
    build | test | runtime) mode=$argument ;;
    --print) print_only=true ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      usage >&2
      fail "expected build, test or runtime, got '$argument'"
      ;;
  esac
done

case "$mode" in
  runtime) packages=("${runtime_packages[@]}") ;;
  build) packages=("${build_packages[@]}") ;;
  test) packages=("${build_packages[@]}" "${test_packages[@]}") ;;
esac

if $print_only; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

command -v dpkg-query >/dev/null ||
  fail "expected Debian 12 (dpkg), and there is no dpkg-query here"

# Sets `missing` to the packages that are not installed.
find_missing() {
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "${packages[@]}" 2>/dev/null |
    sed -n 's/^[a-z]i *//p') || true
  missing=()
  for package in "${packages[@]}"; do
    grep -qxF -- "$package" <<<"$installed" || missing+=("$package")
  done
}

find_missing
if ((${#missing[@]} == 0)); then
  echo "install-deps: all ${#packages[@]} packages for '$mode' are installed"
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null ||
    fail "not root and no sudo; as root, run: apt-get install ${missing[*]}"
  as_root=(sudo)
fi

# One run at a time: a second one waits here and then finds the packages installed.
exec 9<"${BASH_SOURCE[0]}"
flock 9
find_missing
((${#missing[@]} > 0)) || exit 0

echo "install-deps: installing ${#missing[@]} of ${#packages[@]} packages for '$mode':" \
  "${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq \
    -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@" >"$log" 2>&1 || {
    cat "$log" >&2
    fail "apt-get $1 failed (its words are above); packages wanted: ${missing[*]}"
  }
}
apt update
apt install --yes --no-install-recommends "${missing[@]}"

find_missing
((${#missing[@]} == 0)) || fail "apt-get succeeded, but these are still missing: ${missing[*]}"
echo "install-deps: done"
