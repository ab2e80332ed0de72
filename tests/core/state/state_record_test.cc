// What version 2 of the stored record adds. The bytes around a record stand in state_codec_test.cc.

#include <gmock/gmock.h>
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/base/limits.h"
#include "tests/core/error_matchers.h"
#include "tests/core/state/record_testing.h"
#include "tests/core/state/state_testing.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

int VersionOf(const NormState& state) { return EncodeState(state)[4]; }

NormConfig SmallConfig(NormKind kind) {
  NormConfig config = DefaultConfig(kind);
  config.num_features = 2;
  if (kind == NormKind::kLayerNorm || kind == NormKind::kRmsNorm) config.normalized_shape = {1, 2};
  if (kind == NormKind::kGroupNorm) config.num_groups = 2;
  return config;
}

// A layer norm that has learned by Adam, in float64.
NormState LearnedState() {
  NormConfig config = SmallConfig(NormKind::kLayerNorm);
  config.parameter_dtype = DataType::kFloat64;
  config.optimizer = OptimizerConfig{.algorithm = OptimizerAlgorithm::kAdam,
                                     .lr = .01,
                                     .weight_decay = .1,
                                     .beta1 = .8,
                                     .beta2 = .9,
                                     .eps = 1e-4,
                                     .amsgrad = true,
                                     .maximize = true};
  NormState state = NewState(config, {.parameters = {.weight = {{.1, -.2}}}});
  EXPECT_TRUE(Learn(state, {.weight = {{1, 2}}, .bias = {{3, 4}}}, {"p", 1}).ok());
  EXPECT_TRUE(Learn(state, {.weight = {{.1, .2}}}, {"p", 2}).ok());
  return state;
}

// A batch norm that has learned by SGD and is being calibrated.
NormState CalibratingState() {
  NormState state =
      NewState({.optimizer = OptimizerConfig{
                    .lr = .1, .momentum = .9, .nesterov = true, .weight_decay = .01}});
  EXPECT_TRUE(Learn(state, {.weight = {{1, 2}}, .bias = {{3, 4}}}).ok());
  EXPECT_TRUE(state.BeginCalibration(CalibrationMethod::kPooled).ok());
  EXPECT_TRUE(Contribute(state, GoodBatch()).ok());
  return state;
}

TEST(StateRecordTest, EveryKindComesBack) {
  for (const NormKind kind : {NormKind::kBatchNorm, NormKind::kLayerNorm, NormKind::kGroupNorm,
                              NormKind::kInstanceNorm, NormKind::kRmsNorm}) {
    for (const bool affine : {false, true}) {
      for (const DataType dtype : {DataType::kFloat32, DataType::kFloat64}) {
        NormConfig config = SmallConfig(kind);
        config.affine = affine;
        config.parameter_dtype = dtype;
        ExpectRoundTrip(NewState(config));
      }
    }
  }
  NormConfig instance_norm = SmallConfig(NormKind::kInstanceNorm);
  instance_norm.track_running_stats = true;
  ExpectRoundTrip(NewState(instance_norm));
}

TEST(StateRecordTest, OptimizersSlotsAndCalibrationsComeBack) {
  ExpectRoundTrip(LearnedState());
  ExpectRoundTrip(CalibratingState());
  NormConfig rms_norm = SmallConfig(NormKind::kRmsNorm);
  rms_norm.optimizer = OptimizerConfig{.algorithm = OptimizerAlgorithm::kAdamW};
  NormState rms_state = NewState(rms_norm);
  ExpectRoundTrip(rms_state);
  ASSERT_TRUE(Learn(rms_state, {.weight = {{1, -1}}}).ok());
  ExpectRoundTrip(rms_state);
}

TEST(StateRecordTest, SlotsThatAreNotFiniteComeBack) {
  NormState state = NewState(
      {.non_finite = NonFinitePolicy::kPropagate,
       .optimizer = OptimizerConfig{.algorithm = OptimizerAlgorithm::kAdam, .amsgrad = true}});
  ASSERT_TRUE(Learn(state, {.weight = {{kNan, 1e200}}}).ok());
  ExpectRoundTrip(state);
}

