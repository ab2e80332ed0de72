#include "core/norm/running_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

using testing::ElementsAre;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

NormConfig Config(std::optional<double> momentum, int correction = 1) {
  return {.num_features = 1, .momentum = momentum, .running_var_correction = correction};
}

// A batch of 5 values: biased variance 2, unbiased 2.5.
Moments Batch() { return {.count = 5, .mean = {10}, .m2 = {10}}; }

TEST(RunningStatsTest, InitialIsMeanZeroVarianceOneAndNoBatch) {
  const RunningStats stats = RunningStats::Initial(3);
  EXPECT_THAT(stats.mean, ElementsAre(0, 0, 0));
  EXPECT_THAT(stats.var, ElementsAre(1, 1, 1));
  EXPECT_EQ(stats.num_batches_tracked, 0);
}

TEST(RunningStatsTest, MomentumIsTheWeightOfTheNewValue) {
  RunningStats stats = RunningStats::Initial(1);
  stats.Fold(Batch(), Config(0.1));
  EXPECT_DOUBLE_EQ(stats.mean[0], 0.9 * 0 + 0.1 * 10);
  EXPECT_DOUBLE_EQ(stats.var[0], 0.9 * 1 + 0.1 * 2.5);
  EXPECT_EQ(stats.num_batches_tracked, 1);
  stats.Fold(Batch(), Config(0.1));
  EXPECT_DOUBLE_EQ(stats.mean[0], 0.9 * 1 + 0.1 * 10);
  EXPECT_DOUBLE_EQ(stats.var[0], 0.9 * 1.15 + 0.1 * 2.5);
  EXPECT_EQ(stats.num_batches_tracked, 2);
}

TEST(RunningStatsTest, MomentumZeroCountsAndChangesNoStatistic) {
  RunningStats stats = {.mean = {3.7}, .var = {0.3}, .num_batches_tracked = 4};
  stats.Fold(Batch(), Config(0.0));
  EXPECT_EQ(stats.mean[0], 3.7);
  EXPECT_EQ(stats.var[0], 0.3);
  EXPECT_EQ(stats.num_batches_tracked, 5);
}

TEST(RunningStatsTest, MomentumOneForgetsWhatWas) {
  RunningStats stats = {.mean = {3.7}, .var = {0.3}, .num_batches_tracked = 4};
  stats.Fold(Batch(), Config(1.0));
  EXPECT_EQ(stats.mean[0], 10);
  EXPECT_EQ(stats.var[0], 2.5);
}

TEST(RunningStatsTest, CorrectionOneTakesTheUnbiasedVarianceAndZeroTheBiasedOne) {
  for (const auto& [correction, var] : {std::pair(1, 2.5), std::pair(0, 2.0)}) {
    RunningStats stats = RunningStats::Initial(1);
    stats.Fold(Batch(), Config(1.0, correction));
    EXPECT_EQ(stats.var[0], var) << "correction " << correction;
  }
}

TEST(RunningStatsTest, TwoValuesAreTheFewestThatHaveAnUnbiasedVariance) {
  RunningStats stats = RunningStats::Initial(1);
  stats.Fold({.count = 2, .mean = {1}, .m2 = {2}}, Config(1.0, 1));
  EXPECT_EQ(stats.var[0], 2);
}

TEST(RunningStatsTest, CumulativeAverageIsTheMeanOfTheBatches) {
  RunningStats stats = RunningStats::Initial(1);
  for (int k = 1; k <= 100; ++k) {
    stats.Fold({.count = 3, .mean = {static_cast<double>(k)}, .m2 = {2.0 * k}},
               Config(std::nullopt));
  }
  EXPECT_EQ(stats.num_batches_tracked, 100);
  EXPECT_NEAR(stats.mean[0], 50.5, 1e-12);
  EXPECT_NEAR(stats.var[0], 50.5, 1e-12);
}

TEST(RunningStatsTest, FirstBatchOfACumulativeAverageReplacesTheInitialValues) {
  RunningStats stats = RunningStats::Initial(1);
  stats.Fold(Batch(), Config(std::nullopt));
  EXPECT_EQ(stats.mean[0], 10);
  EXPECT_EQ(stats.var[0], 2.5);
}

