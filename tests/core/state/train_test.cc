// NormState::Decide and Fold: what becomes of an update.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/base/limits.h"
#include "tests/core/error_matchers.h"
#include "tests/core/state/state_testing.h"

namespace normd {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;

constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(TrainTest, AppliesABatch) {
  NormState state = NewState();
  EXPECT_EQ(Train(state, GoodBatch()).value(), Disposition::kApplied);
  EXPECT_THAT(state.running_stats->mean, ElementsAre(DoubleEq(1), DoubleEq(-0.1)));
  EXPECT_THAT(state.running_stats->var, ElementsAre(DoubleEq(0.9 + 0.25), DoubleEq(1)));
  EXPECT_EQ(state.num_batches_tracked(), 1);
}

TEST(TrainTest, DecideAloneChangesNothing) {
  const NormState state = NewState();
  const std::string before = EncodeState(state);
  EXPECT_EQ(state.Decide(GoodBatch(), {"p", 1}), std::nullopt);
  EXPECT_EQ(EncodeState(state), before);
}

TEST(TrainTest, FoldTouchesStatisticsAndProducersOnly) {
  NormState state = NewState();
  state.revision = 7;
  state.settings_revision = 3;
  const NormState before = state;
  ASSERT_TRUE(Train(state, GoodBatch(), {"p", 1}, kCreateTime + absl::Hours(1)).ok());
  EXPECT_EQ(state.revision, 7);
  EXPECT_EQ(state.update_time, kCreateTime);
  EXPECT_EQ(state.Etag(), before.Etag());
  EXPECT_EQ(state.config, before.config);
  EXPECT_EQ(state.weight, before.weight);
  EXPECT_EQ(state.producers.Find("p")->update_time, kCreateTime + absl::Hours(1));
}

TEST(TrainTest, WithoutAProducerEveryUpdateIsApplied) {
  NormState state = NewState();
  for (const int64_t sequence : {int64_t{0}, int64_t{1}, int64_t{1}, int64_t{-5}}) {
    EXPECT_EQ(Train(state, GoodBatch(), {"", sequence}).value(), Disposition::kApplied);
  }
  EXPECT_EQ(state.num_batches_tracked(), 4);
  EXPECT_TRUE(state.producers.entries().empty());
}

TEST(TrainTest, SequenceDecidedBeforeIsADuplicateAndChangesNothing) {
  NormState state = NewState();
  ASSERT_EQ(Train(state, GoodBatch(), {"p", 5}).value(), Disposition::kApplied);
  const std::string before = EncodeState(state);
  for (const int64_t sequence : {5, 4, 1}) {
    EXPECT_EQ(Train(state, GoodBatch(), {"p", sequence}, kCreateTime + absl::Hours(1)).value(),
              Disposition::kDuplicate)
        << sequence;
    EXPECT_EQ(EncodeState(state), before) << sequence;
  }
}

TEST(TrainTest, GapsInSequencesAreFine) {
  NormState state = NewState();
  for (const int64_t sequence : {int64_t{1}, int64_t{2}, int64_t{100}, kInt64Max}) {
    EXPECT_EQ(Train(state, GoodBatch(), {"p", sequence}).value(), Disposition::kApplied);
    EXPECT_EQ(state.producers.Sequence("p"), sequence);
  }
  EXPECT_EQ(Train(state, GoodBatch(), {"p", kInt64Max}).value(), Disposition::kDuplicate);
  EXPECT_EQ(state.num_batches_tracked(), 4);
}

TEST(TrainTest, ProducersCountForThemselves) {
  NormState state = NewState();
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 9}).value(), Disposition::kApplied);
  EXPECT_EQ(Train(state, GoodBatch(), {"q", 1}).value(), Disposition::kApplied);
  EXPECT_EQ(Train(state, GoodBatch(), {"P", 1}).value(), Disposition::kApplied);
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 1}).value(), Disposition::kDuplicate);
}

