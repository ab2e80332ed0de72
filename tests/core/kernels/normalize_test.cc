#include "core/kernels/normalize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/kernels/normalize_plan.h"
#include "tests/core/kernels/guarded_array.h"
#include "tests/core/kernels/simd_target_test.h"
#include "tests/core/kernels/sizes.h"

namespace normd {
namespace {

constexpr uint32_t kSeed = 20240608;
constexpr float kUntouched = -77.0f;

struct Coefficients {
  explicit Coefficients(size_t channels) : center(channels), scale(channels), offset(channels) {
    std::mt19937 random(kSeed);
    std::normal_distribution<float> normal(0, 1);
    for (size_t c = 0; c < channels; ++c) {
      center[c] = 100 * normal(random);
      scale[c] = normal(random);
      offset[c] = 10 * normal(random);
    }
  }
  GuardedArray<float> center;
  GuardedArray<float> scale;
  GuardedArray<float> offset;
};

void Apply(const float* x, const BatchExtents& extents, const Coefficients& k, float* y) {
  Normalize(x, extents, k.center.data(), k.scale.data(), k.offset.data(), y);
}

void FillNormal(float* x, size_t n) {
  std::mt19937 random(kSeed + 1);
  std::normal_distribution<float> normal(0, 100);
  for (size_t i = 0; i < n; ++i) x[i] = normal(random);
}

// The bound counts one rounding each of the difference, the product and the sum.
void ExpectClose(const float* x, const BatchExtents& extents, const Coefficients& k,
                 const float* y) {
  constexpr double kEps = std::numeric_limits<float>::epsilon();
  size_t i = 0;
  for (size_t n = 0; n < extents.samples; ++n) {
    for (size_t c = 0; c < extents.channels; ++c) {
      for (size_t s = 0; s < extents.spatial; ++s, ++i) {
        const double product = (static_cast<double>(x[i]) - k.center[c]) * k.scale[c];
        const double expected = product + k.offset[c];
        ASSERT_LE(std::abs(y[i] - expected), kEps * (std::abs(product) + std::abs(expected)))
            << "value " << i << " of " << ToString(extents) << ": " << y[i] << ", expected "
            << expected;
      }
    }
  }
}

class NormalizeTest : public SimdTargetTest {
 protected:
  NormalizeTest() { RecordProperty("seed", static_cast<int>(kSeed)); }

