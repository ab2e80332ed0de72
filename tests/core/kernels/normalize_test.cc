#include "core/kernels/normalize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "core/kernels/normalize_plan.h"
#include "tests/core/kernels/element_type_test.h"
#include "tests/core/kernels/guarded_array.h"
#include "tests/core/kernels/sizes.h"

namespace normd {
namespace {

constexpr uint32_t kSeed = 20240608;
constexpr double kUntouched = -77;
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <typename T>
struct Coefficients {
  explicit Coefficients(size_t channels) : center(channels), scale(channels), offset(channels) {
    std::mt19937 random(kSeed);
    std::normal_distribution<ComputeType<T>> normal(0, 1);
    for (size_t c = 0; c < channels; ++c) {
      center[c] = 100 * normal(random);
      scale[c] = normal(random);
      offset[c] = 10 * normal(random);
    }
  }
  GuardedArray<ComputeType<T>> center;
  GuardedArray<ComputeType<T>> scale;
  GuardedArray<ComputeType<T>> offset;
};

template <typename T>
void Apply(const T* x, const BatchExtents& extents, const Coefficients<T>& k, T* y) {
  Normalize(x, extents, k.center.data(), k.scale.data(), k.offset.data(), y);
}

template <typename T>
void Fill(T* x, size_t n, double value) {
  std::fill_n(x, n, FromDouble<T>(value));
}

// Normal values, which repeat in the end.
template <typename T>
void FillNormal(T* x, size_t n) {
  static const auto* const kValues = [] {
    auto* values = new std::vector<T>(65521);
    std::mt19937 random(kSeed + 1);
    std::normal_distribution<double> normal(0, 100);
    for (T& value : *values) value = FromDouble<T>(normal(random));
    return values;
  }();
  for (size_t i = 0; i < n; ++i) x[i] = (*kValues)[i % kValues->size()];
}

// The same values, widened.
template <typename T>
std::vector<float> Widened(const T* x, size_t n) {
  std::vector<float> wide(n);
  std::transform(x, x + n, wide.begin(), [](T value) { return ToFloat(value); });
  return wide;
}

// Of a 16-bit type: what the kernel gives for the same values as floats, rounded, to the bit. Of
// others: the bound counts one rounding each of the difference, the product and the sum.
template <typename T>
void ExpectClose(const T* x, const BatchExtents& extents, const Coefficients<T>& k, const T* y) {
  std::vector<float> wide;
  if constexpr (kIsHalf<T>) {
    wide = Widened(x, ValueCount(extents));
    Normalize(wide.data(), extents, k.center.data(), k.scale.data(), k.offset.data(), wide.data());
  }
  size_t i = 0;
  for (size_t n = 0; n < extents.samples; ++n) {
    for (size_t c = 0; c < extents.channels; ++c) {
      for (size_t s = 0; s < extents.spatial; ++s, ++i) {
        if constexpr (kIsHalf<T>) {
          ASSERT_EQ(y[i].bits, FromDouble<T>(wide[i]).bits)
              << "value " << i << " of " << ToString(extents) << ": " << ToDouble(y[i])
              << ", as float " << wide[i];
        } else {
          constexpr Wide<T> kEps = std::numeric_limits<T>::epsilon();
          const Wide<T> product = (static_cast<Wide<T>>(x[i]) - k.center[c]) * k.scale[c];
          const Wide<T> expected = product + k.offset[c];
          ASSERT_LE(std::abs(y[i] - expected), kEps * (std::abs(product) + std::abs(expected)))
              << "value " << i << " of " << ToString(extents) << ": " << y[i] << ", expected "
              << expected;
        }
      }
    }
  }
}

class NormalizeTest : public ElementTypeTest {
 protected:
  NormalizeTest() { RecordProperty("seed", static_cast<int>(kSeed)); }

