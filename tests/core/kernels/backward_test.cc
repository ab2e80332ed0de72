#include "core/kernels/backward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/kernels/backward_plan.h"
#include "tests/core/kernels/backward_testing.h"
#include "tests/core/kernels/element_type_test.h"
#include "tests/core/kernels/guarded_array.h"
#include "tests/core/kernels/sizes.h"

namespace normd {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Sums {
  explicit Sums(size_t channels) : sum(channels, kUntouched), dot(channels, kUntouched) {}
  FilledArray<double> sum;
  FilledArray<double> dot;
};

template <typename T>
void Compute(const GuardedArray<T>& x, const GuardedArray<T>& dy, const BatchExtents& extents,
             ChannelRange range, const GuardedArray<double>& mean, Sums& sums) {
  ComputeGradientSums(x.data(), dy.data(), extents, range, mean.data(), sums.sum.data(),
                      sums.dot.data());
  EXPECT_TRUE(sums.sum.CanaryIntact());
  EXPECT_TRUE(sums.dot.CanaryIntact());
}

template <typename T>
void ExpectChannelExact(const GuardedArray<T>& x, const GuardedArray<T>& dy,
                        const BatchExtents& extents, size_t channel,
                        const GuardedArray<double>& mean, const Sums& sums) {
  ReferenceSum sum;
  ReferenceSum dot;
  for (size_t n = 0; n < extents.samples; ++n) {
    const size_t start = (n * extents.channels + channel) * extents.spatial;
    for (size_t i = start; i < start + extents.spatial; ++i) {
      const long double gradient = ToDouble(dy[i]);
      sum.Add(gradient);
      dot.Add(gradient * (static_cast<long double>(ToDouble(x[i])) - mean[channel]));
    }
  }
  ASSERT_NEAR(sums.sum[channel], static_cast<double>(sum.value), sum.tolerance())
      << "sum of channel " << channel << " of " << ToString(extents);
  ASSERT_NEAR(sums.dot[channel], static_cast<double>(dot.value), dot.tolerance())
      << "dot of channel " << channel << " of " << ToString(extents);
}

// Sums of random values with the given means, of the channels as they lie.
template <typename T>
void ExpectSumsExact(const BatchExtents& extents, const Generator& x_values,
                     const Generator& dy_values, const Generator& means) {
  const RandomArray<T> x(ValueCount(extents), 1, x_values);
  const RandomArray<T> dy(ValueCount(extents), 2, dy_values);
  const RandomArray<double> mean(extents.channels, 3, means);
  Sums sums(extents.channels);
  Compute(x, dy, extents, {0, extents.channels}, mean, sums);
  for (size_t c = 0; c < extents.channels; ++c) {
    ASSERT_NO_FATAL_FAILURE(ExpectChannelExact(x, dy, extents, c, mean, sums));
  }
}

// Ranges of channels that a test should try.
std::vector<ChannelRange> Ranges(size_t channels) {
  return {{0, 1}, {channels - 1, 1}, {channels / 3, channels / 2}, {0, 0}, {0, channels}};
}

class GradientSumsTest : public BackwardTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(GradientSumsTest, kElementTypes);

TEST_P(GradientSumsTest, ExactAroundLaneCounts) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (const BatchExtents& extents : ExtentsAroundLanes()) {
      ASSERT_NO_FATAL_FAILURE(ExpectSumsExact<T>(extents, Even(3, 2), Even(.5, 1), Even(3, 1)));
    }
  });
}

TEST_P(GradientSumsTest, ReadsNothingBeforeTheInput) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (size_t spatial : kSizesAroundLanes) {
      for (size_t channels : kSizesAroundLanes) {
        const BatchExtents extents = {3, channels, spatial};
        // NaN before the first value: had it been read into any sum, that sum would be NaN.
        FilledArray<T> values(ValueCount(extents) + 64, FromDouble<T>(1));
        std::fill_n(values.begin(), 64, FromDouble<T>(kNan));
        const FilledArray<double> mean(channels, 0);
        Sums sums(channels);
        const T* start = values.data() + 64;
        ComputeGradientSums(start, start, extents, {0, channels}, mean.data(), sums.sum.data(),
                            sums.dot.data());
        for (size_t c = 0; c < channels; ++c) {
          ASSERT_EQ(sums.sum[c], static_cast<double>(3 * spatial)) << ToString(extents);
          ASSERT_EQ(sums.dot[c], static_cast<double>(3 * spatial)) << ToString(extents);
        }
      }
    }
  });
}