  static void Check(const BatchExtents& extents) {
    const size_t values = ValueCount(extents);
    const Coefficients k(extents.channels);
    GuardedArray<float> x(values);
    FillNormal(x.data(), values);
    GuardedArray<float> y(values);
    std::fill(y.begin(), y.end(), kUntouched);
    Apply(x.data(), extents, k, y.data());
    EXPECT_TRUE(y.CanaryIntact());
    ExpectClose(x.data(), extents, k, y.data());
    if (HasFatalFailure()) return;

    Apply(x.data(), extents, k, x.data());
    EXPECT_TRUE(x.CanaryIntact());
    EXPECT_EQ(std::memcmp(x.data(), y.data(), values * sizeof(float)), 0)
        << "in place differs: " << ToString(extents);
  }
};

NORMD_INSTANTIATE_FOR_TARGETS(NormalizeTest);

TEST_P(NormalizeTest, CorrectAroundLaneCountsAlsoInPlace) {
  for (size_t channels : kSizesAroundLanes) {
    for (size_t samples : kSizesAroundLanes) {
      for (size_t spatial : kSizesAroundLanes) {
        Check({samples, channels, spatial});
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(NormalizeTest, CorrectAcrossStripsAndReplicas) {
  const BatchExtents cases[] = {
      {5, kFloatColumnsMax - 1, 1},
      {5, kFloatColumnsMax, 1},
      {5, kFloatColumnsMax + 1, 1},
      {3, 5000, 1},
      {4, 5000, 3},
      {4, 300, 15},
      {1000, 10, 1},
      {1027, 64, 1},
      {70001, 3, 1},
      {9000, 5, 2},
      {20, 83, 49},
      {100003, 1, 1},
      {3, 2, 100003},
  };
  for (const BatchExtents& extents : cases) Check(extents);
}

TEST_P(NormalizeTest, WritesNothingForAnEmptyBatch) {
  for (const BatchExtents& extents :
       {BatchExtents{0, 3, 5}, {4, 0, 5}, {4, 3, 0}, {0, 3, 1}, {4, 0, 1}, {0, 1, 1}}) {
    const Coefficients k(extents.channels);
    GuardedArray<float> x(0);
    GuardedArray<float> y(0);
    Apply(x.data(), extents, k, y.data());
    EXPECT_TRUE(y.CanaryIntact());
  }
}

TEST_P(NormalizeTest, IsTheSameWhereverTheValueStands) {
  // One value throughout: vector bodies, tails and heads must round alike.
  for (const BatchExtents& extents : {BatchExtents{67, 1, 1}, {5, 3, 67}, {67, 11, 3}}) {
    GuardedArray<float> x(ValueCount(extents));
    GuardedArray<float> y(ValueCount(extents));
    std::fill(x.begin(), x.end(), 0.1f);
    Coefficients k(extents.channels);
    std::fill(k.center.begin(), k.center.end(), 0.7f);
    std::fill(k.scale.begin(), k.scale.end(), 1.3f);
    std::fill(k.offset.begin(), k.offset.end(), 0.3f);
    Apply(x.data(), extents, k, y.data());
    for (size_t i = 1; i < y.size(); ++i) EXPECT_EQ(y[i], y[0]) << "value " << i;
  }
}

TEST_P(NormalizeTest, SubtractsFirstSoThatALargeMeanLosesNothing) {
  const BatchExtents extents = {1000, 3, 1};
  GuardedArray<float> x(ValueCount(extents));
  for (size_t i = 0; i < x.size(); ++i) x[i] = 1e6f + static_cast<float>(i % 16) / 16;
  GuardedArray<float> y(x.size());
  Coefficients k(3);
  std::fill(k.center.begin(), k.center.end(), 1e6f);
  std::fill(k.scale.begin(), k.scale.end(), 1.0f);
  std::fill(k.offset.begin(), k.offset.end(), 0.0f);
  Apply(x.data(), extents, k, y.data());
  for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], static_cast<float>(i % 16) / 16);
}

TEST_P(NormalizeTest, PassesNonFiniteValuesThrough) {
  const float inf = std::numeric_limits<float>::infinity();
  for (size_t spatial : {1, 3, 35}) {
    const BatchExtents extents = {35, 3, spatial};
    GuardedArray<float> x(ValueCount(extents));
    FillNormal(x.data(), x.size());
    const size_t last = x.size() - 1;
    x[0] = inf;
    x[x.size() / 2] = std::numeric_limits<float>::quiet_NaN();
    x[last] = -inf;
    Coefficients k(3);
    std::fill(k.scale.begin(), k.scale.end(), 2.0f);
    GuardedArray<float> y(x.size());
    Apply(x.data(), extents, k, y.data());
    for (size_t i = 0; i < y.size(); ++i) {
      if (i == 0) {
        EXPECT_EQ(y[i], inf);
      } else if (i == last) {
        EXPECT_EQ(y[i], -inf);
      } else {
        EXPECT_EQ(std::isnan(y[i]), i == x.size() / 2) << "value " << i;
      }
    }
  }
}

TEST_P(NormalizeTest, RangeTouchesItsChannelsAlone) {
  for (const BatchExtents& extents : {BatchExtents{33, 10, 1},
                                      {9, 2500, 1},
                                      {33, 9, 3},
                                      {5, 300, 7},
                                      {33, 50, 49},
                                      {3, 5, 3000},
                                      {33, 1, 1}}) {
    const Coefficients k(extents.channels);
    GuardedArray<float> x(ValueCount(extents));
    FillNormal(x.data(), x.size());
    GuardedArray<float> all(x.size());
    Apply(x.data(), extents, k, all.data());
    for (const ChannelRange& range : {ChannelRange{0, 1},
                                      {extents.channels - 1, 1},
                                      {extents.channels / 3, extents.channels / 2},
                                      {0, 0},
                                      {0, extents.channels}}) {
      GuardedArray<float> y(x.size());
      std::fill(y.begin(), y.end(), kUntouched);
      Normalize(x.data(), extents, range, k.center.data(), k.scale.data(), k.offset.data(),
                y.data());
      EXPECT_TRUE(y.CanaryIntact());
      for (size_t i = 0; i < y.size(); ++i) {
        const size_t c = i / extents.spatial % extents.channels;
        const bool inside = c >= range.first && c < range.first + range.count;
        ASSERT_EQ(y[i], inside ? all[i] : kUntouched)
            << "value " << i << " of " << ToString(extents);
      }
    }
  }
}

// Outputs large enough to bypass the cache: every kind of walk, at an address that is aligned to 4
// bytes alone.
TEST_P(NormalizeTest, CorrectBeyondTheCache) {
  const size_t values_min = kStreamBytesMin / sizeof(float);
  for (const BatchExtents& extents : {BatchExtents{values_min / 10 + 1, 10, 1},
                                      {values_min / 64 + 1, 64, 1},
                                      {values_min / 1027 + 1, 1027, 1},
                                      {values_min / (300 * 7) + 1, 300, 7},
                                      {values_min / (50 * 49) + 1, 50, 49},
                                      {1, 3, values_min / 3 + 1}}) {
    const size_t values = ValueCount(extents);
    ASSERT_GE(values, values_min);
    const Coefficients k(extents.channels);
    GuardedArray<float> x(values);
    for (size_t i = 0; i < values; ++i) x[i] = static_cast<float>(i % 1009);
    GuardedArray<float> y(values);
    Apply(x.data(), extents, k, y.data());
    EXPECT_TRUE(y.CanaryIntact());
    ExpectClose(x.data(), extents, k, y.data());
  }
}

}  // namespace
}  // namespace normd
