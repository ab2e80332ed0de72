#ifndef NORMD_TESTS_BENCHMARKS_BENCH_CASE_H_
#define NORMD_TESTS_BENCHMARKS_BENCH_CASE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/norm/norm_config.h"
#include "core/tensor/data_type.h"
#include "hwy/aligned_allocator.h"

namespace normd::bench {

// Eval mode by running statistics, training mode (for kinds without running statistics the only
// one), and the gradients of that.
enum class Direction { kEval, kTrain, kBackward };

// "eval"
absl::string_view DirectionName(Direction direction);

// One line of the report: an operation on a batch of float32 values.
struct BenchCase {
  std::string shape_name;  // "channels_last 32x64x56x56"
  NormKind kind = NormKind::kBatchNorm;
  Direction direction = Direction::kTrain;
  Layout layout = Layout::kChannelsFirst;
  std::vector<int64_t> shape;  // as it lies in memory
  int64_t num_groups = 0;      // kGroupNorm

  // "BATCH_NORM 32x10 eval"
  std::string Name() const;
  int64_t num_values() const;
  // The last axis alone for kLayerNorm.
  int64_t num_features() const;
};

// Every shape and direction of the report.
std::vector<BenchCase> AllCases();

// The eps of every contender, and its running statistics.
inline constexpr double kEps = 1e-5;
inline constexpr float kRunningMean = .125f;
inline constexpr float kRunningVar = .75f;

// What a case works on: the same values for every contender, by a formula that torch_contender.py
// repeats. Aligned for any vector; every page is touched.
struct BenchValues {
  explicit BenchValues(const BenchCase& bench_case);

  size_t num_values;
  size_t num_features;
  hwy::AlignedFreeUniquePtr<float[]> x;            // in [-1, 1)
  hwy::AlignedFreeUniquePtr<float[]> grad_output;  // in [-1, 1)
  hwy::AlignedFreeUniquePtr<float[]> result;       // output, or the input's gradient
  std::vector<float> weight;                       // in [0, 2)
  std::vector<float> bias;                         // in [-1, 1)

  // Sum of the magnitudes of the result, by which contenders are seen to have done the same.
  double Checksum() const;
};

}  // namespace normd::bench

#endif  // NORMD_TESTS_BENCHMARKS_BENCH_CASE_H_