TEST_P(GradientSumsTest, ExactAcrossTilesStripsAndBlocks) {
  const BatchExtents cases[] = {
      // Strips of columns.
      {9, kGradientColumnsMax - 1, 1},
      {9, kGradientColumnsMax, 1},
      {9, kGradientColumnsMax + 1, 1},
      {17, 2 * kGradientColumnsMax + 3, 1},
      {9, 700, 3},
      {5, 293, 7},
      // Blocks of rows, with and without rows walked together.
      {kBlockRows - 1, 64, 1},
      {kBlockRows + 1, 64, 1},
      {2 * kBlockRows + 9, 131, 1},
      {16 * kBlockRows + 5, 10, 1},
      {9 * kBlockRows, 3, 2},
      // Tiles of channels and blocks of segments.
      {7, 600, 8},
      {kBlockValues / 49 + 3, 83, 49},
      {45, 5, 784},
      {3, 3, kTileValues + 1},
      {2, 2, kBlockValues - 1},
      {1, 3, 2 * kBlockValues - 1},
      {2, 2, 2 * kBlockValues},
      {1, 2, 3 * kBlockValues + 1},
      // One channel, one value.
      {5 * kBlockValues + 1, 1, 1},
      {1, 1, 1},
  };
  WithElementType([&cases](auto type) {
    using T = typename decltype(type)::type;
    for (const BatchExtents& extents : cases) {
      ASSERT_NO_FATAL_FAILURE(ExpectSumsExact<T>(extents, Even(-5, 3), Even(0, 1), Even(-5, 1)));
    }
  });
}

template <typename T>
void ExpectSumsExactOnIllConditionedData(double huge) {
  const struct {
    std::string name;
    Generator x;
    Generator dy;
    Generator mean;
  } kinds[] = {
      {"mean 1e6, std 1", Normal(1e6, 1), Normal(1, 1), Normal(1e6, 1e-3)},
      {"mean 1e6, std 1, dy alike", Normal(1e6, 1), Normal(1e6, 1), Normal(1e6, 1e-3)},
      {"mean 1e4, std 1e-3", Normal(1e4, 1e-3), Normal(0, 1), Normal(1e4, 1e-6)},
      {"huge", Normal(huge, huge / 1e3), Normal(0, huge), Normal(huge, huge / 1e5)},
      {"denormal", Normal(1e-40, 1e-41), Normal(0, 1e-40), Normal(1e-40, 1e-43)},
  };
  for (const auto& kind : kinds) {
    SCOPED_TRACE(kind.name);
    for (const BatchExtents& extents :
         {BatchExtents{4100, 70, 1}, {70000, 3, 1}, {20000, 7, 3}, {300, 7, 49}, {2, 2, 100000}}) {
      ASSERT_NO_FATAL_FAILURE(ExpectSumsExact<T>(extents, kind.x, kind.dy, kind.mean));
    }
  }
}

class GradientSumsPrecisionTest : public BackwardTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(GradientSumsPrecisionTest, kFloatingTypes);

TEST_P(GradientSumsPrecisionTest, ExactOnIllConditionedData) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    ExpectSumsExactOnIllConditionedData<T>(sizeof(T) == sizeof(float) ? 1e30 : 1e140);
  });
}

TEST_P(GradientSumsPrecisionTest, ExactForTenMillionValues) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (const BatchExtents& extents : {BatchExtents{10'000'000, 1, 1}, {5'000'000, 2, 1}}) {
      ASSERT_NO_FATAL_FAILURE(ExpectSumsExact<T>(extents, Even(1e6, 2), Even(1, 1), Even(1e6, 1)));
    }
  });
}

