#include "core/kernels/moments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/kernels/moments_plan.h"
#include "tests/core/kernels/guarded_array.h"
#include "tests/core/kernels/simd_target_test.h"
#include "tests/core/kernels/sizes.h"

namespace normd {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr uint32_t kSeed = 20240607;
constexpr double kUntouched = -77;

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
ReferenceMoments Reference(const GuardedArray<float>& x, const BatchExtents& extents,
                           size_t channel) {
  ReferenceMoments reference;
  long double sum = 0;
  ForEachValue(extents, channel, [&](size_t i) {
    sum += x[i];
    reference.largest = std::max(reference.largest, std::abs(static_cast<long double>(x[i])));
  });
  reference.mean = sum / static_cast<long double>(extents.samples * extents.spatial);
  ForEachValue(extents, channel, [&](size_t i) {
    const long double d = x[i] - reference.mean;
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

void Compute(const GuardedArray<float>& x, const BatchExtents& extents, Result& result) {
  ComputeMoments(x.data(), extents, result.mean.data(), result.m2.data());
  EXPECT_TRUE(result.mean.CanaryIntact());
  EXPECT_TRUE(result.m2.CanaryIntact());
}

void ExpectChannelExact(const GuardedArray<float>& x, const BatchExtents& extents, size_t channel,
                        const Result& result) {
  const ReferenceMoments reference = Reference(x, extents, channel);
  EXPECT_NEAR(result.mean[channel], static_cast<double>(reference.mean),
              1e-13 * static_cast<double>(reference.largest))
      << "mean of channel " << channel << " of " << ToString(extents);
  EXPECT_NEAR(result.m2[channel], static_cast<double>(reference.m2),
              1e-9 * static_cast<double>(reference.m2))
      << "m2 of channel " << channel << " of " << ToString(extents);
}

void ExpectExact(const GuardedArray<float>& x, const BatchExtents& extents) {
  Result result(extents.channels);
  Compute(x, extents, result);
  for (size_t c = 0; c < extents.channels; ++c) ExpectChannelExact(x, extents, c, result);
}

// Gives the value at a position of its channel, counted over the samples.
using Generator = std::function<float(std::mt19937&, size_t position)>;

Generator Normal(double mean, double std) {
  return [distribution = std::normal_distribution<double>(mean, std)](std::mt19937& random,
                                                                      size_t) mutable {
    return static_cast<float>(distribution(random));
  };
}

void Fill(GuardedArray<float>& x, const BatchExtents& extents, Generator generator) {
  std::mt19937 random(kSeed);
  for (size_t channel = 0; channel < extents.channels; ++channel) {
    size_t position = 0;
    ForEachValue(extents, channel, [&](size_t i) { x[i] = generator(random, position++); });
  }
}

class MomentsTest : public SimdTargetTest {
 protected:
  MomentsTest() { RecordProperty("seed", static_cast<int>(kSeed)); }
};

NORMD_INSTANTIATE_FOR_TARGETS(MomentsTest);

TEST_P(MomentsTest, ExactAroundLaneCounts) {
  for (size_t channels : kSizesAroundLanes) {
    for (size_t samples : kSizesAroundLanes) {
      for (size_t spatial : kSizesAroundLanes) {
        const BatchExtents extents = {samples, channels, spatial};
        GuardedArray<float> x(ValueCount(extents));
        Fill(x, extents, Normal(3, 2));
        ExpectExact(x, extents);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(MomentsTest, ReadsNothingBeforeTheInput) {
  for (size_t spatial : kSizesAroundLanes) {
    for (size_t channels : kSizesAroundLanes) {
      const BatchExtents extents = {3, channels, spatial};
      const size_t values = ValueCount(extents);
      // NaN before the first value: had it been read into any sum, that sum would be NaN.
      GuardedArray<float> x(values + 64);
      std::fill_n(x.begin(), 64, kNan);
      std::fill(x.begin() + 64, x.end(), 1.0f);
      Result result(channels);
      ComputeMoments(x.data() + 64, extents, result.mean.data(), result.m2.data());
      for (size_t c = 0; c < channels; ++c) {
        EXPECT_TRUE(std::isfinite(result.mean[c]) && std::isfinite(result.m2[c]))
            << ToString(extents);
      }
    }
  }
}

TEST_P(MomentsTest, ExactAcrossTilesStripsAndBlocks) {
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
    GuardedArray<float> x(ValueCount(extents));
    Fill(x, extents, Normal(-5, 3));
    ExpectExact(x, extents);
  }
}

TEST_P(MomentsTest, ExactOnIllConditionedData) {
  const struct {
    std::string name;
    Generator generator;
  } kinds[] = {
      {"mean 1e6, std 1", Normal(1e6, 1)},
      {"mean -1e6, std .1", Normal(-1e6, .1)},
      {"mean 1e4, std 1e-3", Normal(1e4, 1e-3)},
      {"mean 1e30, std 1e27", Normal(1e30, 1e27)},
      {"std 1e30", Normal(0, 1e30)},
      {"std 1e38, up to the largest float",
       [](std::mt19937&, size_t i) {
         const float largest = std::numeric_limits<float>::max();
         return i % 3 == 0 ? -largest : largest;
       }},
      {"denormal", Normal(1e-40, 1e-41)},
      {"a large outlier first",
       [](std::mt19937& random, size_t i) {
         return i == 0 ? 1e8f : std::normal_distribution<float>(1, 1)(random);
       }},
      {"constant after a large first value",
       [](std::mt19937&, size_t i) { return i == 0 ? 1e6f : .1f; }},
      {"a far first part",
       [](std::mt19937& random, size_t i) {
         return std::normal_distribution<float>(i < 40 ? 0 : 1e6f, .1f)(random);
       }},
      {"drift", [](std::mt19937&, size_t i) { return static_cast<float>(i); }},
  };
  const BatchExtents shapes[] = {{4100, 70, 1}, {200000, 3, 1}, {20000, 7, 3},
                                 {300, 7, 49},  {2, 2, 200000}, {100, 7, 784}};
  for (const auto& kind : kinds) {
    for (const BatchExtents& extents : shapes) {
      SCOPED_TRACE(kind.name);
      GuardedArray<float> x(ValueCount(extents));
      Fill(x, extents, kind.generator);
      ExpectExact(x, extents);
    }
  }
}

TEST_P(MomentsTest, ConstantChannelsHaveExactMeanAndZeroM2) {
  for (float value : {0.0f, -0.1f, 1e6f / 3, 1e30f / 7, 1e-40f, 3.3e38f}) {
    for (const BatchExtents& extents : {BatchExtents{1, 9, 1},
                                        {33, 10, 1},
                                        {5000, 67, 1},
                                        {100000, 3, 1},
                                        {7, 11, 3},
                                        {7, 11, 49},
                                        {3, 2, 100003}}) {
      GuardedArray<float> x(ValueCount(extents));
      std::fill(x.begin(), x.end(), value);
      Result result(extents.channels);
      Compute(x, extents, result);
      for (size_t c = 0; c < extents.channels; ++c) {
        EXPECT_EQ(result.mean[c], static_cast<double>(value)) << ToString(extents);
        EXPECT_EQ(result.m2[c], 0.0) << ToString(extents);
      }
    }
  }
}

TEST_P(MomentsTest, RangeTouchesItsChannelsAlone) {
  for (const BatchExtents& extents : {BatchExtents{33, 10, 1},
                                      {9, 5000, 1},
                                      {33, 9, 3},
                                      {33, 50, 49},
                                      {3, 5, 3000},
                                      {33, 1, 1}}) {
    GuardedArray<float> x(ValueCount(extents));
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
}

struct NonFiniteCase {
  std::string name;
  std::vector<float> values;  // put at evenly spread positions of one channel
  double mean;
};

class MomentsNonFiniteTest : public MomentsTest {};

NORMD_INSTANTIATE_FOR_TARGETS(MomentsNonFiniteTest);

TEST_P(MomentsNonFiniteTest, StaysInItsChannel) {
  const double inf = static_cast<double>(kInf);
  const double nan = static_cast<double>(kNan);
  const NonFiniteCase cases[] = {
      {"one NaN", {kNan}, nan},          {"one inf", {kInf}, inf},
      {"one -inf", {-kInf}, -inf},       {"three inf", {kInf, kInf, kInf}, inf},
      {"inf, -inf", {kInf, -kInf}, nan}, {"-inf, inf", {-kInf, kInf}, nan},
      {"inf, NaN", {kInf, kNan}, nan},
  };
  const BatchExtents shapes[] = {
      {8, 5, 1}, {32, 10, 1},   {9, 2500, 1}, {9000, 65, 1}, {70000, 3, 1},
      {6, 9, 3}, {20000, 3, 5}, {6, 50, 49},  {400, 3, 49},  {1, 3, 3 * 16384 + 7}};
  for (const BatchExtents& extents : shapes) {
    GuardedArray<float> clean(ValueCount(extents));
    Fill(clean, extents, Normal(10, 1));
    Result expected(extents.channels);
    Compute(clean, extents, expected);
    const size_t count = extents.samples * extents.spatial;
    for (const NonFiniteCase& c : cases) {
      // From the first value, from the middle, and up to the last value of the channel.
      for (size_t placement = 0; placement < 3; ++placement) {
        const size_t channel = placement * (extents.channels - 1) / 2;
        GuardedArray<float> x(std::vector<float>(clean.begin(), clean.end()));
        std::vector<size_t> positions;
        ForEachValue(extents, channel, [&](size_t i) { positions.push_back(i); });
        const size_t gap = (count - 1) / 6;
        for (size_t v = 0; v < c.values.size(); ++v) {
          const size_t at = placement == 0   ? v * gap
                            : placement == 1 ? count / 2 + v * gap
                                             : count - 1 - v * gap;
          x[positions[at]] = c.values[v];
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
}

TEST_P(MomentsNonFiniteTest, OneInfiniteValueAlone) {
  GuardedArray<float> x(std::vector<float>{kInf, -kInf, kNan, 2.5f});
  Result result(4);
  Compute(x, {1, 4, 1}, result);
  EXPECT_EQ(result.mean[0], static_cast<double>(kInf));
  EXPECT_EQ(result.mean[1], static_cast<double>(-kInf));
  EXPECT_TRUE(std::isnan(result.mean[2]));
  EXPECT_EQ(result.mean[3], 2.5);
  EXPECT_TRUE(std::isnan(result.m2[0]) && std::isnan(result.m2[1]) && std::isnan(result.m2[2]));
  EXPECT_EQ(result.m2[3], 0.0);
}

}  // namespace
}  // namespace normd