// A retry of an update that was folded must not become an error.
TEST(TrainTest, DuplicateIsASuccessWhateverBecameOfTheState) {
  NormState state = NewState();
  ASSERT_TRUE(Train(state, GoodBatch(), {"p", 5}).ok());
  EXPECT_EQ(Train(state, {.count = -1}, {"p", 5}).value(), Disposition::kDuplicate);
  state.frozen = true;
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 5}).value(), Disposition::kDuplicate);
  state.frozen = false;
  ASSERT_TRUE(state.ResetRunningStats().ok());
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 5}).value(), Disposition::kDuplicate);
  EXPECT_EQ(state.num_batches_tracked(), 0);
}

TEST(TrainTest, EmptyBatchIsAppliedAndChangesNothing) {
  NormState state = NewState();
  const std::string before = EncodeState(state);
  const Moments empty = {.count = 0, .mean = {0, 0}, .m2 = {0, 0}};
  EXPECT_EQ(Train(state, empty).value(), Disposition::kApplied);
  EXPECT_EQ(Train(state, empty, {"p", 1}).value(), Disposition::kApplied);
  EXPECT_EQ(EncodeState(state), before);
}

TEST(TrainTest, StateWithoutRunningStatisticsAppliesAndKeepsNothing) {
  NormState state = NewState({.track_running_stats = false});
  const std::string before = EncodeState(state);
  EXPECT_EQ(Train(state, GoodBatch()).value(), Disposition::kApplied);
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 1}).value(), Disposition::kApplied);
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 1}).value(), Disposition::kApplied);
  EXPECT_EQ(EncodeState(state), before);
  EXPECT_EQ(state.num_batches_tracked(), 0);
  EXPECT_THAT(Train(state, {.count = 1, .mean = {0, 0}, .m2 = {0, 0}}),
              HasReason(Reason::kOneValuePerChannel));
}

TEST(TrainTest, CumulativeAverageGoesOnFromALoadedCounter) {
  NormState state = NewState(
      {.momentum = std::nullopt},
      {.running_stats = RunningStats{.mean = {4, 0}, .var = {8, 1}, .num_batches_tracked = 9}});
  ASSERT_TRUE(Train(state, GoodBatch()).ok());
  EXPECT_EQ(state.num_batches_tracked(), 10);
  EXPECT_DOUBLE_EQ(state.running_stats->mean[0], 0.9 * 4 + 0.1 * 10);
}

struct RefusedCase {
  std::string name;
  Reason reason;
  std::string message;
  Moments batch = GoodBatch();
  std::string producer_id = "p";
  int64_t sequence = 6;
  bool frozen = false;
};

