// NormState's calibration: begin, contributions, commit and abort.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/core/error_matchers.h"
#include "tests/core/state/state_testing.h"

namespace normd {
namespace {

using testing::Contains;
using testing::DoubleEq;
using testing::ElementsAre;
using testing::Pair;

constexpr auto kMeanOfBatches = CalibrationMethod::kMeanOfBatches;
constexpr auto kPooled = CalibrationMethod::kPooled;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Means 4 and 1, unbiased variances 2 and 9.
Moments OtherBatch() { return {.count = 3, .mean = {4, 1}, .m2 = {4, 18}}; }

NormState Calibrating(CalibrationMethod method, const NormConfig& config = {}) {
  NormState state = NewState(config);
  EXPECT_TRUE(state.BeginCalibration(method).ok());
  return state;
}

NormConfig TrackedInstanceNorm() {
  NormConfig config = DefaultConfig(NormKind::kInstanceNorm);
  config.track_running_stats = true;
  return config;
}

TEST(CalibrateTest, CommitSetsWhatWasGathered) {
  NormState state = Calibrating(kMeanOfBatches);
  ASSERT_TRUE(Train(state, GoodBatch()).ok());
  EXPECT_EQ(Contribute(state, GoodBatch()).value(), Disposition::kApplied);
  EXPECT_EQ(Contribute(state, OtherBatch()).value(), Disposition::kApplied);
  ASSERT_TRUE(state.CommitCalibration().ok());
  EXPECT_THAT(state.running_stats->mean, ElementsAre(DoubleEq(7), DoubleEq(0)));
  EXPECT_THAT(state.running_stats->var, ElementsAre(DoubleEq(2.25), DoubleEq(5)));
  EXPECT_EQ(state.num_batches_tracked(), 2);
  EXPECT_FALSE(state.calibration.has_value());
}

TEST(CalibrateTest, PooledCommitsTheStatisticsOfAllValues) {
  NormState state = Calibrating(kPooled);
  ASSERT_TRUE(Contribute(state, GoodBatch()).ok());
  ASSERT_TRUE(Contribute(state, OtherBatch()).ok());
  ASSERT_TRUE(state.CommitCalibration().ok());
  // m2 = 10 + 4 + 6^2 15/8 and 4 + 18 + 2^2 15/8, of 8 values.
  EXPECT_THAT(state.running_stats->mean, ElementsAre(DoubleEq(7.75), DoubleEq(-.25)));
  EXPECT_THAT(state.running_stats->var, ElementsAre(DoubleEq(81.5 / 7), DoubleEq(29.5 / 7)));
  EXPECT_EQ(state.num_batches_tracked(), 2);
}

TEST(CalibrateTest, OldStatisticsServeUntilTheCommit) {
  NormState state = Calibrating(kMeanOfBatches);
  ASSERT_TRUE(Contribute(state, GoodBatch()).ok());
  EXPECT_THAT(state.running_stats->mean, ElementsAre(0, 0));
  EXPECT_THAT(state.running_stats->var, ElementsAre(1, 1));
  EXPECT_EQ(state.num_batches_tracked(), 0);
}

TEST(CalibrateTest, TrainingGoesOnBesideIt) {
  NormState state = Calibrating(kMeanOfBatches);
  ASSERT_TRUE(Train(state, GoodBatch()).ok());
  EXPECT_EQ(state.num_batches_tracked(), 1);
  EXPECT_EQ(state.calibration->num_batches, 0);
}

TEST(CalibrateTest, AbortForgetsWhatWasGathered) {
  NormState state = Calibrating(kPooled);
  ASSERT_TRUE(Train(state, GoodBatch()).ok());
  const std::vector<double> mean = state.running_stats->mean;
  ASSERT_TRUE(Contribute(state, OtherBatch()).ok());
  ASSERT_TRUE(state.AbortCalibration().ok());
  EXPECT_FALSE(state.calibration.has_value());
  EXPECT_EQ(state.running_stats->mean, mean);
  EXPECT_EQ(state.num_batches_tracked(), 1);
  EXPECT_TRUE(state.BeginCalibration(kMeanOfBatches).ok());
  EXPECT_EQ(state.calibration->num_batches, 0);
}

TEST(CalibrateTest, ResetOfTheRunningStatisticsKeepsIt) {
  NormState state = Calibrating(kPooled);
  ASSERT_TRUE(Contribute(state, OtherBatch()).ok());
  ASSERT_TRUE(state.ResetRunningStats().ok());
  EXPECT_EQ(state.calibration->num_batches, 1);
}

TEST(CalibrateTest, ContributionsAreAppliedExactlyOnceInTheSameNumbering) {
  NormState state = Calibrating(kPooled);
  EXPECT_EQ(Contribute(state, GoodBatch(), {"p", 1}).value(), Disposition::kApplied);
  EXPECT_EQ(Contribute(state, GoodBatch(), {"p", 1}).value(), Disposition::kDuplicate);
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 1}).value(), Disposition::kDuplicate);
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 2}).value(), Disposition::kApplied);
  EXPECT_EQ(Contribute(state, GoodBatch(), {"p", 2}).value(), Disposition::kDuplicate);
  EXPECT_EQ(state.calibration->num_batches, 1);
  EXPECT_EQ(state.num_batches_tracked(), 1);
  // A retry that comes after the commit is a duplicate still.
  ASSERT_TRUE(state.CommitCalibration().ok());
  EXPECT_EQ(Contribute(state, GoodBatch(), {"p", 2}).value(), Disposition::kDuplicate);
}