  template <typename T>
  static void Check(const BatchExtents& extents) {
    const size_t values = ValueCount(extents);
    const Coefficients<T> k(extents.channels);
    GuardedArray<T> x(values);
    FillNormal(x.data(), values);
    GuardedArray<T> y(values);
    Fill(y.data(), values, kUntouched);
    Apply(x.data(), extents, k, y.data());
    EXPECT_TRUE(y.CanaryIntact());
    ExpectClose(x.data(), extents, k, y.data());
    if (HasFatalFailure()) return;

    Apply(x.data(), extents, k, x.data());
    EXPECT_TRUE(x.CanaryIntact());
    EXPECT_EQ(std::memcmp(x.data(), y.data(), values * sizeof(T)), 0)
        << "in place differs: " << ToString(extents);
  }
};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(NormalizeTest, kElementTypes);

TEST_P(NormalizeTest, CorrectAroundLaneCountsAlsoInPlace) {
  WithElementType([]<typename T>(ElementType<T>) {
    for (const BatchExtents& extents : ExtentsAroundLanes()) {
      Check<T>(extents);
      if (HasFailure()) return;
    }
  });
}

TEST_P(NormalizeTest, CorrectAcrossStripsAndReplicas) {
  WithElementType([]<typename T>(ElementType<T>) {
    const BatchExtents cases[] = {
        {5, kStripColumnsMax - 1, 1},
        {5, kStripColumnsMax, 1},
        {5, kStripColumnsMax + 1, 1},
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
    for (const BatchExtents& extents : cases) Check<T>(extents);
  });
}

TEST_P(NormalizeTest, WritesNothingForAnEmptyBatch) {
  WithElementType([]<typename T>(ElementType<T>) {
    for (const BatchExtents& extents :
         {BatchExtents{0, 3, 5}, {4, 0, 5}, {4, 3, 0}, {0, 3, 1}, {4, 0, 1}, {0, 1, 1}}) {
      const Coefficients<T> k(extents.channels);
      GuardedArray<T> x(0);
      GuardedArray<T> y(0);
      Apply(x.data(), extents, k, y.data());
      EXPECT_TRUE(y.CanaryIntact());
    }
  });
}

TEST_P(NormalizeTest, IsTheSameWhereverTheValueStands) {
  WithElementType([]<typename T>(ElementType<T>) {
    // One value throughout: vector bodies, tails and heads must round alike.
    for (const BatchExtents& extents : {BatchExtents{67, 1, 1}, {5, 3, 67}, {67, 11, 3}}) {
      GuardedArray<T> x(ValueCount(extents));
      GuardedArray<T> y(ValueCount(extents));
      Fill(x.data(), x.size(), 0.1);
      Coefficients<T> k(extents.channels);
      std::fill(k.center.begin(), k.center.end(), ComputeType<T>(0.7));
      std::fill(k.scale.begin(), k.scale.end(), ComputeType<T>(1.3));
      std::fill(k.offset.begin(), k.offset.end(), ComputeType<T>(0.3));
      Apply(x.data(), extents, k, y.data());
      for (size_t i = 1; i < y.size(); ++i) EXPECT_TRUE(SameBits(y[i], y[0])) << "value " << i;
    }
  });
}

TEST_P(NormalizeTest, SubtractsFirstSoThatALargeMeanLosesNothing) {
  WithElementType([]<typename T>(ElementType<T>) {
    // T holds 16 steps of `step` from `mean`, yet not mean * scale.
    const double step = kIsHalf<T> ? 128 : 1.0 / 16;
    const double mean = kIsHalf<T> ? 0x1p14 : 1e6;
    const double scale = kIsHalf<T> ? 1.1 / 3 : 1;
    const BatchExtents extents = {1000, 3, 1};
    GuardedArray<T> x(ValueCount(extents));
    for (size_t i = 0; i < x.size(); ++i) x[i] = FromDouble<T>(mean + step * (i % 16));
    GuardedArray<T> y(x.size());
    Coefficients<T> k(3);
    Fill(k.center.data(), 3, mean);
    Fill(k.scale.data(), 3, scale);
    Fill(k.offset.data(), 3, 0);
    Apply(x.data(), extents, k, y.data());
    for (size_t i = 0; i < y.size(); ++i) {
      const auto expected = static_cast<ComputeType<T>>(step * (i % 16)) * k.scale[0];
      EXPECT_TRUE(SameBits(y[i], FromDouble<T>(expected))) << ToDouble(y[i]) << " of " << i % 16;
    }
  });
}

TEST_P(NormalizeTest, PassesNonFiniteValuesThrough) {
  WithElementType([]<typename T>(ElementType<T>) {
    for (size_t spatial : {1, 3, 35}) {
      const BatchExtents extents = {35, 3, spatial};
      GuardedArray<T> x(ValueCount(extents));
      FillNormal(x.data(), x.size());
      const size_t last = x.size() - 1;
      x[0] = FromDouble<T>(kInf);
      x[x.size() / 2] = FromDouble<T>(kNan);
      x[last] = FromDouble<T>(-kInf);
      Coefficients<T> k(3);
      Fill(k.scale.data(), 3, 2);
      GuardedArray<T> y(x.size());
      Apply(x.data(), extents, k, y.data());
      for (size_t i = 0; i < y.size(); ++i) {
        if (i == 0) {
          EXPECT_EQ(ToDouble(y[i]), kInf);
        } else if (i == last) {
          EXPECT_EQ(ToDouble(y[i]), -kInf);
        } else {
          EXPECT_EQ(std::isnan(ToDouble(y[i])), i == x.size() / 2) << "value " << i;
        }
      }
    }
  });
}

TEST_P(NormalizeTest, RangeTouchesItsChannelsAlone) {
  WithElementType([]<typename T>(ElementType<T>) {
    for (const BatchExtents& extents : {BatchExtents{33, 10, 1},
                                        {9, 2500, 1},
                                        {33, 9, 3},
                                        {5, 300, 7},
                                        {33, 50, 49},
                                        {3, 5, 3000},
                                        {33, 1, 1}}) {
      const Coefficients<T> k(extents.channels);
      GuardedArray<T> x(ValueCount(extents));
      FillNormal(x.data(), x.size());
      GuardedArray<T> all(x.size());
      Apply(x.data(), extents, k, all.data());
      for (const ChannelRange& range : {ChannelRange{0, 1},
                                        {extents.channels - 1, 1},
                                        {extents.channels / 3, extents.channels / 2},
                                        {0, 0},
                                        {0, extents.channels}}) {
        GuardedArray<T> y(x.size());
        Fill(y.data(), y.size(), kUntouched);
        Normalize(x.data(), extents, range, k.center.data(), k.scale.data(), k.offset.data(),
                  y.data());
        EXPECT_TRUE(y.CanaryIntact());
        for (size_t i = 0; i < y.size(); ++i) {
          const size_t c = i / extents.spatial % extents.channels;
          const bool inside = c >= range.first && c < range.first + range.count;
          ASSERT_TRUE(SameBits(y[i], inside ? all[i] : FromDouble<T>(kUntouched)))
              << "value " << i << " of " << ToString(extents);
        }
      }
    }
  });
}

class NormalizeLargeTest : public NormalizeTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(NormalizeLargeTest, kFloatingTypes);

// Outputs large enough to bypass the cache, in runs that do and in runs that do not.
TEST_P(NormalizeLargeTest, CorrectBeyondTheCache) {
  WithElementType([]<typename T>(ElementType<T>) {
    const size_t values_min = kStreamBytesMin / sizeof(T);
    for (const BatchExtents& extents : LargeExtents(values_min)) {
      const size_t values = ValueCount(extents);
      ASSERT_GE(values, values_min);
      const Coefficients<T> k(extents.channels);
      GuardedArray<T> x(values);
      FillNormal(x.data(), values);
      GuardedArray<T> y(values);
      Apply(x.data(), extents, k, y.data());
      EXPECT_TRUE(y.CanaryIntact());
      ExpectClose(x.data(), extents, k, y.data());
    }
  });
}

class NormalizeHalfTest : public NormalizeTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(NormalizeHalfTest, kHalfTypes);

TEST_P(NormalizeHalfTest, IdentityKeepsEveryPattern) {
  WithHalfType([]<typename T>(ElementType<T>) {
    constexpr uint16_t kQuiet = std::is_same_v<T, Float16> ? 0x200 : 0x40;
    GuardedArray<T> x(0x10000);
    for (size_t i = 0; i < x.size(); ++i) x[i].bits = static_cast<uint16_t>(i);
    GuardedArray<T> y(x.size());
    const float center = 0;
    const float scale = 1;
    const float offset = -0.0F;  // 0 would turn -0 into 0
    Normalize(x.data(), {1, 1, x.size()}, &center, &scale, &offset, y.data());
    for (size_t i = 0; i < y.size(); ++i) {
      const int quiet = std::isnan(ToDouble(x[i])) ? kQuiet : 0;
      ASSERT_EQ(y[i].bits, x[i].bits | quiet) << "pattern " << i;
    }
  });
}

// The result is x + offset with x = 0: each offset in turn, ties between neighbours among them.
TEST_P(NormalizeHalfTest, RoundsEveryTieAndItsNeighboursToNearestEven) {
  WithHalfType([]<typename T>(ElementType<T>) {
    std::vector<float> results;
    for (int bits = 0; bits < 0xffff; ++bits) {
      const double low = ToDouble(T{static_cast<uint16_t>(bits)});
      const double high = ToDouble(T{static_cast<uint16_t>(bits + 1)});
      const auto middle = static_cast<float>((low + high) / 2);
      results.insert(results.end(),
                     {std::nextafter(middle, -std::numeric_limits<float>::infinity()), middle,
                      std::nextafter(middle, std::numeric_limits<float>::infinity())});
    }
    const double largest = LargestOf<T>();
    for (double beyond : {65519.0, 65520.0, 65536.0, largest, 3.3961e38, 3.4028e38, 1e-46, 0.0}) {
      results.insert(results.end(), {static_cast<float>(beyond), static_cast<float>(-beyond)});
    }
    const size_t n = results.size();
    GuardedArray<T> x(n);
    Fill(x.data(), n, 0);
    GuardedArray<T> y(n);
    const std::vector<float> zero(n, 0.0F);
    Normalize(x.data(), {1, n, 1}, zero.data(), zero.data(), results.data(), y.data());
    for (size_t i = 0; i < n; ++i) {
      const T expected = FromDouble<T>(0.0F + results[i]);
      ASSERT_EQ(y[i].bits, expected.bits) << "of " << results[i];
    }
  });
}

}  // namespace
}  // namespace normd