std::vector<RefusedCase> RefusedCases() {
  return {
      {.name = "SequenceZero",
       .reason = Reason::kSequenceInvalid,
       .message = "sequence is 0, expected >= 1",
       .sequence = 0},
      {.name = "SequenceNegative",
       .reason = Reason::kSequenceInvalid,
       .message = "sequence is -3, expected >= 1",
       .sequence = -3},
      {.name = "SequenceZeroOfANewProducer",
       .reason = Reason::kSequenceInvalid,
       .message = "sequence is 0, expected >= 1",
       .producer_id = "new",
       .sequence = 0},
      {.name = "ProducerIdOf129Bytes",
       .reason = Reason::kProducerIdInvalid,
       .message = "producer_id has 129 bytes, expected at most 128",
       .producer_id = std::string(129, 'p')},
      {.name = "Frozen",
       .reason = Reason::kStateFrozen,
       .message = "the state is frozen, expected it unfrozen",
       .frozen = true},
      {.name = "FrozenWithoutProducer",
       .reason = Reason::kStateFrozen,
       .message = "the state is frozen, expected it unfrozen",
       .producer_id = "",
       .frozen = true},
      {.name = "OneValuePerChannel",
       .reason = Reason::kOneValuePerChannel,
       .message = "Expected more than 1 value per channel when training, got 1",
       .batch = {.count = 1, .mean = {1, 1}, .m2 = {0, 0}}},
      {.name = "CountNegative",
       .reason = Reason::kMomentsCountNegative,
       .message = "moments.count is -1, expected >= 0",
       .batch = {.count = -1, .mean = {1, 1}, .m2 = {0, 0}}},
      {.name = "M2Negative",
       .reason = Reason::kMomentsM2Negative,
       .message = "moments.m2 is -1 at channel 0, expected >= 0",
       .batch = {.count = 4, .mean = {1, 1}, .m2 = {-1, 0}}},
      {.name = "MeanOfAnotherLength",
       .reason = Reason::kMomentsLengthMismatch,
       .message = "num_features is 2, moments.mean has 3 values",
       .batch = {.count = 4, .mean = {1, 1, 1}, .m2 = {0, 0}}},
      {.name = "M2OfAnotherLength",
       .reason = Reason::kMomentsLengthMismatch,
       .message = "num_features is 2, moments.m2 has 0 values",
       .batch = {.count = 4, .mean = {1, 1}, .m2 = {}}},
      {.name = "EmptyBatchOfAnotherLength",
       .reason = Reason::kMomentsLengthMismatch,
       .message = "num_features is 2, moments.mean has 0 values",
       .batch = {}},
      {.name = "NotFinite",
       .reason = Reason::kNonFiniteValue,
       .message = "moments at channel 1 are mean nan and m2 0 of 4 values, expected "
                  "|mean| <= 1e150 and m2 / count <= 1e300",
       .batch = {.count = 4, .mean = {1, kNan}, .m2 = {0, 0}}},
  };
}

class RefusedTest : public testing::TestWithParam<RefusedCase> {};

TEST_P(RefusedTest, ChangesNothingAtAll) {
  const RefusedCase& refused = GetParam();
  NormState state = NewState();
  ASSERT_TRUE(Train(state, GoodBatch(), {"p", 5}).ok());
  state.frozen = refused.frozen;
  const std::string before = EncodeState(state);
  EXPECT_THAT(Train(state, refused.batch, {refused.producer_id, refused.sequence},
                    kCreateTime + absl::Hours(1)),
              IsError(refused.reason, refused.message));
  EXPECT_EQ(EncodeState(state), before);
  // The sequence was not used up.
  state.frozen = false;
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 6}).value(), Disposition::kApplied);
}

INSTANTIATE_TEST_SUITE_P(Batches, RefusedTest, testing::ValuesIn(RefusedCases()),
                         [](const auto& refused) { return refused.param.name; });

TEST(TrainTest, ProducerIdOf128BytesIsTaken) {
  NormState state = NewState();
  const std::string producer_id(static_cast<size_t>(kProducerIdBytesMax), 'p');
  EXPECT_EQ(Train(state, GoodBatch(), {producer_id, 1}).value(), Disposition::kApplied);
  EXPECT_EQ(Train(state, GoodBatch(), {producer_id, 1}).value(), Disposition::kDuplicate);
}

TEST(TrainTest, FullProducerTableRefusesTheBatchAndChangesNothing) {
  constexpr ProducerLimits kOneForAnHour = {.producers_max = 1, .age_max = absl::Hours(1)};
  NormState state = NewState();
  ASSERT_TRUE(Train(state, GoodBatch(), {"p", 1}, kCreateTime, kOneForAnHour).ok());
  const std::string before = EncodeState(state);
  EXPECT_THAT(Train(state, GoodBatch(), {"q", 1}, kCreateTime + absl::Minutes(59), kOneForAnHour),
              HasReason(Reason::kProducerTableFull));
  EXPECT_EQ(EncodeState(state), before);
  // One without an id needs no place.
  EXPECT_TRUE(Train(state, GoodBatch(), {}, kCreateTime, kOneForAnHour).ok());
  EXPECT_TRUE(
      Train(state, GoodBatch(), {"q", 1}, kCreateTime + absl::Minutes(61), kOneForAnHour).ok());
  EXPECT_EQ(state.num_batches_tracked(), 3);
}