// amsgrad was on, then off: what it kept is still there. A momentum of 0 keeps no buffer.
TEST(StateRecordTest, SlotsOfOptionsThatChangedComeBack) {
  NormState state = LearnedState();
  NormConfig config = state.config;
  config.optimizer->amsgrad = false;
  ASSERT_TRUE(state.UpdateConfig(config).ok());
  ASSERT_TRUE(Learn(state, {.weight = {{1, 1}}}).ok());
  ExpectRoundTrip(state);
  NormState sgd = NewState({.optimizer = OptimizerConfig()});
  ASSERT_TRUE(Learn(sgd, {.weight = {{1, 1}}}).ok());
  ExpectRoundTrip(sgd);
  config = sgd.config;
  config.optimizer->momentum = .5;
  ASSERT_TRUE(sgd.UpdateConfig(config).ok());
  ASSERT_TRUE(Learn(sgd, {.weight = {{1, 1}}}).ok());
  ExpectRoundTrip(sgd);
}

TEST(StateRecordTest, WhatVersion1HoldsIsWrittenAsVersion1) {
  EXPECT_EQ(VersionOf(NewState()), 1);
  NormState state = NewState({.eps = 0,
                              .momentum = std::nullopt,
                              .affine = false,
                              .track_running_stats = false,
                              .running_var_correction = 0,
                              .non_finite = NonFinitePolicy::kPropagate});
  EXPECT_EQ(VersionOf(state), 1);
  state.frozen = true;
  EXPECT_EQ(VersionOf(state), 1);
  // Version 1 again, once nothing new is left.
  NormState back = CalibratingState();
  EXPECT_EQ(VersionOf(back), 2);
  ASSERT_TRUE(back.AbortCalibration().ok());
  EXPECT_EQ(VersionOf(back), 2);
  ASSERT_TRUE(back.UpdateConfig({.num_features = 2}).ok());
  EXPECT_EQ(VersionOf(back), 1);
}

// A server of version 1 must refuse each of these: it would drop a part at its next write.
TEST(StateRecordTest, WhatVersion1LacksIsWrittenAsVersion2) {
  for (const NormKind kind :
       {NormKind::kLayerNorm, NormKind::kGroupNorm, NormKind::kInstanceNorm, NormKind::kRmsNorm}) {
    EXPECT_EQ(VersionOf(NewState(SmallConfig(kind))), 2) << NormKindName(kind);
  }
  EXPECT_EQ(VersionOf(NewState({.parameter_dtype = DataType::kFloat64})), 2);
  EXPECT_EQ(VersionOf(NewState({.optimizer = OptimizerConfig()})), 2);
  NormState state = NewState();
  ASSERT_TRUE(state.BeginCalibration(CalibrationMethod::kMeanOfBatches).ok());
  EXPECT_EQ(VersionOf(state), 2);
}

TEST(StateRecordTest, LargestStateFitsTheLimits) {
  NormState state = *NormState::Create(
      "m",
      {.num_features = kNumFeaturesMax,
       .parameter_dtype = DataType::kFloat64,
       .optimizer = OptimizerConfig{.algorithm = OptimizerAlgorithm::kAdam, .amsgrad = true}},
      {}, kCreateTime);
  const std::vector<double> ones(static_cast<size_t>(kNumFeaturesMax), 1.0);
  ASSERT_TRUE(Learn(state, {.weight = ones, .bias = ones}).ok());
  ASSERT_TRUE(state.BeginCalibration(CalibrationMethod::kPooled).ok());
  ASSERT_TRUE(Contribute(state, {.count = 2, .mean = ones, .m2 = ones}).ok());
  const std::string record = EncodeState(state);
  // Beside the channels: the header, names and lengths.
  EXPECT_LE(static_cast<int64_t>(record.size()), kNumFeaturesMax * kChannelRecordBytesMax + kKiB);
  EXPECT_GE(static_cast<int64_t>(record.size()), kNumFeaturesMax * kChannelRecordBytesMax);
  ASSERT_TRUE(Decode(state, record).ok());
}