TEST_P(GradientSumsTest, RangeTouchesItsChannelsAlone) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (const BatchExtents& extents : {BatchExtents{33, 10, 1},
                                        {9, 2500, 1},
                                        {33, 9, 3},
                                        {33, 50, 49},
                                        {3, 5, 3000},
                                        {33, 1, 1}}) {
      const RandomArray<T> x(ValueCount(extents), 1, Even(3, 2));
      const RandomArray<T> dy(ValueCount(extents), 2, Even(0, 1));
      const RandomArray<double> mean(extents.channels, 3, Even(3, 1));
      for (const ChannelRange& range : Ranges(extents.channels)) {
        Sums sums(extents.channels);
        Compute(x, dy, extents, range, mean, sums);
        for (size_t c = 0; c < extents.channels; ++c) {
          if (c >= range.first && c < range.first + range.count) {
            ASSERT_NO_FATAL_FAILURE(ExpectChannelExact(x, dy, extents, c, mean, sums));
          } else {
            ASSERT_EQ(sums.sum[c], kUntouched) << c << " of " << ToString(extents);
            ASSERT_EQ(sums.dot[c], kUntouched) << c << " of " << ToString(extents);
          }
        }
      }
    }
  });
}

TEST_P(GradientSumsTest, NonFiniteStaysInItsChannel) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (const BatchExtents& extents : {BatchExtents{8, 5, 1},
                                        {32, 10, 1},
                                        {9, 1500, 1},
                                        {6, 9, 3},
                                        {6, 50, 49},
                                        {1, 3, 2 * kBlockValues + 7}}) {
      const RandomArray<double> mean(extents.channels, 3, Even(3, 1));
      const RandomArray<T> clean(ValueCount(extents), 1, Even(3, 2));
      Sums expected(extents.channels);
      Compute(clean, clean, extents, {0, extents.channels}, mean, expected);
      for (double value : {kNan, kInf, -kInf}) {
        for (size_t at : {size_t{0}, clean.size() / 2, clean.size() - 1}) {
          const size_t channel = at / extents.spatial % extents.channels;
          GuardedArray<T> spoilt(std::vector<T>(clean.data(), clean.data() + clean.size()));
          spoilt[at] = FromDouble<T>(value);
          Sums of_x(extents.channels);
          Sums of_dy(extents.channels);
          Compute(spoilt, clean, extents, {0, extents.channels}, mean, of_x);
          Compute(clean, spoilt, extents, {0, extents.channels}, mean, of_dy);
          for (size_t c = 0; c < extents.channels; ++c) {
            ASSERT_EQ(of_x.sum[c], expected.sum[c]);
            if (c != channel) {
              ASSERT_EQ(of_x.dot[c], expected.dot[c]);
              ASSERT_EQ(of_dy.sum[c], expected.sum[c]);
              ASSERT_EQ(of_dy.dot[c], expected.dot[c]);
            }
          }
          ASSERT_FALSE(std::isfinite(of_x.dot[channel])) << ToString(extents);
          ASSERT_FALSE(std::isfinite(of_dy.dot[channel])) << ToString(extents);
          ASSERT_EQ(std::isnan(of_dy.sum[channel]), std::isnan(value)) << ToString(extents);
        }
      }
    }
  });
}

TEST_P(GradientSumsTest, OfAnEmptyBatchAreZero) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (const BatchExtents& extents :
         {BatchExtents{0, 3, 5}, {0, 3, 1}, {4, 3, 0}, {0, 3, 50}, {0, 1, 1}, {4, 0, 1}}) {
      const GuardedArray<T> none(0);
      const FilledArray<double> mean(extents.channels, 1);
      Sums sums(extents.channels);
      Compute(none, none, extents, {0, extents.channels}, mean, sums);
      for (size_t c = 0; c < extents.channels; ++c) {
        EXPECT_EQ(sums.sum[c], 0);
        EXPECT_EQ(sums.dot[c], 0);
      }
    }
  });
}

