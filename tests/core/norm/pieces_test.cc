// Batches whose bytes lie in pieces, cut and aligned in any way: the same bits as of one aligned
// run, of every kind, forward and backward.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/norm/normalization.h"
#include "core/tensor/half.h"
#include "tests/core/norm/family_reference.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

// A copy of some bytes in pieces of at most `piece_max` bytes, some of them empty, each of which
// begins at any address.
class Scattered {
 public:
  Scattered(absl::string_view bytes, size_t piece_max, SeededRandom& random) {
    std::vector<size_t> begins, sizes;
    for (size_t at = 0; at < bytes.size();) {
      const size_t size = std::min<size_t>(bytes.size() - at, random() % (piece_max + 1));
      memory_.append(random() % 9, '\0');
      begins.push_back(memory_.size());
      sizes.push_back(size);
      memory_.append(bytes.data() + at, size);
      at += size;
    }
    for (size_t i = 0; i < begins.size(); ++i) {
      pieces_.push_back(absl::string_view(memory_).substr(begins[i], sizes[i]));
    }
  }

  TensorBytes bytes() const { return TensorBytes(pieces_); }

 private:
  std::string memory_;
  std::vector<absl::string_view> pieces_;
};

// All that is computed of a batch.
struct Results {
  absl::Status status;  // of those that refuse what is not finite
  Moments moments;
  Moments moments_alone;
  std::string output, by_samples, by_moments, by_running;
  std::string grad_input, running_grad_input;
  Gradients gradients, running_gradients;
};

bool SameBits(const std::vector<double>& a, const std::vector<double>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](double x, double y) {
    return std::bit_cast<uint64_t>(x) == std::bit_cast<uint64_t>(y);
  });
}

void ExpectSame(const Results& actual, const Results& expected) {
  EXPECT_EQ(actual.status, expected.status);
  EXPECT_EQ(actual.moments.count, expected.moments.count);
  EXPECT_TRUE(SameBits(actual.moments.mean, expected.moments.mean));
  EXPECT_TRUE(SameBits(actual.moments.m2, expected.moments.m2));
  EXPECT_TRUE(SameBits(actual.moments_alone.mean, expected.moments_alone.mean));
  EXPECT_TRUE(SameBits(actual.moments_alone.m2, expected.moments_alone.m2));
  EXPECT_TRUE(actual.output == expected.output);
  EXPECT_TRUE(actual.by_samples == expected.by_samples);
  EXPECT_TRUE(actual.by_moments == expected.by_moments);
  EXPECT_TRUE(actual.by_running == expected.by_running);
  EXPECT_TRUE(actual.grad_input == expected.grad_input);
  EXPECT_TRUE(actual.running_grad_input == expected.running_grad_input);
  EXPECT_TRUE(SameBits(actual.gradients.weight, expected.gradients.weight));
  EXPECT_TRUE(SameBits(actual.gradients.bias, expected.gradients.bias));
  EXPECT_TRUE(SameBits(actual.running_gradients.weight, expected.running_gradients.weight));
  EXPECT_TRUE(SameBits(actual.running_gradients.bias, expected.running_gradients.bias));
}

class PiecesTest : public testing::Test {
 protected:
  size_t Below(size_t limit) {
    return std::uniform_int_distribution<size_t>(0, limit - 1)(random_);
  }

  // `count` values of `dtype`, of ordinary size.
  std::string Values(DataType dtype, size_t count) {
    std::string bytes(count * static_cast<size_t>(ElementBytes(dtype)), '\0');
    std::normal_distribution<float> normal(3.0F, 2.0F);
    VisitDataType(dtype, [&](auto element) {
      using T = typename decltype(element)::type;
      T* const values = reinterpret_cast<T*>(bytes.data());
      for (size_t i = 0; i < count; ++i) values[i] = Rounded<T>(normal(random_));
    });
    return bytes;
  }

  template <typename T>
  static T Rounded(float value) {
    if constexpr (std::is_same_v<T, Float16>) {
      return ToFloat16(value);
    } else if constexpr (std::is_same_v<T, Bfloat16>) {
      return ToBfloat16(value);
    } else {
      return static_cast<T>(value);
    }
  }

  // Weights and biases of `config`, running statistics too; a weight here and there is one that
  // float32 does not hold.
  void MakeParameters(const NormConfig& config) {
    const auto features = static_cast<size_t>(config.num_features);
    for (std::vector<double>* const values : {&weight_, &bias_, &mean_, &var_}) {
      values->clear();
      for (size_t c = 0; c < features; ++c) {
        values->push_back(static_cast<double>(1 + Below(100)) / 50);
      }
    }
    holds_weight_ = Below(3) > 0;
    if (!holds_weight_) weight_[Below(features)] = 1e-42;
    if (config.kind == NormKind::kRmsNorm) bias_.clear();
  }