struct DamagedCase {
  std::string name;
  std::string problem;
  NormState (*make)();
  void (*damage)(NormState&);
};

std::vector<DamagedCase> DamagedCases() {
  const std::string lengths = "it has num_features 2 and arrays of other lengths";
  const std::string slots = "and optimizer slots of others";
  const std::string gathered = "it has num_features 2 and a calibration of other lengths";
  const auto make_rms = [] { return NewState(SmallConfig(NormKind::kRmsNorm)); };
  const auto make_instance = [] {
    NormConfig config = SmallConfig(NormKind::kInstanceNorm);
    config.track_running_stats = true;
    return NewState(config);
  };
  return {
      {"WeightShort", lengths, LearnedState, [](NormState& s) { s.weight = {.1}; }},
      {"BiasLong", lengths, LearnedState,
       [](NormState& s) {
         s.bias = {3, 4, 0};
       }},
      {"BiasOfRmsNorm", lengths, make_rms,
       [](NormState& s) {
         s.bias = {0, 0};
       }},
      {"RunningStatsOfLayerNorm", lengths, LearnedState,
       [](NormState& s) { s.running_stats = RunningStats::Initial(2); }},
      {"BatchesOfInstanceNorm", "it has num_batches_tracked 1, expected 0", make_instance,
       [](NormState& s) { s.running_stats->num_batches_tracked = 1; }},
      {"NormalizedShape", "num_features is 2, expected 3, the product", LearnedState,
       [](NormState& s) { s.config.normalized_shape = {3}; }},
      {"ParameterDtype", "parameter_dtype is FLOAT16 (3)", LearnedState,
       [](NormState& s) { s.config.parameter_dtype = DataType::kFloat16; }},
      {"Optimizer", "optimizer.lr is -1", LearnedState,
       [](NormState& s) { s.config.optimizer->lr = -1; }},
      {"OptimizerUnknown", "algorithm is 9", LearnedState,
       [](NormState& s) { s.config.optimizer->algorithm = static_cast<OptimizerAlgorithm>(9); }},
      {"SlotsWithoutOptimizer", "optimizer slots or steps and no optimizer", LearnedState,
       [](NormState& s) { s.config.optimizer.reset(); }},
      {"StepsWithoutOptimizer", "optimizer slots or steps and no optimizer", make_rms,
       [](NormState& s) { s.optimizer_step = 1; }},
      {"OptimizerStepNegative", "optimizer_step -1, expected >= 0", LearnedState,
       [](NormState& s) { s.optimizer_step = -1; }},
      {"MoreStepsThanTaken", "optimizer_step 1 " + slots, LearnedState,
       [](NormState& s) { s.optimizer_step = 1; }},
      {"SlotStepNegative", slots, LearnedState, [](NormState& s) { s.bias_slots.step = -1; }},
      {"FirstShort", slots, LearnedState, [](NormState& s) { s.weight_slots.first.pop_back(); }},
      {"FirstAbsent", slots, LearnedState, [](NormState& s) { s.weight_slots.first.clear(); }},
      {"SecondLong", slots, LearnedState, [](NormState& s) { s.weight_slots.second.push_back(1); }},
      {"ThirdShort", slots, LearnedState, [](NormState& s) { s.bias_slots.third.pop_back(); }},
      {"SlotsBeforeAnyStep", slots, LearnedState, [](NormState& s) { s.weight_slots.step = 0; }},
      {"SecondOfSgd", slots, CalibratingState,
       [](NormState& s) {
         s.weight_slots.second = {1, 1};
       }},
      {"ThirdOfSgd", slots, CalibratingState,
       [](NormState& s) {
         s.weight_slots.third = {1, 1};
       }},
      {"FirstOfSgdShort", slots, CalibratingState,
       [](NormState& s) { s.bias_slots.first.pop_back(); }},
      {"FirstOfSgdBeforeAnyStep", slots, CalibratingState,
       [](NormState& s) { s.bias_slots.step = 0; }},
      {"SlotsOfABiasThatIsNotThere", slots,
       [] {
         NormConfig config = SmallConfig(NormKind::kRmsNorm);
         config.optimizer = OptimizerConfig();
         NormState state = NewState(config);
         EXPECT_TRUE(Learn(state, {.weight = {{1, 1}}}).ok());
         return state;
       },
       [](NormState& s) { s.bias_slots = s.weight_slots; }},
      {"CalibrationWithoutTracking", "a calibration and no running statistics",
       [] { return NewState({.track_running_stats = false}); },
       [](NormState& s) { s.calibration = Calibration::Begin(CalibrationMethod::kPooled, 2); }},
      {"CalibrationMethodUnknown", "its calibration has method 7, expected one of BATCH_NORM",
       CalibratingState,
       [](NormState& s) { s.calibration->method = static_cast<CalibrationMethod>(7); }},
      {"PooledInstanceNorm", "its calibration has method 2, expected one of INSTANCE_NORM",
       make_instance,
       [](NormState& s) { s.calibration = Calibration::Begin(CalibrationMethod::kPooled, 2); }},
      {"CalibrationBatchesNegative", "its calibration has -1 batches of 5 values", CalibratingState,
       [](NormState& s) { s.calibration->num_batches = -1; }},
      {"CalibrationOfOneValue", "its calibration has 1 batches of 1 values", CalibratingState,
       [](NormState& s) { s.calibration->count = 1; }},
      {"CalibrationOfNoBatch", "its calibration has 0 batches of 5 values", CalibratingState,
       [](NormState& s) { s.calibration->num_batches = 0; }},
      {"CalibrationMeanShort", gathered, CalibratingState,
       [](NormState& s) { s.calibration->mean.pop_back(); }},
      {"CalibrationSpreadLong", gathered, CalibratingState,
       [](NormState& s) { s.calibration->spread.push_back(0); }},
  };
}

