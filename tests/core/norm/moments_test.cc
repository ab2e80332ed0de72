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

#include "core/norm/running_stats.h"
#include "tests/core/error_matchers.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

using testing::Contains;
using testing::DoubleEq;
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

TEST(CheckMomentsTest, RefusesAnM2OfNoValuesUnderEitherPolicy) {
  for (const NonFinitePolicy policy : {NonFinitePolicy::kRefuse, NonFinitePolicy::kPropagate}) {
    const absl::Status status =
        CheckMoments({.count = 0, .mean = {0, 0}, .m2 = {0, 0.5}}, TwoChannels(policy));
    EXPECT_THAT(status, IsError(Reason::kMomentsLengthMismatch,
                                "moments.m2 is 0.5 at channel 1, expected 0: moments.count is 0"));
    EXPECT_THAT(GetErrorMetadata(status),
                ElementsAre(Pair("actual", "0.5"), Pair("expected", "0"),
                            Pair("field", "moments.m2"), Pair("index", "1")));
  }
  for (const double bad : {kNan, kInf}) {
    EXPECT_THAT(CheckMoments({.count = 0, .mean = {0, 0}, .m2 = {bad, 0}},
                             TwoChannels(NonFinitePolicy::kPropagate)),
                HasReason(Reason::kMomentsLengthMismatch));
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
                      "moments at channel 1 are mean inf and m2 2 of 4 values, expected "
                      "|mean| <= 1e150 and m2 / count <= 1e300"));
}