  Results Compute(const FamilyCase& c, const TensorBytes& x, const TensorBytes& dy,
                  ParallelRunner* runner) const {
    const std::vector<int64_t> shape = c.Shape();
    const auto tensor = TensorView::Create(c.dtype, c.layout, shape, x);
    const Batch batch = *Batch::Create(*tensor, c.Config());
    const Affine affine = {.eps = c.eps, .weight = weight_, .bias = bias_};
    const Running running = {mean_, var_};
    Results results;
    const auto result = [&](std::string& bytes) {
      bytes.assign(x.size(), '\0');
      return bytes.data();
    };
    auto moments = NormalizeAndComputeMoments(batch, NonFinitePolicy::kRefuse, affine,
                                              result(results.output), runner);
    if (batch.kind() != NormKind::kBatchNorm) {
      results.status.Update(NormalizeBySamples(batch, NonFinitePolicy::kRefuse, affine,
                                               result(results.by_samples), runner));
      EXPECT_EQ(results.status, moments.status());
    }
    results.status.Update(moments.status());
    if (!results.status.ok()) {
      results.output.clear();
      results.by_samples.clear();
      return results;
    }
    results.moments = *std::move(moments);
    results.moments_alone = *ComputeBatchMoments(batch, NonFinitePolicy::kRefuse, runner);
    NormalizeByItself(batch, results.moments, affine, result(results.by_moments), runner);
    results.gradients = BackwardByItself(batch, dy, results.moments, affine, true,
                                         result(results.grad_input), runner);
    if (CanTrackRunningStats(batch.kind())) {
      NormalizeByRunning(batch, running, affine, result(results.by_running), runner);
      const auto coefficients = RunningCoefficients::Create(running, affine);
      EXPECT_EQ(coefficients.has_value(), holds_weight_);
      if (coefficients.has_value() && c.dtype != DataType::kFloat64) {
        std::string by_coefficients;
        NormalizeByRunning(batch, *coefficients, result(by_coefficients), runner);
        EXPECT_TRUE(by_coefficients == results.by_running);
      }
    }
    if (batch.kind() == NormKind::kBatchNorm) {
      results.running_gradients = BackwardByRunning(batch, dy, running, affine, true,
                                                    result(results.running_grad_input), runner);
    }
    return results;
  }

  // Holds `c` in pieces against `c` in one run.
  void Check(const FamilyCase& c) {
    SCOPED_TRACE(c.ToString());
    MakeParameters(c.Config());
    const std::string x = Values(c.dtype, c.NumElements());
    const std::string dy = Values(c.dtype, c.NumElements());
    for (ParallelRunner* const runner : {ParallelRunner::Inline(), threads_.get()}) {
      SCOPED_TRACE(absl::StrCat("width ", runner->width()));
      const Results expected = Compute(c, TensorBytes(x), TensorBytes(dy), runner);
      ASSERT_TRUE(expected.status.ok()) << expected.status;
      ASSERT_NE(expected.output, x);
      // Not so many that the test would take long.
      const size_t piece_max = std::max<size_t>(
          x.size() / 20000, std::vector<size_t>{1, 11, 700, 5000, 16393, 100000}[Below(6)]);
      SCOPED_TRACE(absl::StrCat("pieces of up to ", piece_max, " bytes"));
      const Scattered cut_x(x, piece_max, random_);
      const Scattered cut_dy(dy, piece_max, random_);
      ExpectSame(Compute(c, cut_x.bytes(), cut_dy.bytes(), runner), expected);
      ExpectSame(Compute(c, TensorBytes(x), cut_dy.bytes(), runner), expected);
      ExpectSame(Compute(c, cut_x.bytes(), TensorBytes(dy), runner), expected);
    }
  }

  SeededRandom random_;
  const std::unique_ptr<ParallelRunner> threads_ = MakeParallelRunner(2);
  std::vector<double> weight_, bias_, mean_, var_;
  bool holds_weight_ = true;  // float32 does, all of them
};

constexpr DataType kDataTypes[] = {DataType::kFloat32, DataType::kFloat64, DataType::kFloat16,
                                   DataType::kBfloat16};

// Sizes around those by which the kernels cut their work.
TEST_F(PiecesTest, ABatchNormHasTheBitsOfOneRun) {
  for (const std::vector<int64_t>& sizes : std::vector<std::vector<int64_t>>{
           {2, 1},         {7, 5},         {300, 64},    {9000, 1},        {9000, 3},
           {4200, 20},     {40, 3000},     {3, 9000},    {2, 3, 7},        {4200, 2, 3},
           {2, 2, 9000},   {1, 1, 80000},  {2, 3, 999},  {300, 40, 8},     {5, 3, 17000},
           {1, 2, 40000},  {4, 6, 31, 33}, {900, 2, 49}, {70, 3, 2, 1, 5}, {3, 700, 8, 9},
           {2500, 3, 1, 8}}) {
    for (const Layout layout : {Layout::kChannelsFirst, Layout::kChannelsLast}) {
      Check({.sizes = sizes, .layout = layout, .dtype = kDataTypes[Below(4)]});
    }
  }
}