class DamagedRecordTest : public testing::TestWithParam<DamagedCase> {};

// A right checksum over bytes that no server of this version writes.
TEST_P(DamagedRecordTest, IsFound) {
  NormState state = GetParam().make();
  ASSERT_TRUE(Decode(state, EncodeState(state)).ok());
  GetParam().damage(state);
  ExpectDamaged(Decode(state, EncodeState(state)), state.name, GetParam().problem);
}

INSTANTIATE_TEST_SUITE_P(Parts, DamagedRecordTest, testing::ValuesIn(DamagedCases()),
                         [](const auto& damaged) { return damaged.param.name; });

// Mutated records with a right checksum: what is not damaged is a state that can be written again
// and goes on learning.
TEST(StateRecordTest, MutatedRecordIsDamagedOrAState) {
  SeededRandom random;
  // protobuf logs every name that is not UTF-8.
  const google::protobuf::LogSilencer silencer;
  const std::vector<NormState> states = {LearnedState(), CalibratingState()};
  int good = 0;
  for (int round = 0; round < 20000; ++round) {
    const NormState& state = states[round % states.size()];
    auto decoded = Decode(state, Mutated(EncodeState(state), random));
    if (!decoded.ok()) {
      ASSERT_THAT(decoded, HasReason(Reason::kRecordDamaged));
      continue;
    }
    ++good;
    ExpectRoundTrip(*decoded);
    const std::vector<double> ones(static_cast<size_t>(decoded->config.num_features), 1.0);
    Learn(*decoded, {.weight = ones}).IgnoreError();
    Contribute(*decoded, {.count = 2, .mean = ones, .m2 = ones}).IgnoreError();
    decoded->CommitCalibration().IgnoreError();
    ExpectRoundTrip(*decoded);
  }
  EXPECT_GT(good, 0);
}

}  // namespace
}  // namespace normd