// Checks dx of all values, in place too.
template <typename T>
void ExpectInputGradientCorrect(const BatchExtents& extents, const TestCoefficients<T>& k) {
  SCOPED_TRACE(ToString(extents));
  const size_t values = ValueCount(extents);
  const ChannelRange all = {0, extents.channels};
  RandomArray<T> x(values, 1, Even(1, 3));
  RandomArray<T> dy(values, 2, Even(0, 1));
  FilledArray<T> dx(values, FromDouble<T>(kUntouched));
  ComputeInputGradient(x.data(), dy.data(), extents, all, k.get(), dx.data());
  ASSERT_TRUE(dx.CanaryIntact());
  for (size_t i = 0; i < values; ++i) {
    const size_t channel = i / extents.spatial % extents.channels;
    ASSERT_TRUE(k.IsClose(x[i], dy[i], 1, channel, dx[i])) << "value " << i;
  }
  // In place of one, then of the other, of which a copy is left.
  const GuardedArray<T> x_copy(std::vector<T>(x.begin(), x.end()));
  ComputeInputGradient(x.data(), dy.data(), extents, all, k.get(), x.data());
  ComputeInputGradient(x_copy.data(), dy.data(), extents, all, k.get(), dy.data());
  ASSERT_TRUE(x.CanaryIntact() && dy.CanaryIntact());
  ASSERT_TRUE(SameBits(x, dx)) << "in place of x";
  ASSERT_TRUE(SameBits(dy, dx)) << "in place of dy";
}

class InputGradientTest : public BackwardTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(InputGradientTest, kElementTypes);

TEST_P(InputGradientTest, CorrectAroundLaneCountsAlsoInPlace) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (const BatchExtents& extents : ExtentsAroundLanes()) {
      const TestCoefficients<T> k(extents.channels);
      ASSERT_NO_FATAL_FAILURE(ExpectInputGradientCorrect<T>(extents, k));
    }
  });
}

TEST_P(InputGradientTest, CorrectAcrossStripsAndReplicas) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (const BatchExtents& extents : {BatchExtents{5, kStripColumnsMax - 1, 1},
                                        {5, kStripColumnsMax, 1},
                                        {5, kStripColumnsMax + 1, 1},
                                        {4, 1500, 3},
                                        {4, 300, 15},
                                        {1000, 10, 1},
                                        {1027, 64, 1},
                                        {20001, 3, 1},
                                        {3000, 5, 2},
                                        {20, 83, 49},
                                        {30003, 1, 1},
                                        {3, 2, 10003}}) {
      const TestCoefficients<T> k(extents.channels);
      ASSERT_NO_FATAL_FAILURE(ExpectInputGradientCorrect<T>(extents, k));
    }
  });
}

TEST_P(InputGradientTest, RangeTouchesItsChannelsAlone) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (const BatchExtents& extents : {BatchExtents{33, 10, 1},
                                        {9, 2500, 1},
                                        {33, 9, 3},
                                        {5, 300, 7},
                                        {33, 50, 49},
                                        {3, 5, 3000},
                                        {33, 1, 1}}) {
      const TestCoefficients<T> k(extents.channels);
      const RandomArray<T> x(ValueCount(extents), 1, Even(1, 3));
      const RandomArray<T> dy(ValueCount(extents), 2, Even(0, 1));
      FilledArray<T> all(x.size(), T{});
      ComputeInputGradient(x.data(), dy.data(), extents, {0, extents.channels}, k.get(),
                           all.data());
      for (const ChannelRange& range : Ranges(extents.channels)) {
        FilledArray<T> dx(x.size(), FromDouble<T>(kUntouched));
        ComputeInputGradient(x.data(), dy.data(), extents, range, k.get(), dx.data());
        ASSERT_TRUE(dx.CanaryIntact());
        for (size_t i = 0; i < dx.size(); ++i) {
          const size_t c = i / extents.spatial % extents.channels;
          const bool inside = c >= range.first && c < range.first + range.count;
          ASSERT_EQ(ToDouble(dx[i]), inside ? ToDouble(all[i]) : kUntouched)
              << "value " << i << " of " << ToString(extents);
        }
      }
    }
  });
}

TEST_P(InputGradientTest, PassesNonFiniteValuesThrough) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (size_t spatial : {1, 3, 35}) {
      const BatchExtents extents = {35, 3, spatial};
      RandomArray<T> x(ValueCount(extents), 1, Even(1, 3));
      RandomArray<T> dy(ValueCount(extents), 2, Even(0, 1));
      TestCoefficients<T> k(3);
      std::fill(k.of_dy.begin(), k.of_dy.end(), ComputeType<T>{2});
      const size_t last = x.size() - 1;
      dy[0] = FromDouble<T>(kInf);
      x[x.size() / 2] = FromDouble<T>(kNan);
      dy[last] = FromDouble<T>(-kInf);
      FilledArray<T> dx(x.size(), T{});
      ComputeInputGradient(x.data(), dy.data(), extents, {0, 3}, k.get(), dx.data());
      EXPECT_EQ(ToDouble(dx[0]), kInf);
      EXPECT_EQ(ToDouble(dx[last]), -kInf);
      for (size_t i = 1; i < last; ++i) {
        ASSERT_EQ(std::isnan(ToDouble(dx[i])), i == x.size() / 2) << "value " << i;
      }
    }
  });
}