TEST(CheckMomentsTest, RefusesWhatCouldTakeRunningStatisticsToInfinity) {
  const auto check = [](int64_t count, double mean, double m2) {
    return CheckMoments({.count = count, .mean = {mean, 0}, .m2 = {0, m2}}, TwoChannels());
  };
  EXPECT_TRUE(check(4, 1e150, 4e300).ok());
  EXPECT_TRUE(check(4, -1e150, 0).ok());
  EXPECT_TRUE(check(1, 0, 1e300).ok());
  EXPECT_TRUE(check(1'000'000'000, 0, std::numeric_limits<double>::max()).ok());
  EXPECT_THAT(check(4, 1.01e150, 0), HasReason(Reason::kNonFiniteValue));
  EXPECT_THAT(check(4, -1.01e150, 0), HasReason(Reason::kNonFiniteValue));
  EXPECT_THAT(check(4, 0, 4.04e300), HasReason(Reason::kNonFiniteValue));
  EXPECT_THAT(check(1, 0, 1.01e300), HasReason(Reason::kNonFiniteValue));
  EXPECT_THAT(check(std::numeric_limits<int64_t>::max(), 0, kInf),
              HasReason(Reason::kNonFiniteValue));
}

TEST(CheckMomentsTest, OnlyKindsThatTrackFoldMoments) {
  const Moments moments = {.count = 4, .mean = {1, 2}, .m2 = {1, 1}};
  NormConfig config = TwoChannels();
  config.kind = NormKind::kInstanceNorm;
  EXPECT_TRUE(CheckMoments(moments, config).ok());
  for (const auto& [kind, name] :
       {std::pair(NormKind::kLayerNorm, "LAYER_NORM"),
        std::pair(NormKind::kGroupNorm, "GROUP_NORM"), std::pair(NormKind::kRmsNorm, "RMS_NORM")}) {
    config.kind = kind;
    const absl::Status status = CheckMoments(moments, config);
    EXPECT_THAT(status, IsError(Reason::kMomentsNotPossible,
                                std::string("kind ") + name +
                                    " folds no moments, expected BATCH_NORM or INSTANCE_NORM"));
    EXPECT_THAT(GetErrorMetadata(status),
                ElementsAre(Pair("field", "moments"), Pair("kind", name)));
  }
}

NormConfig TwoInstanceChannels() {
  NormConfig config = DefaultConfig(NormKind::kInstanceNorm);
  config.num_features = 2;
  config.track_running_stats = true;
  return config;
}

TEST(PerChannelTest, BatchNormComesBack) {
  const Moments moments = PerChannel({.count = 7, .mean = {1, 2}, .m2 = {3, 4}}, TwoChannels());
  EXPECT_EQ(moments.count, 7);
  EXPECT_THAT(moments.mean, ElementsAre(1, 2));
  EXPECT_THAT(moments.m2, ElementsAre(3, 4));
}

TEST(PerChannelTest, InstanceNormIsAveragedOverTheSamples) {
  const Moments moments =
      PerChannel({.count = 5, .mean = {1, 10, 2, 20, 6, 60}, .m2 = {3, 30, 4, 40, 8, 80}},
                 TwoInstanceChannels());
  EXPECT_EQ(moments.count, 5);
  EXPECT_THAT(moments.mean, ElementsAre(3, 30));
  EXPECT_THAT(moments.m2, ElementsAre(5, 50));
  const Moments one_sample =
      PerChannel({.count = 5, .mean = {1, 10}, .m2 = {3, 30}}, TwoInstanceChannels());
  EXPECT_THAT(one_sample.mean, ElementsAre(1, 10));
  EXPECT_THAT(one_sample.m2, ElementsAre(3, 30));
}

// torch 1.13.1, float64: torch.nn.InstanceNorm1d(2, track_running_stats=True) in train mode over
// [[[1,2,4],[0,0,3]],[[5,5,8],[-1,1,6]]].
TEST(PerChannelTest, FoldOfInstanceNormIsThatOfTorch) {
  const Moments batch = {.count = 3, .mean = {7.0 / 3, 1, 6, 2}, .m2 = {14.0 / 3, 6, 6, 26}};
  RunningStats stats = RunningStats::Initial(2);
  const NormConfig config = TwoInstanceChannels();
  stats.Fold(PerChannel(batch, config), config);
  EXPECT_THAT(stats.mean,
              ElementsAre(DoubleEq(0.41666666666666674), DoubleEq(0.15000000000000002)));
  EXPECT_THAT(stats.var, ElementsAre(DoubleEq(1.1666666666666667), DoubleEq(1.7000000000000002)));
}

TEST(PerChannelTest, EmptyBatchHasEmptyChannels) {
  const Moments moments = PerChannel({}, TwoInstanceChannels());
  EXPECT_EQ(moments.count, 0);
  EXPECT_THAT(moments.mean, ElementsAre(0, 0));
  EXPECT_THAT(moments.m2, ElementsAre(0, 0));
  EXPECT_TRUE(CheckMoments(moments, TwoInstanceChannels()).ok());
}

TEST(PerChannelTest, NanOfOneSampleIsThatOfItsChannel) {
  const Moments moments = PerChannel({.count = 5, .mean = {1, 1, kNan, 1}, .m2 = {3, 9, kNan, 1}},
                                     TwoInstanceChannels());
  EXPECT_TRUE(std::isnan(moments.mean[0]));
  EXPECT_TRUE(std::isnan(moments.m2[0]));
  EXPECT_EQ(moments.mean[1], 1);
  EXPECT_EQ(moments.m2[1], 5);
}

TEST(CheckBatchMomentsTest, BatchNormIsAsCheckMomentsHasIt) {
  EXPECT_TRUE(CheckBatchMoments({.count = 4, .mean = {0, 0}, .m2 = {1, 1}}, TwoChannels()).ok());
  for (const Moments& bad : {Moments{.count = -1, .mean = {0, 0}, .m2 = {1, 1}},
                             Moments{.count = 4, .mean = {0, 0, 0, 0}, .m2 = {1, 1, 1, 1}},
                             Moments{.count = 4, .mean = {0, 0}, .m2 = {1, -1}},
                             Moments{.count = 4, .mean = {0, kNan}, .m2 = {1, 1}}}) {
    const absl::Status status = CheckBatchMoments(bad, TwoChannels());
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(status, CheckMoments(bad, TwoChannels()));
  }
}

TEST(CheckBatchMomentsTest, InstanceNormHasSetsOfAnyNumberOfSamples) {
  for (const Moments& moments : {Moments{}, Moments{.count = 0, .mean = {0, 0}, .m2 = {0, 0}},
                                 Moments{.count = 5, .mean = {1, 1}, .m2 = {3, 9}},
                                 Moments{.count = 5, .mean = {1, 1, 1, 1}, .m2 = {3, 9, 0, 0}}}) {
    EXPECT_TRUE(CheckBatchMoments(moments, TwoInstanceChannels()).ok());
  }
}

TEST(CheckBatchMomentsTest, RefusesWhatIsNoMultipleOfChannels) {
  for (const Moments& odd : {Moments{.count = 5, .mean = {1, 1, 1}, .m2 = {3, 9, 1}},
                             Moments{.count = 5, .mean = {1}, .m2 = {3}},
                             // Values in each of no sets.
                             Moments{.count = 5, .mean = {}, .m2 = {}}}) {
    const std::string sets = std::to_string(odd.mean.size());
    const absl::Status status = CheckBatchMoments(odd, TwoInstanceChannels());
    EXPECT_THAT(status, IsError(Reason::kMomentsLengthMismatch,
                                "num_features is 2, moments.mean has " + sets +
                                    " values, expected a multiple of 2"));
    EXPECT_THAT(GetErrorMetadata(status),
                ElementsAre(Pair("actual", sets), Pair("expected", "a multiple of 2"),
                            Pair("field", "moments.mean")));
  }
  EXPECT_THAT(
      CheckBatchMoments({.count = 5, .mean = {1, 1, 1, 1}, .m2 = {3, 9}}, TwoInstanceChannels()),
      IsError(Reason::kMomentsLengthMismatch,
              "the values of moments.mean are 4, moments.m2 has 2 values"));
}

TEST(CheckBatchMomentsTest, NamesTheSetOfALaterSample) {
  const absl::Status negative = CheckBatchMoments(
      {.count = 5, .mean = {1, 1, 1, 1}, .m2 = {3, 9, 4, -0.5}}, TwoInstanceChannels());
  EXPECT_THAT(negative,
              IsError(Reason::kMomentsM2Negative, "moments.m2 is -0.5 at set 3, expected >= 0"));
  EXPECT_THAT(GetErrorMetadata(negative), Contains(Pair("index", "3")));
  const absl::Status nan = CheckBatchMoments(
      {.count = 5, .mean = {1, 1, kNan, 1}, .m2 = {3, 9, 4, 1}}, TwoInstanceChannels());
  EXPECT_THAT(nan, IsError(Reason::kNonFiniteValue,
                           "moments at set 2 are mean nan and m2 4 of 5 values, expected "
                           "|mean| <= 1e150 and m2 / count <= 1e300"));
  EXPECT_THAT(GetErrorMetadata(nan), Contains(Pair("index", "2")));
}

TEST(CheckSavedMomentsTest, TakesThoseOfTheInputAndNamesTheSetOfOthers) {
  constexpr NonFinitePolicy kRefuse = NonFinitePolicy::kRefuse;
  const Moments saved = {.count = 4, .mean = {0, 1e150, 0}, .m2 = {0, 1, 4e300}};
  EXPECT_TRUE(CheckSavedMoments(saved, 3, 4, kRefuse).ok());
  EXPECT_THAT(CheckSavedMoments(saved, 3, 5, kRefuse),
              IsError(Reason::kMomentsLengthMismatch,
                      "the input's values per set are 5, moments.count is 4"));
  EXPECT_THAT(
      CheckSavedMoments(saved, 2, 4, kRefuse),
      IsError(Reason::kMomentsLengthMismatch, "the input's sets are 2, moments.mean has 3 values"));
  Moments bad = saved;
  bad.m2[1] = -1;
  EXPECT_THAT(CheckSavedMoments(bad, 3, 4, NonFinitePolicy::kPropagate),
              IsError(Reason::kMomentsM2Negative, "moments.m2 is -1 at set 1, expected >= 0"));
  bad = saved;
  bad.mean[1] = 1.01e150;
  EXPECT_THAT(CheckSavedMoments(bad, 3, 4, kRefuse), HasReason(Reason::kNonFiniteValue));
  EXPECT_TRUE(CheckSavedMoments(bad, 3, 4, NonFinitePolicy::kPropagate).ok());
  EXPECT_THAT(CheckSavedMoments({.count = -4, .mean = {}, .m2 = {}}, 0, -4, kRefuse),
              HasReason(Reason::kMomentsCountNegative));
}

TEST(CheckValuesPerSetTest, RefusesExactlyOneInTheWordsOfPyTorch) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  for (const NormKind kind : {NormKind::kBatchNorm, NormKind::kLayerNorm, NormKind::kGroupNorm,
                              NormKind::kInstanceNorm, NormKind::kRmsNorm}) {
    for (const int64_t count : {int64_t{0}, int64_t{2}, kMax}) {
      EXPECT_TRUE(CheckValuesPerSet(count, kind).ok());
    }
  }
  for (const NormKind kind : {NormKind::kBatchNorm, NormKind::kGroupNorm}) {
    EXPECT_THAT(CheckValuesPerSet(1, kind),
                IsError(Reason::kOneValuePerChannel,
                        "Expected more than 1 value per channel when training, got 1"));
  }
  for (const int64_t samples : {1, 8}) {
    EXPECT_THAT(CheckValuesPerSet(1, NormKind::kInstanceNorm, samples),
                IsError(Reason::kOneValuePerChannel,
                        "Expected more than 1 spatial element when training, got 1"));
  }
}

TEST(CheckValuesPerSetTest, LayerAndRmsNormTakeOneValue) {
  EXPECT_TRUE(CheckValuesPerSet(1, NormKind::kLayerNorm).ok());
  EXPECT_TRUE(CheckValuesPerSet(1, NormKind::kRmsNorm).ok());
}

// PyTorch counts the values of all samples: [1,C] with a group a channel raises, [2,C] does not.
TEST(CheckValuesPerSetTest, GroupNormTakesOneValueOfEachOfSeveralSamples) {
  EXPECT_TRUE(CheckValuesPerSet(1, NormKind::kGroupNorm, 2).ok());
  EXPECT_THAT(CheckValuesPerSet(1, NormKind::kGroupNorm, 1),
              HasReason(Reason::kOneValuePerChannel));
  EXPECT_THAT(CheckValuesPerSet(1, NormKind::kBatchNorm, 2),
              HasReason(Reason::kOneValuePerChannel));
}

TEST(SaturatingSumTest, StaysAtTheEndOfInt64) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(SaturatingSum(2, 3), 5);
  EXPECT_EQ(SaturatingSum(kMax, 0), kMax);
  EXPECT_EQ(SaturatingSum(kMax - 1, 1), kMax);
  EXPECT_EQ(SaturatingSum(kMax - 1, 2), kMax);
  EXPECT_EQ(SaturatingSum(kMax, kMax), kMax);
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

TEST(MergeTest, CountStaysAtTheEndOfInt64) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  Moments into = {.count = kMax, .mean = {1}, .m2 = {2}};
  Merge({.count = kMax, .mean = {3}, .m2 = {2}}, into);
  EXPECT_EQ(into.count, kMax);
  EXPECT_EQ(into.mean[0], 2);
}

// Relative error allowed to m2: 1e-12, for means of up to 1e3 standard deviations.
TEST(MergeTest, PartsInAnyOrderEqualOnePass) {
  SeededRandom random;
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
  SeededRandom random;
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