TEST(CalibrateTest, EmptyBatchIsAppliedAndChangesNothing) {
  NormState state = Calibrating(kPooled);
  const std::string before = EncodeState(state);
  EXPECT_EQ(Contribute(state, {.count = 0, .mean = {0, 0}, .m2 = {0, 0}}, {"p", 1}).value(),
            Disposition::kApplied);
  EXPECT_EQ(EncodeState(state), before);
}

TEST(CalibrateTest, RefusedContributionChangesNothing) {
  constexpr ProducerLimits kOne = {.producers_max = 1, .age_max = absl::Hours(1)};
  NormState state = Calibrating(kPooled);
  ASSERT_TRUE(Contribute(state, GoodBatch(), {"p", 1}).ok());
  const std::string before = EncodeState(state);
  EXPECT_THAT(Contribute(state, {.count = 1, .mean = {1, 1}, .m2 = {0, 0}}, {"p", 2}),
              HasReason(Reason::kOneValuePerChannel));
  EXPECT_THAT(Contribute(state, {.count = 4, .mean = {1}, .m2 = {0}}, {"p", 2}),
              HasReason(Reason::kMomentsLengthMismatch));
  EXPECT_THAT(Contribute(state, {.count = 4, .mean = {1, kNan}, .m2 = {0, 0}}, {"p", 2}),
              HasReason(Reason::kNonFiniteValue));
  EXPECT_THAT(Contribute(state, GoodBatch(), {"q", 1}, kCreateTime, kOne),
              HasReason(Reason::kProducerTableFull));
  EXPECT_EQ(EncodeState(state), before);
}

// Each batch keeps to the limits of CheckMoments; pooled they do not fit float64.
TEST(CalibrateTest, ContributionThatWouldOverflowIsRefused) {
  constexpr int64_t kCount = 1'000'000'000;
  const Moments huge = {.count = kCount, .mean = {1, 1e150}, .m2 = {0, 0}};
  const Moments opposite = {.count = kCount, .mean = {1, -1e150}, .m2 = {0, 0}};
  NormState state = Calibrating(kPooled);
  ASSERT_TRUE(Contribute(state, huge, {"p", 1}).ok());
  const std::string before = EncodeState(state);
  const absl::StatusOr<Disposition> refused = Contribute(state, opposite, {"p", 2});
  EXPECT_THAT(refused, IsError(Reason::kNonFiniteValue,
                               "the calibration's statistics at channel 1 would be 0 "
                               "and inf, expected finite values"));
  EXPECT_THAT(GetErrorMetadata(refused.status()), Contains(Pair("index", "1")));
  EXPECT_EQ(EncodeState(state), before);
  NormState propagating = Calibrating(kPooled, {.non_finite = NonFinitePolicy::kPropagate});
  ASSERT_TRUE(Contribute(propagating, huge).ok());
  EXPECT_TRUE(Contribute(propagating, opposite).ok());
}

// The policy may have been changed since the contributions were taken.
TEST(CalibrateTest, CommitUnderRefuseTakesFiniteStatisticsAlone) {
  NormState state = Calibrating(kPooled, {.non_finite = NonFinitePolicy::kPropagate});
  ASSERT_TRUE(Contribute(state, {.count = 4, .mean = {kNan, 0}, .m2 = {kNan, 1}}).ok());
  NormConfig refusing = state.config;
  refusing.non_finite = NonFinitePolicy::kRefuse;
  ASSERT_TRUE(state.UpdateConfig(refusing).ok());
  EXPECT_THAT(state.CommitCalibration(), HasReason(Reason::kNonFiniteValue));
  EXPECT_TRUE(state.calibration.has_value());
  EXPECT_EQ(state.running_stats->mean[0], 0);
}

TEST(CalibrateTest, ContributionNeedsACalibration) {
  const std::string message = "no calibration is under way, expected one that was begun";
  NormState state = NewState();
  EXPECT_THAT(Contribute(state, GoodBatch()), IsError(Reason::kCalibrationNotActive, message));
  EXPECT_THAT(Contribute(state, {.count = 0, .mean = {0, 0}, .m2 = {0, 0}}),
              HasReason(Reason::kCalibrationNotActive));
  EXPECT_THAT(state.CommitCalibration(), IsError(Reason::kCalibrationNotActive, message));
  EXPECT_THAT(state.AbortCalibration(), IsError(Reason::kCalibrationNotActive, message));
  NormState untracked = NewState({.track_running_stats = false});
  EXPECT_THAT(Contribute(untracked, GoodBatch()), HasReason(Reason::kCalibrationNotActive));
}