TEST(TrainTest, UnderPropagateWhatIsNotFiniteIsFolded) {
  NormState state = NewState({.non_finite = NonFinitePolicy::kPropagate});
  ASSERT_TRUE(Train(state, {.count = 4, .mean = {kNan, 2}, .m2 = {kNan, 3}}).ok());
  EXPECT_TRUE(std::isnan(state.running_stats->mean[0]));
  EXPECT_TRUE(std::isnan(state.running_stats->var[0]));
  EXPECT_DOUBLE_EQ(state.running_stats->mean[1], 0.2);
}

// The statistics of a state without running statistics are not looked at: they may be of sets that
// are no channels.
TEST(TrainTest, KindsThatNeverTrackTakeAnyMoments) {
  NormConfig layer_norm = DefaultConfig(NormKind::kLayerNorm);
  layer_norm.normalized_shape = {2};
  NormConfig group_norm = DefaultConfig(NormKind::kGroupNorm);
  group_norm.num_groups = 1;
  NormConfig rms_norm = DefaultConfig(NormKind::kRmsNorm);
  rms_norm.normalized_shape = {2};
  for (const NormConfig& config :
       {layer_norm, group_norm, rms_norm, DefaultConfig(NormKind::kInstanceNorm)}) {
    NormState state = NewState(config);
    const std::string before = EncodeState(state);
    const Moments three_sets = {.count = 2, .mean = {1, 2, kNan}, .m2 = {1, 1, kNan}};
    EXPECT_EQ(Train(state, three_sets, {"p", 1}).value(), Disposition::kApplied);
    EXPECT_EQ(Train(state, {.count = 2}).value(), Disposition::kApplied);
    EXPECT_EQ(EncodeState(state), before);
  }
}

TEST(TrainTest, OneValuePerSetIsRefusedByKind) {
  NormConfig layer_norm = DefaultConfig(NormKind::kLayerNorm);
  layer_norm.normalized_shape = {2};
  NormConfig group_norm = DefaultConfig(NormKind::kGroupNorm);
  group_norm.num_groups = 2;
  NormConfig instance_norm = DefaultConfig(NormKind::kInstanceNorm);
  const Moments one_sample = {.count = 1, .mean = {1, 2}, .m2 = {0, 0}};
  const Moments two_samples = {.count = 1, .mean = {1, 2, 3, 4}, .m2 = {0, 0, 0, 0}};
  NormState layer_state = NewState(layer_norm);
  EXPECT_TRUE(Train(layer_state, one_sample).ok());
  NormState group_state = NewState(group_norm);
  EXPECT_THAT(Train(group_state, one_sample),
              IsError(Reason::kOneValuePerChannel,
                      "Expected more than 1 value per channel when training, got 1"));
  EXPECT_TRUE(Train(group_state, two_samples).ok());
  NormState instance_state = NewState(instance_norm);
  for (const Moments& moments : {one_sample, two_samples}) {
    EXPECT_THAT(Train(instance_state, moments),
                IsError(Reason::kOneValuePerChannel,
                        "Expected more than 1 spatial element when training, got 1"));
  }
}

TEST(TrainTest, TrackedInstanceNormFoldsAndNeverCounts) {
  NormConfig config = DefaultConfig(NormKind::kInstanceNorm);
  config.track_running_stats = true;
  NormState state = NewState(config);
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 1}).value(), Disposition::kApplied);
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 1}).value(), Disposition::kDuplicate);
  EXPECT_THAT(state.running_stats->mean, ElementsAre(DoubleEq(1), DoubleEq(-0.1)));
  EXPECT_THAT(state.running_stats->var, ElementsAre(DoubleEq(0.9 + 0.25), DoubleEq(1)));
  EXPECT_EQ(state.num_batches_tracked(), 0);
}

}  // namespace
}  // namespace normd
