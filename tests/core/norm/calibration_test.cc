#include "core/norm/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;

constexpr auto kMeanOfBatches = CalibrationMethod::kMeanOfBatches;
constexpr auto kPooled = CalibrationMethod::kPooled;

NormConfig Config(int correction = 1) {
  return {.num_features = 2, .momentum = 0.25, .running_var_correction = correction};
}

// Rows of two channels.
using Rows = std::vector<std::vector<double>>;

Moments MomentsOf(const Rows& rows) {
  Moments moments = {.count = static_cast<int64_t>(rows.size()), .mean = {0, 0}, .m2 = {0, 0}};
  for (int c = 0; c < 2; ++c) {
    for (const auto& row : rows) moments.mean[c] += row[c] / static_cast<double>(rows.size());
    for (const auto& row : rows) {
      moments.m2[c] += (row[c] - moments.mean[c]) * (row[c] - moments.mean[c]);
    }
  }
  return moments;
}

// 3, 2 and 4 rows.
std::vector<Rows> Batches() {
  return {{{1, -2}, {2, 4}, {6, 1}}, {{0.5, 8}, {-0.25, 3}}, {{10, 0}, {3, -1}, {2.5, 2}, {7, 5}}};
}

RunningStats Calibrated(CalibrationMethod method, const std::vector<Rows>& batches,
                        const NormConfig& config) {
  Calibration calibration = Calibration::Begin(method, config.num_features);
  for (const Rows& rows : batches) calibration.Add(MomentsOf(rows), config);
  return calibration.Finish(config);
}

TEST(CalibrationTest, BeginsWithNothing) {
  for (const CalibrationMethod method : {kMeanOfBatches, kPooled}) {
    const Calibration calibration = Calibration::Begin(method, 3);
    EXPECT_EQ(calibration.method, method);
    EXPECT_EQ(calibration.num_batches, 0);
    EXPECT_EQ(calibration.count, 0);
    EXPECT_THAT(calibration.mean, ElementsAre(0, 0, 0));
    EXPECT_THAT(calibration.spread, ElementsAre(0, 0, 0));
  }
}

TEST(CalibrationTest, AddCountsBatchesAndValues) {
  for (const CalibrationMethod method : {kMeanOfBatches, kPooled}) {
    Calibration calibration = Calibration::Begin(method, 2);
    calibration.Add(MomentsOf(Batches()[0]), Config());
    calibration.Add(MomentsOf(Batches()[1]), Config());
    EXPECT_EQ(calibration.num_batches, 2);
    EXPECT_EQ(calibration.count, 5);
  }
}

// torch 1.13.1, float64: torch.optim.swa_utils.update_bn over torch.nn.BatchNorm1d(2).
TEST(CalibrationTest, MeanOfBatchesIsUpdateBnOfTorch) {
  const RunningStats stats = Calibrated(kMeanOfBatches, Batches(), Config());
  EXPECT_THAT(stats.mean, ElementsAre(DoubleNear(2.916666666666667, 1e-14),
                                      DoubleNear(2.666666666666667, 1e-14)));
  EXPECT_THAT(stats.var, ElementsAre(DoubleNear(6.614583333333334, 1e-14), DoubleNear(9.5, 1e-14)));
  EXPECT_EQ(stats.num_batches_tracked, 3);
}

// torch 1.13.1, float64: mean(0) and var(0) of all rows.
TEST(CalibrationTest, PooledIsMeanAndVarianceOfAllValues) {
  const RunningStats stats = Calibrated(kPooled, Batches(), Config());
  EXPECT_THAT(stats.mean, ElementsAre(DoubleNear(3.5277777777777777, 1e-14),
                                      DoubleNear(2.2222222222222223, 1e-14)));
  EXPECT_THAT(stats.var, ElementsAre(DoubleNear(11.694444444444445, 1e-13),
                                     DoubleNear(9.944444444444443, 1e-13)));
  EXPECT_EQ(stats.num_batches_tracked, 3);
}

TEST(CalibrationTest, CorrectionZeroTakesTheBiasedVariance) {
  const RunningStats pooled = Calibrated(kPooled, Batches(), Config(0));
  EXPECT_THAT(pooled.var, ElementsAre(DoubleNear(11.694444444444445 * 8 / 9, 1e-13),
                                      DoubleNear(9.944444444444443 * 8 / 9, 1e-13)));
  const RunningStats mean_of_batches = Calibrated(kMeanOfBatches, {Batches()[0]}, Config(0));
  EXPECT_THAT(mean_of_batches.var, ElementsAre(DoubleNear(14.0 / 3, 1e-14), DoubleNear(6, 1e-14)));
}

