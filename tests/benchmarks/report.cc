#include "tests/benchmarks/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

namespace normd::bench {
namespace {

constexpr double kRatioMin = 1;
constexpr double kGeometricMeanMin = 2;
constexpr double kEvalByCopyMax = 1.15;

bool IsBeyond(const BenchCase& bench_case, size_t cache_bytes) {
  return 2 * static_cast<size_t>(bench_case.num_values()) * sizeof(float) > cache_bytes;
}

// Prints a line when `ratio` is not what it should be; 1 then, else 0.
int PrintShortfall(const Result& result, const char* name, double ratio, bool ok, double aim) {
  if (ok) return 0;
  std::printf("  %-50s %s %.2f, aim %.2f\n", result.bench_case.Name().c_str(), name, ratio, aim);
  return 1;
}

}  // namespace

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

void PrintHeading() {
  std::printf("%-50s %12s %11s %12s %10s\n", "", "ours (us)", "torch/ours", "onednn/ours",
              "ours/copy");
}

void PrintResult(const Result& result) {
  std::printf("%-50s %12.3f %11.2f ", result.bench_case.Name().c_str(), 1e6 * result.ours_seconds,
              result.torch_by_ours);
  if (result.onednn_by_ours.has_value()) {
    std::printf("%12.2f", *result.onednn_by_ours);
  } else {
    std::printf("%12s", "-");
  }
  std::printf(" %10.2f\n", result.ours_by_copy);
  std::fflush(stdout);
}

void PrintSummary(const std::vector<Result>& results, size_t l2_bytes) {
  double logarithms = 0;
  for (const Result& result : results) logarithms += std::log(result.torch_by_ours);
  const double mean = std::exp(logarithms / static_cast<double>(results.size()));
  std::printf("\ngeometric mean of torch/ours over %zu cases: %.2f (aim %.1f)\n", results.size(),
              mean, kGeometricMeanMin);
  std::printf("below the aim:\n");
  int shortfalls = mean < kGeometricMeanMin ? 1 : 0;
  for (const Result& result : results) {
    shortfalls += PrintShortfall(result, "torch/ours", result.torch_by_ours,
                                 result.torch_by_ours >= kRatioMin, kRatioMin);
    if (result.onednn_by_ours.has_value()) {
      shortfalls += PrintShortfall(result, "onednn/ours", *result.onednn_by_ours,
                                   *result.onednn_by_ours >= kRatioMin, kRatioMin);
    }
    if (result.bench_case.direction == Direction::kEval && IsBeyond(result.bench_case, l2_bytes)) {
      shortfalls += PrintShortfall(result, "ours/copy", result.ours_by_copy,
                                   result.ours_by_copy <= kEvalByCopyMax, kEvalByCopyMax);
    }
  }
  if (shortfalls == 0) std::printf("  nothing\n");
}

}  // namespace normd::bench
