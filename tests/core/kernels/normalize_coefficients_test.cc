#include "core/kernels/normalize_coefficients.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "tests/core/kernels/guarded_array.h"
#include "tests/core/kernels/simd_target_test.h"
#include "tests/core/kernels/sizes.h"

namespace normd {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kFloatMax = std::numeric_limits<float>::max();
constexpr double kFloatMin = std::numeric_limits<float>::min();

class NormalizeCoefficientsTest : public SimdTargetTest {};

NORMD_INSTANTIATE_FOR_TARGETS(NormalizeCoefficientsTest);

// One channel after another, as the formula has it.
struct Expected {
  Expected(double mean, double var, double eps, double weight, double bias)
      : center(static_cast<float>(mean)) {
    const double wide_scale = 1.0 / std::sqrt(var + eps) * weight;
    scale = static_cast<float>(wide_scale);
    offset = static_cast<float>(bias - (mean - static_cast<double>(center)) * wide_scale);
  }

  float center;
  float scale;
  float offset;
};

TEST_P(NormalizeCoefficientsTest, AreThoseOfTheFormulaForEachSize) {
  constexpr double kEps = 1e-5;
  for (const size_t size : kSizesAroundLanes) {
    for (const bool affine : {false, true}) {
      GuardedArray<double> mean(size), var(size), weight(size), bias(size);
      for (size_t c = 0; c < size; ++c) {
        const auto i = static_cast<double>(c);
        mean[c] = 1e6 + i / 3;
        var[c] = 0.01 + i / 7;
        weight[c] = 1.5 - i / 11;
        bias[c] = i / 13 - 2;
      }
      GuardedArray<float> center(size), scale(size), offset(size);
      EXPECT_TRUE(ComputeNormalizeCoefficients({.mean = mean.data(),
                                                .var = var.data(),
                                                .eps = kEps,
                                                .weight = affine ? weight.data() : nullptr,
                                                .bias = affine ? bias.data() : nullptr},
                                               size, center.data(), scale.data(), offset.data()));
      for (size_t c = 0; c < size; ++c) {
        const Expected expected(mean[c], var[c], kEps, affine ? weight[c] : 1,
                                affine ? bias[c] : 0);
        EXPECT_EQ(center[c], expected.center) << c << " of " << size;
        EXPECT_EQ(scale[c], expected.scale) << c << " of " << size;
        EXPECT_FLOAT_EQ(offset[c], expected.offset) << c << " of " << size;
      }
    }
  }
}

struct OneChannel {
  const char* name;
  double mean;
  double var;
  double weight;
  double bias;
  bool held;
};

// var is 1 / scale^2 where the weight is 1; eps is 0.
const OneChannel kChannels[] = {
    {"Zeros", 0, 1, 0, 0, true},
    {"LargestCenter", std::nextafter(0x1p103, 0), 1, 0, 0, true},
    {"CenterTooLarge", 0x1p103, 1, 0, 0, false},
    {"NegativeCenterTooLarge", -0x1p103, 1, 0, 0, false},
    {"LargestOffset", 0, 1, 1, kFloatMax, true},
    {"OffsetTooLarge", 0, 1, 1, std::nextafter(kFloatMax, kInf), false},
    {"NegativeOffsetTooLarge", 0, 1, 1, -std::nextafter(kFloatMax, kInf), false},
    {"LargestScale", 0, 1, kFloatMax, 0, true},
    {"ScaleTooLarge", 0, 1, std::nextafter(kFloatMax, kInf), 0, false},
    {"SmallestScale", 0, 1, kFloatMin, 0, true},
    {"ScaleTooSmall", 0, 1, std::nextafter(kFloatMin, 0), 0, false},
    {"NegativeScaleTooSmall", 0, 1, -std::nextafter(kFloatMin, 0), 0, false},
    {"InfiniteCenter", kInf, 1, 1, 0, true},
    {"NanCenter", kNan, 1, 1, 0, true},
    {"InfiniteScale", 0, 0, 1, 0, true},
    {"NanScale", 0, kNan, 1, 0, true},
    {"InfiniteOffset", 0, 1, 1, -kInf, true},
};

TEST_P(NormalizeCoefficientsTest, TellWhetherFloat32HoldsEveryOne) {
  constexpr size_t kSizeMax = 35;
  for (const OneChannel& one : kChannels) {
    SCOPED_TRACE(one.name);
    for (size_t size = 1; size <= kSizeMax; ++size) {
      for (size_t at = 0; at < size; ++at) {
        std::vector<double> mean(size, 0.5), var(size, 1), weight(size, 1), bias(size, 0);
        mean[at] = one.mean;
        var[at] = one.var;
        weight[at] = one.weight;
        bias[at] = one.bias;
        std::vector<float> center(size), scale(size), offset(size);
        EXPECT_EQ(ComputeNormalizeCoefficients({.mean = mean.data(),
                                                .var = var.data(),
                                                .eps = 0,
                                                .weight = weight.data(),
                                                .bias = bias.data()},
                                               size, center.data(), scale.data(), offset.data()),
                  one.held)
            << at << " of " << size;
      }
    }
  }
}

}  // namespace
}  // namespace normd