TEST(CalibrationTest, OneBatchGivesItsOwnStatistics) {
  for (const CalibrationMethod method : {kMeanOfBatches, kPooled}) {
    const RunningStats stats = Calibrated(method, {Batches()[0]}, Config());
    EXPECT_THAT(stats.mean, ElementsAre(3, 1));
    EXPECT_THAT(stats.var, ElementsAre(7, 9));
    EXPECT_EQ(stats.num_batches_tracked, 1);
  }
}

TEST(CalibrationTest, InstanceNormCountsNoBatches) {
  NormConfig config = Config();
  config.kind = NormKind::kInstanceNorm;
  const RunningStats stats = Calibrated(kMeanOfBatches, Batches(), config);
  EXPECT_EQ(stats.num_batches_tracked, 0);
  EXPECT_EQ(stats.mean, Calibrated(kMeanOfBatches, Batches(), Config()).mean);
}

// What update_bn does: a reset, then folds with momentum None.
TEST(CalibrationTest, MeanOfBatchesEqualsACumulativeAverageFromTheStart) {
  SeededRandom random;
  std::uniform_real_distribution<double> uniform(-10, 10);
  for (int round = 0; round < 100; ++round) {
    const NormConfig config = Config(static_cast<int>(random() % 2));
    NormConfig cumulative = config;
    cumulative.momentum = std::nullopt;
    Calibration calibration = Calibration::Begin(kMeanOfBatches, 2);
    RunningStats folded = RunningStats::Initial(2);
    for (uint32_t k = 1 + random() % 30; k > 0; --k) {
      const Moments batch = {.count = 2 + static_cast<int64_t>(random() % 100),
                             .mean = {uniform(random), uniform(random)},
                             .m2 = {std::abs(uniform(random)), std::abs(uniform(random))}};
      calibration.Add(batch, config);
      folded.Fold(batch, cumulative);
    }
    const RunningStats stats = calibration.Finish(config);
    ASSERT_EQ(stats.mean, folded.mean);
    ASSERT_EQ(stats.var, folded.var);
    ASSERT_EQ(stats.num_batches_tracked, folded.num_batches_tracked);
  }
}

// 1e-12 relative to the largest value: sums of up to 50 batches in another order.
TEST(CalibrationTest, OrderOfTheBatchesDoesNotMatter) {
  SeededRandom random;
  std::normal_distribution<double> normal(100, 1);
  for (int round = 0; round < 100; ++round) {
    std::vector<Rows> batches(1 + random() % 50);
    Rows all;
    for (Rows& rows : batches) {
      rows.resize(2 + random() % 20);
      for (auto& row : rows) row = {normal(random), normal(random)};
      all.insert(all.end(), rows.begin(), rows.end());
    }
    for (const CalibrationMethod method : {kMeanOfBatches, kPooled}) {
      const RunningStats one = Calibrated(method, batches, Config());
      std::shuffle(batches.begin(), batches.end(), random);
      const RunningStats other = Calibrated(method, batches, Config());
      for (int c = 0; c < 2; ++c) {
        ASSERT_NEAR(one.mean[c], other.mean[c], 100 * 1e-12);
        ASSERT_NEAR(one.var[c], other.var[c], 100 * 1e-12);
      }
      if (method == kPooled) {
        const Moments expected = MomentsOf(all);
        for (int c = 0; c < 2; ++c) {
          ASSERT_NEAR(one.mean[c], expected.mean[c], 100 * 1e-12);
          ASSERT_NEAR(one.var[c], expected.m2[c] / static_cast<double>(expected.count - 1),
                      100 * 1e-12);
        }
      }
    }
  }
}

TEST(CalibrationTest, CountStaysAtTheEndOfInt64) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  for (const CalibrationMethod method : {kMeanOfBatches, kPooled}) {
    Calibration calibration = Calibration::Begin(method, 2);
    for (int i = 0; i < 3; ++i) {
      calibration.Add({.count = kMax, .mean = {1, 2}, .m2 = {0, 0}}, Config());
    }
    EXPECT_EQ(calibration.count, kMax);
    EXPECT_EQ(calibration.num_batches, 3);
    EXPECT_THAT(calibration.Finish(Config()).mean, ElementsAre(1, 2));
  }
}

}  // namespace
}  // namespace normd