TEST_P(InputGradientTest, WritesNothingForAnEmptyBatch) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (const BatchExtents& extents :
         {BatchExtents{0, 3, 5}, {4, 0, 5}, {4, 3, 0}, {0, 3, 1}, {4, 0, 1}, {0, 1, 1}}) {
      const TestCoefficients<T> k(extents.channels);
      GuardedArray<T> none(0);
      ComputeInputGradient(none.data(), none.data(), extents, {0, extents.channels}, k.get(),
                           none.data());
      EXPECT_TRUE(none.CanaryIntact());
    }
  });
}

// Outputs large enough to bypass the cache, in runs that do and in runs that do not.
template <typename T>
void ExpectCorrectBeyondTheCache() {
  const size_t values_min = kStreamBytesMin / sizeof(T);
  for (const BatchExtents& extents : LargeExtents(values_min)) {
    const size_t values = ValueCount(extents);
    ASSERT_GE(values, values_min);
    const TestCoefficients<T> k(extents.channels);
    GuardedArray<T> x(values);
    for (size_t i = 0; i < values; ++i) x[i] = FromDouble<T>(static_cast<double>(i % 1009));
    GuardedArray<T> dx(values);
    ComputeInputGradient(x.data(), x.data(), extents, {0, extents.channels}, k.get(), dx.data());
    EXPECT_TRUE(dx.CanaryIntact());
    for (size_t i = 0; i < values; ++i) {
      const size_t channel = i / extents.spatial % extents.channels;
      ASSERT_TRUE(k.IsClose(x[i], x[i], 1, channel, dx[i])) << "value " << i;
    }
  }
}

class InputGradientLargeTest : public BackwardTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(InputGradientLargeTest, kFloatingTypes);

TEST_P(InputGradientLargeTest, CorrectBeyondTheCache) {
  WithElementType([](auto type) { ExpectCorrectBeyondTheCache<typename decltype(type)::type>(); });
}

// The arithmetic of 16-bit types is that of float32, and rounds once, to nearest even.
template <typename T>
void ExpectRoundedFloats(const BatchExtents& extents) {
  const size_t values = ValueCount(extents);
  const ChannelRange all = {0, extents.channels};
  const TestCoefficients<T> k(extents.channels);
  const RandomArray<T> x(values, 1, Even(1, 3));
  const RandomArray<T> dy(values, 2, Even(0, 1));
  GuardedArray<T> dx(values);
  ComputeInputGradient(x.data(), dy.data(), extents, all, k.get(), dx.data());
  GuardedArray<float> x_float(values);
  GuardedArray<float> dy_float(values);
  GuardedArray<float> dx_float(values);
  for (size_t i = 0; i < values; ++i) x_float[i] = ToFloat(x[i]);
  for (size_t i = 0; i < values; ++i) dy_float[i] = ToFloat(dy[i]);
  ComputeInputGradient<float>(x_float.data(), dy_float.data(), extents, all,
                              {k.center.data(), k.of_dy.data(), k.of_x.data(), k.offset.data()},
                              dx_float.data());
  for (size_t i = 0; i < values; ++i) {
    ASSERT_EQ(dx[i].bits, FromDouble<T>(dx_float[i]).bits)
        << "value " << i << " of " << ToString(extents) << ": " << dx_float[i];
  }
}

class InputGradientHalfTest : public BackwardTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(InputGradientHalfTest, kHalfTypes);

TEST_P(InputGradientHalfTest, IsTheRoundedFloat) {
  WithHalfType([]<typename T>(ElementType<T>) {
    for (const BatchExtents& extents :
         {BatchExtents{67, 11, 1}, {35, 5, 3}, {9, 7, 67}, {3, 2000, 1}}) {
      ASSERT_NO_FATAL_FAILURE(ExpectRoundedFloats<T>(extents));
    }
  });
}

}  // namespace
}  // namespace normd