TEST(CalibrateTest, EachOneHasAnIdOfItsOwn) {
  NormState state = NewState();
  state.revision = 4;
  ASSERT_TRUE(state.BeginCalibration(kPooled).ok());
  const std::string first = state.calibration->id;
  EXPECT_FALSE(first.empty());
  state.revision = 6;
  ASSERT_TRUE(state.AbortCalibration(first).ok());
  ASSERT_TRUE(state.BeginCalibration(kPooled).ok());
  EXPECT_NE(state.calibration->id, first);
  NormState later = *NormState::Create("m/bn1", state.config, {}, kCreateTime + absl::Seconds(1));
  later.revision = 4;
  ASSERT_TRUE(later.BeginCalibration(kPooled).ok());
  EXPECT_NE(later.calibration->id, first);
}

TEST(CalibrateTest, AnIdMeansNoOther) {
  NormState state = Calibrating(kPooled);
  const std::string id = state.calibration->id;
  ASSERT_TRUE(Contribute(state, GoodBatch()).ok());
  const std::string before = EncodeState(state);
  const auto decided = state.Decide(GoodBatch(), {"p", 1}, FoldInto::kCalibration, "other");
  ASSERT_TRUE(decided.has_value());
  for (const absl::Status& refused :
       {decided->status(), state.CommitCalibration("other"), state.AbortCalibration("other")}) {
    EXPECT_THAT(refused,
                IsError(Reason::kCalibrationMismatch,
                        "the calibration under way is '" + id + "', the request expected 'other'"));
    EXPECT_THAT(GetErrorMetadata(refused),
                ElementsAre(Pair("actual", id), Pair("expected", "other"),
                            Pair("field", "calibration_id")));
  }
  EXPECT_EQ(EncodeState(state), before);
  EXPECT_FALSE(state.Decide(GoodBatch(), {"p", 1}, FoldInto::kCalibration, id).has_value());
  EXPECT_TRUE(state.CommitCalibration(id).ok());
  EXPECT_THAT(state.CommitCalibration(id), HasReason(Reason::kCalibrationNotActive));
}

// One from a record of before ids.
TEST(CalibrateTest, OneWithoutAnIdIsMeantByNone) {
  NormState state = Calibrating(kPooled);
  state.calibration->id.clear();
  EXPECT_THAT(state.AbortCalibration("other"), HasReason(Reason::kCalibrationMismatch));
  EXPECT_TRUE(state.AbortCalibration().ok());
}

TEST(CalibrateTest, BeginsOnceAndOnlyWithRunningStatistics) {
  NormState state = Calibrating(kPooled);
  ASSERT_TRUE(Contribute(state, GoodBatch()).ok());
  const absl::Status refused = state.BeginCalibration(kMeanOfBatches);
  const std::string id = state.calibration->id;
  EXPECT_THAT(refused,
              IsError(Reason::kCalibrationActive,
                      "the calibration '" + id + "' of 1 batches is under way, expected none"));
  EXPECT_THAT(GetErrorMetadata(refused), Contains(Pair("calibration_id", id)));
  EXPECT_EQ(state.calibration->method, kPooled);
  NormState untracked = NewState({.track_running_stats = false});
  EXPECT_THAT(
      untracked.BeginCalibration(kPooled),
      IsError(Reason::kRunningStatsAbsent,
              "track_running_stats is false, so there are no running statistics to calibrate"));
}

TEST(CalibrateTest, EmptyOneIsNotCommitted) {
  NormState state = Calibrating(kPooled);
  EXPECT_THAT(
      state.CommitCalibration(),
      IsError(Reason::kCalibrationEmpty, "the calibration has 0 batches, expected at least 1"));
  EXPECT_TRUE(state.calibration.has_value());
}

TEST(CalibrateTest, InstanceNormTakesTheMeanOfBatchesAlone) {
  NormState state = NewState(TrackedInstanceNorm());
  const absl::Status refused = state.BeginCalibration(kPooled);
  EXPECT_THAT(
      refused,
      IsError(Reason::kFieldNotApplicable,
              "method is POOLED, which INSTANCE_NORM does not have, expected MEAN_OF_BATCHES"));
  EXPECT_THAT(GetErrorMetadata(refused), Contains(Pair("field", "method")));
  EXPECT_FALSE(state.calibration.has_value());
  ASSERT_TRUE(state.BeginCalibration(kMeanOfBatches).ok());
  ASSERT_TRUE(Contribute(state, GoodBatch()).ok());
  ASSERT_TRUE(state.CommitCalibration().ok());
  EXPECT_THAT(state.running_stats->mean, ElementsAre(10, -1));
  EXPECT_THAT(state.running_stats->var, ElementsAre(2.5, 1));
  EXPECT_EQ(state.num_batches_tracked(), 0);
}

}  // namespace
}  // namespace normd
