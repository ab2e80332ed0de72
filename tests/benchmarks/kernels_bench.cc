// How fast the norm family is beside PyTorch, oneDNN and a copy, on one CPU.
//
// For every case the contenders take turns, round by round, so that what disturbs one disturbs all;
// each does an unmeasured warm-up and then as many operations as last --round-ms. Times are of the
// CPU. The contenders' results are compared first. Ends with the geometric mean of PyTorch's time
// by ours and a list of what is below the aims (report.h).
//
//   kernels_bench [--filter=TEXT] [--rounds=N] [--round-ms=MS] [--python=PATH]
#include <sched.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/benchmarks/bench_case.h"
#include "tests/benchmarks/contender.h"
#include "tests/benchmarks/report.h"
#include "tests/benchmarks/torch_process.h"

namespace normd::bench {
namespace {

// Of a checksum: contenders that compute in float32 agree far better, others do something else.
constexpr double kChecksumErrorMax = 1e-3;
constexpr size_t kL2BytesDefault = size_t{2} << 20;
constexpr int kTimesMax = 100000;

struct Options {
  std::string filter;
  int rounds = 15;
  double round_ms = 3;
  std::string python = NORMD_PYTHON;
  std::string torch_contender = NORMD_TORCH_CONTENDER;
};

// One of a case's contenders and what it did so far.
struct Entry {
  std::string name;
  std::unique_ptr<Contender> contender;
  int times = 1;                     // operations a round
  std::vector<double> seconds = {};  // of one operation, round by round
};

// All threads that libraries make stay on this thread's CPU too, and so does PyTorch's process.
absl::Status PinToOneCpu() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(sched_getcpu(), &cpus);
  if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0) {
    return absl::ErrnoToStatus(errno, "sched_setaffinity");
  }
  return absl::OkStatus();
}

size_t L2Bytes() {
  const long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return bytes > 0 ? static_cast<size_t>(bytes) : kL2BytesDefault;
}

// Runs the contender once, compares its checksum with `expected` (0: there is none yet), and sets
// how often it runs in a round.
absl::StatusOr<double> WarmUp(double round_seconds, double expected, Entry& entry) {
  auto seconds = entry.contender->Run(1);
  if (!seconds.ok()) return seconds.status();
  const auto checksum = entry.contender->Checksum();
  if (!checksum.ok()) return checksum.status();
  if (expected != 0 && !(std::abs(*checksum / expected - 1) <= kChecksumErrorMax)) {
    return absl::InternalError(
        absl::StrCat(entry.name, " does something else: checksum ", *checksum, ", not ", expected));
  }
  seconds = entry.contender->Run(1);
  if (!seconds.ok()) return seconds.status();
  entry.times = static_cast<int>(std::clamp(round_seconds / *seconds, 1.0, double{kTimesMax}));
  return *checksum;
}

absl::Status RunRounds(const Options& options, std::vector<Entry>& entries) {
  for (int round = 0; round < options.rounds; ++round) {
    for (Entry& entry : entries) {
      auto seconds = entry.contender->Run(1);
      if (seconds.ok()) seconds = entry.contender->Run(entry.times);
      if (!seconds.ok()) return seconds.status();
      entry.seconds.push_back(*seconds);
    }
  }
  return absl::OkStatus();
}

// The median over the rounds of one's time by the other's.
double RatioOf(const Entry& one, const Entry& other) {
  std::vector<double> ratios;
  ratios.reserve(one.seconds.size());
  for (size_t i = 0; i < one.seconds.size(); ++i) {
    ratios.push_back(one.seconds[i] / other.seconds[i]);
  }
  return Median(std::move(ratios));
}

absl::StatusOr<Result> RunCase(const BenchCase& bench_case, const Options& options,
                               TorchProcess& torch) {
  BenchValues values(bench_case);
  auto torch_contender = torch.Prepare(bench_case);
  if (!torch_contender.ok()) return torch_contender.status();
  std::vector<Entry> entries;
  entries.push_back({.name = "ours", .contender = MakeOurs(bench_case, values)});
  entries.push_back({.name = "torch", .contender = *std::move(torch_contender)});
  if (auto onednn = MakeOnednn(bench_case, values)) {
    entries.push_back({.name = "onednn", .contender = std::move(onednn)});
  }
  double checksum = 0;
  for (Entry& entry : entries) {
    const auto warmed_up = WarmUp(1e-3 * options.round_ms, checksum, entry);
    if (!warmed_up.ok()) return warmed_up.status();
    checksum = *warmed_up;
  }
  entries.push_back({.name = "copy", .contender = MakeCopy(values)});
  if (const auto copied = WarmUp(1e-3 * options.round_ms, 0, entries.back()); !copied.ok()) {
    return copied.status();
  }
  if (const absl::Status status = RunRounds(options, entries); !status.ok()) return status;

  Result result = {.bench_case = bench_case,
                   .ours_seconds = Median(entries.front().seconds),
                   .torch_by_ours = RatioOf(entries[1], entries.front()),
                   .ours_by_copy = RatioOf(entries.front(), entries.back())};
  if (entries.size() == 4) result.onednn_by_ours = RatioOf(entries[2], entries.front());
  return result;
}

absl::Status Run(const Options& options) {
  if (absl::Status status = PinToOneCpu(); !status.ok()) return status;
  const auto torch = TorchProcess::Start(options.python, options.torch_contender);
  if (!torch.ok()) return torch.status();
  PrintHeading();
  std::vector<Result> results;
  for (const BenchCase& bench_case : AllCases()) {
    if (!absl::StrContains(bench_case.Name(), options.filter)) continue;
    const auto result = RunCase(bench_case, options, **torch);
    if (!result.ok()) return result.status();
    PrintResult(*result);
    results.push_back(*result);
  }
  if (results.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("no case has '", options.filter, "' in it"));
  }
  PrintSummary(results, L2Bytes());
  return absl::OkStatus();
}

}  // namespace
}  // namespace normd::bench

int main(int argc, char** argv) {
  normd::bench::Options options;
  CLI::App app("How fast the norm family is beside PyTorch, oneDNN and a copy");
  app.add_option("--filter", options.filter, "only cases whose name has this text");
  app.add_option("--rounds", options.rounds, "rounds of every case")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--round-ms", options.round_ms, "milliseconds of one contender in a round")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--python", options.python, "a Python that has PyTorch")->capture_default_str();
  app.add_option("--torch-contender", options.torch_contender, "path of torch_contender.py")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = normd::bench::Run(options);
  if (!status.ok()) {
    std::fprintf(stderr, "kernels_bench: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  return 0;
}