TEST_F(PiecesTest, SetsWithinSamplesHaveTheBitsOfOneRun) {
  for (const std::vector<int64_t>& sizes : std::vector<std::vector<int64_t>>{
           {2, 6, 7}, {30, 12, 300}, {1, 6, 15000}, {3, 2, 20000}, {40, 60, 31}, {2, 30, 40, 50}}) {
    for (const Layout layout : {Layout::kChannelsFirst, Layout::kChannelsLast}) {
      for (const NormKind kind : {NormKind::kGroupNorm, NormKind::kInstanceNorm}) {
        Check({.kind = kind,
               .sizes = sizes,
               .layout = layout,
               .num_groups = kind == NormKind::kGroupNorm ? 2 : 0,
               .dtype = kDataTypes[Below(4)]});
      }
    }
  }
}

TEST_F(PiecesTest, RowsHaveTheBitsOfOneRun) {
  for (const std::vector<int64_t>& sizes : std::vector<std::vector<int64_t>>{
           {3, 2}, {9000, 5}, {300, 9}, {100, 1024}, {130, 999}, {3, 40000}}) {
    for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
      Check({.kind = kind, .sizes = sizes, .normalized_axes = 1, .dtype = kDataTypes[Below(4)]});
    }
  }
}

TEST_F(PiecesTest, AnythingHasTheBitsOfOneRun) {
  for (int i = 0; i < 150; ++i) {
    FamilyCase c = {.kind = static_cast<NormKind>(1 + Below(5)),
                    .layout = Below(2) == 0 ? Layout::kChannelsFirst : Layout::kChannelsLast,
                    .dtype = kDataTypes[Below(4)]};
    size_t values_max = size_t{1} << Below(18);
    const size_t rank = 3 + Below(2);
    for (size_t axis = 0; axis < rank; ++axis) {
      c.sizes.push_back(static_cast<int64_t>(1 + Below(std::min<size_t>(values_max, 400))));
      values_max = 1 + values_max / static_cast<size_t>(c.sizes.back());
    }
    c.sizes.back() += 1;  // a variance needs two values
    std::shuffle(c.sizes.begin(), c.sizes.end() - 1, random_);
    c.num_groups = Below(2) == 0 ? 1 : c.sizes[1];
    c.normalized_axes = 1 + Below(rank);
    if (c.has_rows()) c.layout = Layout::kChannelsFirst;
    Check(c);
  }
}

// With the index in the tensor, and the value.
TEST_F(PiecesTest, WhatIsNotFiniteIsNamedAsInOneRun) {
  for (const NormKind kind : {NormKind::kBatchNorm, NormKind::kInstanceNorm, NormKind::kGroupNorm,
                              NormKind::kLayerNorm, NormKind::kRmsNorm}) {
    for (const DataType dtype : kDataTypes) {
      const FamilyCase c = {.kind = kind,
                            .sizes = {9, 4, 700},
                            .num_groups = 2,
                            .normalized_axes = 2,
                            .dtype = dtype};
      SCOPED_TRACE(c.ToString());
      MakeParameters(c.Config());
      std::string x = Values(dtype, c.NumElements());
      const size_t first = Below(c.NumElements());
      VisitDataType(dtype, [&](auto element) {
        using T = typename decltype(element)::type;
        T* const values = reinterpret_cast<T*>(x.data());
        values[first + Below(c.NumElements() - first)] =
            Rounded<T>(std::numeric_limits<float>::quiet_NaN());
        values[first] = Rounded<T>(-std::numeric_limits<float>::infinity());
      });
      const Results expected = Compute(c, TensorBytes(x), TensorBytes(), threads_.get());
      EXPECT_EQ(expected.status.message(), absl::StrCat("input is -inf at index ", first,
                                                        " (row-major), expected finite values"));
      for (const size_t piece_max : {size_t{3}, size_t{900}, size_t{60000}}) {
        const Scattered cut(x, piece_max, random_);
        ExpectSame(Compute(c, cut.bytes(), TensorBytes(), threads_.get()), expected);
      }
    }
  }
}

// Its moments are not finite though its values are.
TEST_F(PiecesTest, ValuesTooLargeAreToldFromThoseThatAreNotFinite) {
  const FamilyCase c = {.sizes = {50, 2, 30}, .dtype = DataType::kFloat64};
  MakeParameters(c.Config());
  std::string x = Values(c.dtype, c.NumElements());
  const double large[] = {1e300, -1e300};
  std::memcpy(x.data() + 800, large, sizeof(large));
  const Scattered cut(x, 900, random_);
  const Results expected = Compute(c, TensorBytes(x), TensorBytes(), ParallelRunner::Inline());
  ASSERT_FALSE(expected.status.ok());
  ExpectSame(Compute(c, cut.bytes(), TensorBytes(), ParallelRunner::Inline()), expected);
}

}  // namespace
}  // namespace normd
