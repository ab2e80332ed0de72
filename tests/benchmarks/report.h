#ifndef NORMD_TESTS_BENCHMARKS_REPORT_H_
#define NORMD_TESTS_BENCHMARKS_REPORT_H_

#include <cstddef>
#include <optional>
#include <vector>

#include "tests/benchmarks/bench_case.h"

namespace normd::bench {

// What was measured of one case; ratios are medians over the rounds of one contender's time by
// another's in the same round.
struct Result {
  BenchCase bench_case;
  double ours_seconds = 0;
  double torch_by_ours = 0;
  std::optional<double> onednn_by_ours = std::nullopt;
  double ours_by_copy = 0;
};

// The median of `values`. REQUIRES: there is one.
double Median(std::vector<double> values);

// The heading of the table, and one line of it.
void PrintHeading();
void PrintResult(const Result& result);

// The geometric mean of torch_by_ours and what is below the aims: torch_by_ours and onednn_by_ours
// of 1 each, a geometric mean of 2, and eval mode within 1.15 of the copy where batch and output
// are larger than an L2 cache.
void PrintSummary(const std::vector<Result>& results, size_t l2_bytes);

}  // namespace normd::bench

#endif  // NORMD_TESTS_BENCHMARKS_REPORT_H_
