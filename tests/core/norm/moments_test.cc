#include "core/norm/moments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/core/error_matchers.h"

namespace normd {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Pair;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

NormConfig TwoChannels(NonFinitePolicy non_finite = NonFinitePolicy::kRefuse) {
  return {.num_features = 2, .non_finite = non_finite};
}

// Two passes in long double over the values of one channel.
Moments Reference(const std::vector<double>& values) {
  long double sum = 0;
  for (const double x : values) sum += x;
  const long double mean = values.empty() ? 0 : sum / static_cast<long double>(values.size());
  long double m2 = 0;
  for (const double x : values) m2 += (x - mean) * (x - mean);
  return {.count = static_cast<int64_t>(values.size()),
          .mean = {static_cast<double>(mean)},
          .m2 = {static_cast<double>(m2)}};
}

TEST(CheckMomentsTest, TakesWhatFits) {
  for (const Moments& moments :
       {Moments{.count = 0, .mean = {0, 0}, .m2 = {0, 0}},
        Moments{.count = 1, .mean = {1, -2}, .m2 = {0, 0}},
        Moments{.count = 7, .mean = {1e38, -1e38}, .m2 = {-0.0, 1e76}},
        Moments{.count = std::numeric_limits<int64_t>::max(), .mean = {0, 0}, .m2 = {1, 1}}}) {
    EXPECT_TRUE(CheckMoments(moments, TwoChannels()).ok());
  }
}

TEST(CheckMomentsTest, RefusesANegativeCount) {
  for (const int64_t count : {int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    EXPECT_THAT(CheckMoments({.count = count, .mean = {0, 0}, .m2 = {0, 0}}, TwoChannels()),
                IsError(Reason::kMomentsCountNegative,
                        "moments.count is " + std::to_string(count) + ", expected >= 0"));
  }
}

TEST(CheckMomentsTest, RefusesOtherLengths) {
  for (const size_t length : {0, 1, 3}) {
    const std::vector<double> other(length, 0.0);
    const absl::Status mean =
        CheckMoments({.count = 4, .mean = other, .m2 = {0, 0}}, TwoChannels());
    EXPECT_THAT(
        mean, IsError(Reason::kMomentsLengthMismatch,
                      "num_features is 2, moments.mean has " + std::to_string(length) + " values"));
    EXPECT_THAT(GetErrorMetadata(mean),
                ElementsAre(Pair("actual", std::to_string(length)), Pair("expected", "2"),
                            Pair("field", "moments.mean")));
    EXPECT_THAT(CheckMoments({.count = 4, .mean = {0, 0}, .m2 = other}, TwoChannels()),
                IsError(Reason::kMomentsLengthMismatch,
                        "num_features is 2, moments.m2 has " + std::to_string(length) + " values"));
  }
}

TEST(CheckMomentsTest, RefusesANegativeM2UnderEitherPolicy) {
  for (const NonFinitePolicy policy : {NonFinitePolicy::kRefuse, NonFinitePolicy::kPropagate}) {
    const absl::Status status =
        CheckMoments({.count = 4, .mean = {0, 0}, .m2 = {0, -0.5}}, TwoChannels(policy));
    EXPECT_THAT(status, IsError(Reason::kMomentsM2Negative,
                                "moments.m2 is -0.5 at channel 1, expected >= 0"));
    EXPECT_THAT(GetErrorMetadata(status), Contains(Pair("index", "1")));
    EXPECT_THAT(CheckMoments({.count = 4, .mean = {0, 0}, .m2 = {-kInf, 0}}, TwoChannels(policy)),
                HasReason(Reason::kMomentsM2Negative));
  }
}

TEST(CheckMomentsTest, RefusesWhatIsNotFiniteUnlessItPropagates) {
  for (const double bad : {kNan, kInf, -kInf}) {
    const Moments mean = {.count = 4, .mean = {0, bad}, .m2 = {1, 1}};
    const absl::Status status = CheckMoments(mean, TwoChannels());
    EXPECT_THAT(status, HasReason(Reason::kNonFiniteValue)) << bad;
    EXPECT_THAT(GetErrorMetadata(status), Contains(Pair("index", "1")));
    EXPECT_TRUE(CheckMoments(mean, TwoChannels(NonFinitePolicy::kPropagate)).ok()) << bad;
  }
  for (const double bad : {kNan, kInf}) {
    const Moments m2 = {.count = 4, .mean = {0, 0}, .m2 = {bad, 1}};
    EXPECT_THAT(CheckMoments(m2, TwoChannels()), HasReason(Reason::kNonFiniteValue)) << bad;
    EXPECT_TRUE(CheckMoments(m2, TwoChannels(NonFinitePolicy::kPropagate)).ok()) << bad;
  }
  EXPECT_THAT(CheckMoments({.count = 4, .mean = {0, kInf}, .m2 = {0, 2}}, TwoChannels()),
              IsError(Reason::kNonFiniteValue,
                      "moments at channel 1 are mean inf and m2 2, expected those of finite "
                      "float32 values"));
}

TEST(CheckMomentsTest, RefusesWhatNoFiniteFloat32ValuesHave) {
  constexpr double kMax = std::numeric_limits<float>::max();
  const auto check = [](double mean, double m2) {
    return CheckMoments({.count = 4, .mean = {mean, 0}, .m2 = {0, m2}}, TwoChannels());
  };
  EXPECT_TRUE(check(kMax, 4 * kMax * kMax).ok());
  EXPECT_TRUE(check(-kMax, 0).ok());
  EXPECT_THAT(check(2 * kMax, 0), HasReason(Reason::kNonFiniteValue));
  EXPECT_THAT(check(-2 * kMax, 0), HasReason(Reason::kNonFiniteValue));
  EXPECT_THAT(check(0, 5 * kMax * kMax), HasReason(Reason::kNonFiniteValue));
}

TEST(CheckValuesPerChannelTest, RefusesExactlyOne) {
  EXPECT_TRUE(CheckValuesPerChannel(0).ok());
  EXPECT_THAT(CheckValuesPerChannel(1),
              IsError(Reason::kOneValuePerChannel,
                      "Expected more than 1 value per channel when training, got 1"));
  EXPECT_TRUE(CheckValuesPerChannel(2).ok());
  EXPECT_TRUE(CheckValuesPerChannel(std::numeric_limits<int64_t>::max()).ok());
}

TEST(MergeTest, EmptySideChangesNothing) {
  const Moments some = {.count = 3, .mean = {1.5, -2}, .m2 = {0.25, 9}};
  const Moments none = {.count = 0, .mean = {0, 0}, .m2 = {0, 0}};
  Moments into = some;
  Merge(none, into);
  EXPECT_EQ(into.count, 3);
  EXPECT_EQ(into.mean, some.mean);
  EXPECT_EQ(into.m2, some.m2);
  into = none;
  Merge(some, into);
  EXPECT_EQ(into.count, 3);
  EXPECT_EQ(into.mean, some.mean);
  EXPECT_EQ(into.m2, some.m2);
  into = none;
  Merge(none, into);
  EXPECT_EQ(into.count, 0);
  EXPECT_EQ(into.mean, none.mean);
}

TEST(MergeTest, EmptySideIsNotEvenLookedAt) {
  Moments into = {.count = 3, .mean = {1.5}, .m2 = {0.25}};
  Merge({.count = 0, .mean = {kNan}, .m2 = {kNan}}, into);
  EXPECT_EQ(into.mean[0], 1.5);
  EXPECT_EQ(into.m2[0], 0.25);
  Moments nothing;
  Merge(into, nothing);
  EXPECT_EQ(nothing.count, 3);
  EXPECT_THAT(nothing.mean, ElementsAre(1.5));
  EXPECT_THAT(nothing.m2, ElementsAre(0.25));
}

TEST(MergeTest, TwoValuesMakeTheirMoments) {
  Moments into = {.count = 1, .mean = {1}, .m2 = {0}};
  Merge({.count = 1, .mean = {3}, .m2 = {0}}, into);
  EXPECT_EQ(into.count, 2);
  EXPECT_EQ(into.mean[0], 2);
  EXPECT_EQ(into.m2[0], 2);
}

TEST(MergeTest, NanStaysInItsChannel) {
  Moments into = {.count = 2, .mean = {1, 1}, .m2 = {2, 2}};
  Merge({.count = 2, .mean = {kNan, 1}, .m2 = {kNan, 2}}, into);
  EXPECT_TRUE(std::isnan(into.mean[0]));
  EXPECT_TRUE(std::isnan(into.m2[0]));
  EXPECT_EQ(into.mean[1], 1);
  EXPECT_EQ(into.m2[1], 4);
}

// Relative error allowed to m2: 1e-12, for means of up to 1e3 standard deviations.
TEST(MergeTest, PartsInAnyOrderEqualOnePass) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    const double center = std::uniform_real_distribution<double>(-1e3, 1e3)(random);
    std::normal_distribution<double> normal(center, 1.0);
    std::vector<double> values(2 + random() % 500);
    for (double& x : values) x = normal(random);
    std::vector<Moments> parts;
    for (size_t begin = 0; begin < values.size();) {
      const size_t end = std::min(values.size(), begin + random() % 100);
      parts.push_back(Reference(std::vector<double>(values.begin() + begin, values.begin() + end)));
      begin = end;
    }
    const Moments expected = Reference(values);
    for (int order = 0; order < 5; ++order) {
      std::shuffle(parts.begin(), parts.end(), random);
      Moments merged = {.count = 0, .mean = {0}, .m2 = {0}};
      for (const Moments& part : parts) Merge(part, merged);
      ASSERT_EQ(merged.count, expected.count);
      ASSERT_NEAR(merged.mean[0], expected.mean[0], 1e-12 * (1 + std::abs(expected.mean[0])));
      ASSERT_NEAR(merged.m2[0], expected.m2[0], 1e-12 * expected.m2[0]);
    }
  }
}

TEST(MergeTest, SidesMayBeSwapped) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(-10, 10);
  for (int round = 0; round < 1000; ++round) {
    const Moments a = {.count = 1 + static_cast<int64_t>(random() % 1000),
                       .mean = {uniform(random)},
                       .m2 = {std::abs(uniform(random))}};
    const Moments b = {.count = 1 + static_cast<int64_t>(random() % 1000),
                       .mean = {uniform(random)},
                       .m2 = {std::abs(uniform(random))}};
    Moments ab = a;
    Merge(b, ab);
    Moments ba = b;
    Merge(a, ba);
    ASSERT_EQ(ab.count, ba.count);
    ASSERT_NEAR(ab.mean[0], ba.mean[0], 1e-14);
    ASSERT_NEAR(ab.m2[0], ba.m2[0], 1e-13 * ab.m2[0]);
  }
}

}  // namespace
}  // namespace normd