TEST(RunningStatsTest, CumulativeAverageHonoursALoadedCounter) {
  RunningStats stats = {.mean = {4}, .var = {8}, .num_batches_tracked = 9};
  stats.Fold(Batch(), Config(std::nullopt));
  EXPECT_EQ(stats.num_batches_tracked, 10);
  EXPECT_DOUBLE_EQ(stats.mean[0], 0.9 * 4 + 0.1 * 10);
  EXPECT_DOUBLE_EQ(stats.var[0], 0.9 * 8 + 0.1 * 2.5);
}

TEST(RunningStatsTest, InstanceNormFoldsAndDoesNotCount) {
  NormConfig config = Config(0.1);
  config.kind = NormKind::kInstanceNorm;
  RunningStats stats = RunningStats::Initial(1);
  stats.Fold(Batch(), config);
  stats.Fold(Batch(), config);
  EXPECT_DOUBLE_EQ(stats.mean[0], 0.9 * 1 + 0.1 * 10);
  EXPECT_DOUBLE_EQ(stats.var[0], 0.9 * 1.15 + 0.1 * 2.5);
  EXPECT_EQ(stats.num_batches_tracked, 0);
}

TEST(RunningStatsTest, NanPoisonsItsChannelForEverAndNoOther) {
  RunningStats stats = RunningStats::Initial(2);
  stats.Fold({.count = 4, .mean = {kNan, 2}, .m2 = {kNan, 3}}, Config(0.5));
  stats.Fold({.count = 4, .mean = {1, 2}, .m2 = {1, 3}}, Config(1.0));
  EXPECT_TRUE(std::isnan(stats.mean[0]));
  EXPECT_TRUE(std::isnan(stats.var[0]));
  EXPECT_EQ(stats.mean[1], 2);
  EXPECT_EQ(stats.var[1], 1);
}

// In float32 steps of this size would be lost.
TEST(RunningStatsTest, StatisticsAreKeptInFloat64) {
  RunningStats stats = {.mean = {1.0}, .var = {1.0}, .num_batches_tracked = 0};
  for (int k = 0; k < 1000; ++k) {
    stats.Fold({.count = 2, .mean = {2.0}, .m2 = {2.0}}, Config(1e-9));
  }
  EXPECT_NEAR(stats.mean[0], 1.000001, 1e-9);
  EXPECT_NEAR(stats.var[0], 1.000001, 1e-9);
}

// Against the formula of torch/nn/modules/batchnorm.py in long double: 1e-13 relative to the
// largest value that went in.
TEST(RunningStatsTest, RandomFoldsEqualAPlainReference) {
  SeededRandom random;
  std::uniform_real_distribution<double> uniform(0, 1);
  constexpr int kChannels = 3;
  for (int round = 0; round < 200; ++round) {
    NormConfig config = {.num_features = kChannels,
                         .momentum = uniform(random),
                         .running_var_correction = static_cast<int>(random() % 2)};
    if (random() % 2 == 0) config.momentum = std::nullopt;
    RunningStats stats = RunningStats::Initial(kChannels);
    stats.num_batches_tracked = static_cast<int64_t>(random() % 3);
    std::vector<long double> mean(kChannels, 0);
    std::vector<long double> var(kChannels, 1);
    int64_t batches = stats.num_batches_tracked;
    for (int step = 0; step < 50; ++step) {
      Moments batch = {.count = 2 + static_cast<int64_t>(random() % 100)};
      for (int c = 0; c < kChannels; ++c) {
        batch.mean.push_back(200 * uniform(random) - 100);
        batch.m2.push_back(1000 * uniform(random));
      }
      stats.Fold(batch, config);
      ++batches;
      const long double factor =
          config.momentum.has_value() ? static_cast<long double>(*config.momentum) : 1.0L / batches;
      for (int c = 0; c < kChannels; ++c) {
        mean[c] = (1 - factor) * mean[c] + factor * batch.mean[c];
        var[c] = (1 - factor) * var[c] +
                 factor * batch.m2[c] / (batch.count - config.running_var_correction);
      }
    }
    ASSERT_EQ(stats.num_batches_tracked, batches);
    for (int c = 0; c < kChannels; ++c) {
      ASSERT_NEAR(stats.mean[c], static_cast<double>(mean[c]), 100 * 1e-13);
      ASSERT_NEAR(stats.var[c], static_cast<double>(var[c]), 1000 * 1e-13);
    }
  }
}

}  // namespace
}  // namespace normd
