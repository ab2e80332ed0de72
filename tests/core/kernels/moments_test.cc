#include "core/kernels/moments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "core/kernels/moments_plan.h"
#include "tests/core/kernels/element_type_test.h"
#include "tests/core/kernels/guarded_array.h"
#include "tests/core/kernels/sizes.h"

namespace normd {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr uint32_t kSeed = 20240607;
constexpr double kUntouched = -77;
constexpr DataType kFloat64Alone[] = {DataType::kFloat64};

// Calls visit(index of a value) for the values of `channel`, in the order of the samples.
template <class Visit>
void ForEachValue(const BatchExtents& extents, size_t channel, Visit visit) {
  for (size_t n = 0; n < extents.samples; ++n) {
    const size_t start = (n * extents.channels + channel) * extents.spatial;
    for (size_t s = 0; s < extents.spatial; ++s) visit(start + s);
  }
}

struct ReferenceMoments {
  long double mean = 0;
  long double m2 = 0;
  long double largest = 0;  // max |x|
};

// Two passes in long double: the mean, then the squares about it.
template <typename T>
ReferenceMoments Reference(const GuardedArray<T>& x, const BatchExtents& extents, size_t channel) {
  ReferenceMoments reference;
  long double sum = 0;
  ForEachValue(extents, channel, [&](size_t i) {
    const long double value = ToDouble(x[i]);
    sum += value;
    reference.largest = std::max(reference.largest, std::abs(value));
  });
  reference.mean = sum / static_cast<long double>(extents.samples * extents.spatial);
  ForEachValue(extents, channel, [&](size_t i) {
    const long double d = ToDouble(x[i]) - reference.mean;
    reference.m2 += d * d;
  });
  return reference;
}

struct Result {
  explicit Result(size_t channels) : mean(channels), m2(channels) {
    std::fill(mean.begin(), mean.end(), kUntouched);
    std::fill(m2.begin(), m2.end(), kUntouched);
  }
  GuardedArray<double> mean;
  GuardedArray<double> m2;
};

template <typename T>
void Compute(const GuardedArray<T>& x, const BatchExtents& extents, Result& result) {
  ComputeMoments(x.data(), extents, result.mean.data(), result.m2.data());
  EXPECT_TRUE(result.mean.CanaryIntact());
  EXPECT_TRUE(result.m2.CanaryIntact());
}

template <typename T>
void ExpectChannelExact(const GuardedArray<T>& x, const BatchExtents& extents, size_t channel,
                        const Result& result) {
  const ReferenceMoments reference = Reference(x, extents, channel);
  EXPECT_NEAR(result.mean[channel], static_cast<double>(reference.mean),
              2e-13 * static_cast<double>(reference.largest))
      << "mean of channel " << channel << " of " << ToString(extents);
  EXPECT_NEAR(result.m2[channel], static_cast<double>(reference.m2),
              1e-9 * static_cast<double>(reference.m2))
      << "m2 of channel " << channel << " of " << ToString(extents);
}

template <typename T>
void ExpectExact(const GuardedArray<T>& x, const BatchExtents& extents) {
  Result result(extents.channels);
  Compute(x, extents, result);
  for (size_t c = 0; c < extents.channels; ++c) ExpectChannelExact(x, extents, c, result);
}

// The value `drawn` of a sequence of standard normal ones, which repeats in the end.
double StandardNormal(size_t drawn) {
  static const auto* const kValues = [] {
    auto* values = new std::vector<double>(65521);
    std::mt19937 random(kSeed);
    std::normal_distribution<double> normal(0, 1);
    for (double& value : *values) value = normal(random);
    return values;
  }();
  return (*kValues)[drawn % kValues->size()];
}

// Gives the value at a position of its channel, counted over the samples, with a standard normal
// value to make it of.
using Generator = std::function<double(double normal, size_t position)>;

Generator Normal(double mean, double std) {
  return [=](double normal, size_t) { return mean + std * normal; };
}

template <typename T>
void Fill(GuardedArray<T>& x, const BatchExtents& extents, const Generator& generator) {
  size_t drawn = 0;
  for (size_t channel = 0; channel < extents.channels; ++channel) {
    size_t position = 0;
    ForEachValue(extents, channel, [&](size_t i) {
      x[i] = FromDouble<T>(generator(StandardNormal(drawn++), position++));
    });
  }
}

// The largest value of T whose squares moments.h promises to sum.
template <typename T>
double LargestSummable() {
  return std::min(LargestOf<T>(), 1e150);
}

struct Kind {
  std::string name;
  Generator generator;
};

// Data on which a sum of squares loses much, as far as T holds it.
template <typename T>
std::vector<Kind> IllConditionedKinds() {
  const double largest = LargestSummable<T>();
  std::vector<Kind> kinds = {
      {"both largest", [=](double, size_t i) { return i % 3 == 0 ? -largest : largest; }},
      {"mean 1000, std 1", Normal(1000, 1)},
      {"a large outlier first",
       [=](double normal, size_t i) { return i == 0 ? std::min(largest, 1e8) : 1 + normal; }},
      {"constant after a large first value", [](double, size_t i) { return i == 0 ? 1e4 : .1; }},
  };
  if constexpr (std::is_same_v<T, Float16>) {
    kinds.push_back({"subnormal", Normal(1e-5, 1e-6)});
    kinds.push_back({"drift", [](double, size_t i) { return static_cast<double>(i) / 8; }});
    return kinds;
  }
  for (const Kind& kind : std::initializer_list<Kind>{
           {"mean 1e6, std 1", Normal(1e6, 1)},
           {"mean -1e6, std .1", Normal(-1e6, .1)},
           {"mean 1e4, std 1e-3", Normal(1e4, 1e-3)},
           {"mean 1e30, std 1e27", Normal(1e30, 1e27)},
           {"std 1e30", Normal(0, 1e30)},
           {"denormal floats", Normal(1e-40, 1e-41)},
           {"a far first part",
            [](double normal, size_t i) { return (i < 40 ? 0 : 1e6) + .1 * normal; }},
           {"drift", [](double, size_t i) { return static_cast<double>(i); }},
       }) {
    kinds.push_back(kind);
  }
  if constexpr (std::is_same_v<T, double>) {
    kinds.push_back({"mean 1e6, std 1e-2", Normal(1e6, 1e-2)});
    kinds.push_back({"far drift", [](double, size_t i) { return 1e9 + 1e-2 * i; }});
    kinds.push_back({"std 1e150", Normal(0, 1e150)});
  }
  return kinds;
}

class MomentsTest : public ElementTypeTest {
 protected:
  MomentsTest() { RecordProperty("seed", static_cast<int>(kSeed)); }
};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(MomentsTest, kElementTypes);

TEST_P(MomentsTest, ExactAroundLaneCounts) {
  WithElementType([]<typename T>(ElementType<T>) {
    for (const BatchExtents& extents : ExtentsAroundLanes()) {
      GuardedArray<T> x(ValueCount(extents));
      Fill(x, extents, Normal(3, 2));
      ExpectExact(x, extents);
      if (HasFailure()) return;
    }
  });
}

TEST_P(MomentsTest, ReadsNothingBeforeTheInput) {
  WithElementType([]<typename T>(ElementType<T>) {
    for (size_t spatial : kSizesAroundLanes) {
      for (size_t channels : kSizesAroundLanes) {
        const BatchExtents extents = {3, channels, spatial};
        const size_t values = ValueCount(extents);
        // NaN before the first value: had it been read into any sum, that sum would be NaN.
        GuardedArray<T> x(values + 64);
        std::fill_n(x.begin(), 64, FromDouble<T>(kNan));
        std::fill(x.begin() + 64, x.end(), FromDouble<T>(1));
        Result result(channels);
        ComputeMoments(x.data() + 64, extents, result.mean.data(), result.m2.data());
        for (size_t c = 0; c < channels; ++c) {
          EXPECT_TRUE(std::isfinite(result.mean[c]) && std::isfinite(result.m2[c]))
              << ToString(extents);
        }
      }
    }
  });
}

TEST_P(MomentsTest, ExactAcrossTilesStripsAndBlocks) {
  WithElementType([]<typename T>(ElementType<T>) {
    const BatchExtents cases[] = {
        // Strips of columns.
        {9, kColumnsMax - 1, 1},
        {9, kColumnsMax, 1},
        {9, kColumnsMax + 1, 1},
        {17, 2 * kColumnsMax + 3, 1},
        {9, 1500, 3},
        {5, 293, 7},
        // Blocks of rows, with and without rows walked together.
        {kBlockRows - 1, 64, 1},
        {kBlockRows, 64, 1},
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
        {2, 2, kBlockValues + 1},
        {1, 3, 2 * kBlockValues - 1},
        {2, 2, 2 * kBlockValues},
        {1, 2, 3 * kBlockValues + 1},
        // One channel, one value.
        {5 * kBlockValues + 1, 1, 1},
        {1, 1, 1},
    };
    for (const BatchExtents& extents : cases) {
      GuardedArray<T> x(ValueCount(extents));
      Fill(x, extents, Normal(-5, 3));
      ExpectExact(x, extents);
    }
  });
}

TEST_P(MomentsTest, ExactOnIllConditionedData) {
  WithElementType([]<typename T>(ElementType<T>) {
    const BatchExtents shapes[] = {{4100, 70, 1}, {200000, 3, 1}, {20000, 7, 3},
                                   {300, 7, 49},  {2, 2, 200000}, {100, 7, 784}};
    for (const Kind& kind : IllConditionedKinds<T>()) {
      for (const BatchExtents& extents : shapes) {
        SCOPED_TRACE(kind.name);
        GuardedArray<T> x(ValueCount(extents));
        Fill(x, extents, kind.generator);
        ExpectExact(x, extents);
      }
    }
  });
}

TEST_P(MomentsTest, ConstantChannelsHaveExactMeanAndZeroM2) {
  WithElementType([]<typename T>(ElementType<T>) {
    for (double value : {0.0, -0.1, 1e4 / 3, 5 * SmallestOf<T>(), LargestSummable<T>() / 32}) {
      for (const BatchExtents& extents : {BatchExtents{1, 9, 1},
                                          {33, 10, 1},
                                          {5000, 67, 1},
                                          {100000, 3, 1},
                                          {7, 11, 3},
                                          {7, 11, 49},
                                          {3, 2, 100003}}) {
        GuardedArray<T> x(ValueCount(extents));
        std::fill(x.begin(), x.end(), FromDouble<T>(value));
        Result result(extents.channels);
        Compute(x, extents, result);
        for (size_t c = 0; c < extents.channels; ++c) {
          EXPECT_EQ(result.mean[c], ToDouble(x[0])) << ToString(extents);
          EXPECT_EQ(result.m2[c], 0.0) << ToString(extents);
        }
      }
    }
  });
}

TEST_P(MomentsTest, RangeTouchesItsChannelsAlone) {
  WithElementType([]<typename T>(ElementType<T>) {
    for (const BatchExtents& extents : {BatchExtents{33, 10, 1},
                                        {9, 5000, 1},
                                        {33, 9, 3},
                                        {33, 50, 49},
                                        {3, 5, 3000},
                                        {33, 1, 1}}) {
      GuardedArray<T> x(ValueCount(extents));
      Fill(x, extents, Normal(3, 2));
      for (const ChannelRange& range : {ChannelRange{0, 1},
                                        {extents.channels - 1, 1},
                                        {extents.channels / 3, extents.channels / 2},
                                        {0, 0},
                                        {0, extents.channels}}) {
        Result result(extents.channels);
        ComputeMoments(x.data(), extents, range, result.mean.data(), result.m2.data());
        for (size_t c = 0; c < extents.channels; ++c) {
          if (c >= range.first && c < range.first + range.count) {
            ExpectChannelExact(x, extents, c, result);
          } else {
            EXPECT_EQ(result.mean[c], kUntouched) << c << " of " << ToString(extents);
            EXPECT_EQ(result.m2[c], kUntouched) << c << " of " << ToString(extents);
          }
        }
      }
    }
  });
}

struct NonFiniteCase {
  std::string name;
  std::vector<double> values;  // put at evenly spread positions of one channel
  double mean;
};

class MomentsNonFiniteTest : public MomentsTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(MomentsNonFiniteTest, kElementTypes);

TEST_P(MomentsNonFiniteTest, StaysInItsChannel) {
  WithElementType([]<typename T>(ElementType<T>) {
    const NonFiniteCase cases[] = {
        {"one NaN", {kNan}, kNan},          {"one inf", {kInf}, kInf},
        {"one -inf", {-kInf}, -kInf},       {"three inf", {kInf, kInf, kInf}, kInf},
        {"inf, -inf", {kInf, -kInf}, kNan}, {"-inf, inf", {-kInf, kInf}, kNan},
        {"inf, NaN", {kInf, kNan}, kNan},
    };
    const BatchExtents shapes[] = {
        {8, 5, 1}, {32, 10, 1},   {9, 2500, 1}, {9000, 65, 1}, {70000, 3, 1},
        {6, 9, 3}, {20000, 3, 5}, {6, 50, 49},  {400, 3, 49},  {1, 3, 3 * 16384 + 7}};
    for (const BatchExtents& extents : shapes) {
      GuardedArray<T> clean(ValueCount(extents));
      Fill(clean, extents, Normal(10, 1));
      Result expected(extents.channels);
      Compute(clean, extents, expected);
      const size_t count = extents.samples * extents.spatial;
      for (const NonFiniteCase& c : cases) {
        // From the first value, from the middle, and up to the last value of the channel.
        for (size_t placement = 0; placement < 3; ++placement) {
          const size_t channel = placement * (extents.channels - 1) / 2;
          GuardedArray<T> x(std::vector<T>(clean.begin(), clean.end()));
          std::vector<size_t> positions;
          ForEachValue(extents, channel, [&](size_t i) { positions.push_back(i); });
          const size_t gap = (count - 1) / 6;
          for (size_t v = 0; v < c.values.size(); ++v) {
            const size_t at = placement == 0   ? v * gap
                              : placement == 1 ? count / 2 + v * gap
                                               : count - 1 - v * gap;
            x[positions[at]] = FromDouble<T>(c.values[v]);
          }
          SCOPED_TRACE(c.name + " in " + ToString(extents));
          Result result(extents.channels);
          Compute(x, extents, result);
          for (size_t other = 0; other < extents.channels; ++other) {
            if (other == channel) continue;
            ASSERT_EQ(result.mean[other], expected.mean[other]);
            ASSERT_EQ(result.m2[other], expected.m2[other]);
          }
          EXPECT_TRUE(std::isnan(result.m2[channel])) << result.m2[channel];
          if (std::isnan(c.mean)) {
            EXPECT_TRUE(std::isnan(result.mean[channel])) << result.mean[channel];
          } else {
            EXPECT_EQ(result.mean[channel], c.mean);
          }
        }
      }
    }
  });
}

TEST_P(MomentsNonFiniteTest, OneInfiniteValueAlone) {
  WithElementType([]<typename T>(ElementType<T>) {
    GuardedArray<T> x(std::vector<T>{FromDouble<T>(kInf), FromDouble<T>(-kInf), FromDouble<T>(kNan),
                                     FromDouble<T>(2.5)});
    Result result(4);
    Compute(x, {1, 4, 1}, result);
    EXPECT_EQ(result.mean[0], kInf);
    EXPECT_EQ(result.mean[1], -kInf);
    EXPECT_TRUE(std::isnan(result.mean[2]));
    EXPECT_EQ(result.mean[3], 2.5);
    EXPECT_TRUE(std::isnan(result.m2[0]) && std::isnan(result.m2[1]) && std::isnan(result.m2[2]));
    EXPECT_EQ(result.m2[3], 0.0);
  });
}

class MomentsOverflowTest : public MomentsTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(MomentsOverflowTest, kFloat64Alone);

TEST_P(MomentsOverflowTest, IsNotFiniteAndStaysInItsChannel) {
  for (const BatchExtents& extents : {BatchExtents{33, 10, 1}, {9000, 3, 1}, {7, 11, 49}}) {
    GuardedArray<double> x(ValueCount(extents));
    Fill(x, extents, Normal(3, 2));
    ForEachValue(extents, 1, [&](size_t i) { x[i] = x[i] < 3 ? -1e300 : 1e300; });
    Result result(extents.channels);
    Compute(x, extents, result);
    EXPECT_FALSE(std::isfinite(result.m2[1])) << ToString(extents);
    ExpectChannelExact(x, extents, 0, result);
    ExpectChannelExact(x, extents, 2, result);
  }
}

}  // namespace
}  // namespace normd
