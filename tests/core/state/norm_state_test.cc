// NormState::Create and what users set. Updates stand in train_test.cc.

#include "core/state/norm_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/limits.h"
#include "tests/core/error_matchers.h"
#include "tests/core/state/state_testing.h"

namespace normd {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

absl::StatusOr<NormState> Create(const NormConfig& config, InitialValues initial) {
  return NormState::Create("m/bn1", config, std::move(initial), kCreateTime);
}

NormConfig TwoChannels() { return {.num_features = 2}; }

TEST(NormStateCreateTest, StartsAsPyTorchDoes) {
  const NormState state = NewState();
  EXPECT_EQ(state.name, "m/bn1");
  EXPECT_EQ(state.config, TwoChannels());
  EXPECT_THAT(state.weight, ElementsAre(1, 1));
  EXPECT_THAT(state.bias, ElementsAre(0, 0));
  ASSERT_TRUE(state.running_stats.has_value());
  EXPECT_THAT(state.running_stats->mean, ElementsAre(0, 0));
  EXPECT_THAT(state.running_stats->var, ElementsAre(1, 1));
  EXPECT_EQ(state.num_batches_tracked(), 0);
  EXPECT_FALSE(state.frozen);
  EXPECT_TRUE(state.producers.entries().empty());
  EXPECT_EQ(state.create_time, kCreateTime);
  EXPECT_EQ(state.update_time, kCreateTime);
}

TEST(NormStateCreateTest, StartsFromGivenValues) {
  const NormState state = NewState(
      {},
      {.parameters = {.weight = {{2, -3}}, .bias = {{0.5, -0.5}}},
       .running_stats = RunningStats{.mean = {7, -8}, .var = {0, 9}, .num_batches_tracked = 11}});
  EXPECT_THAT(state.weight, ElementsAre(2, -3));
  EXPECT_THAT(state.bias, ElementsAre(0.5, -0.5));
  EXPECT_THAT(state.running_stats->mean, ElementsAre(7, -8));
  EXPECT_THAT(state.running_stats->var, ElementsAre(0, 9));
  EXPECT_EQ(state.num_batches_tracked(), 11);
}

TEST(NormStateCreateTest, OneOfWeightAndBiasMayBeGiven) {
  const NormState state = NewState({}, {.parameters = {.bias = {{3, 4}}}});
  EXPECT_THAT(state.weight, ElementsAre(1, 1));
  EXPECT_THAT(state.bias, ElementsAre(3, 4));
}

TEST(NormStateCreateTest, WithoutAffineAndTrackingHoldsNoArrays) {
  const NormState state = NewState({.affine = false, .track_running_stats = false});
  EXPECT_THAT(state.weight, IsEmpty());
  EXPECT_THAT(state.bias, IsEmpty());
  EXPECT_FALSE(state.running_stats.has_value());
  EXPECT_EQ(state.num_batches_tracked(), 0);
}

TEST(NormStateCreateTest, ParametersAreThoseOfTheKind) {
  struct Case {
    NormKind kind;
    size_t weight;
    size_t bias;
  };
  for (const auto& [kind, weight, bias] :
       {Case{NormKind::kBatchNorm, 6, 6}, Case{NormKind::kLayerNorm, 6, 6},
        Case{NormKind::kGroupNorm, 6, 6}, Case{NormKind::kInstanceNorm, 0, 0},
        Case{NormKind::kRmsNorm, 6, 0}}) {
    SCOPED_TRACE(std::string(NormKindName(kind)));
    NormConfig config = DefaultConfig(kind);
    config.num_features = 6;
    if (kind == NormKind::kLayerNorm || kind == NormKind::kRmsNorm) {
      config.normalized_shape = {2, 3};
    }
    if (kind == NormKind::kGroupNorm) config.num_groups = 2;
    const auto state = Create(config, {});
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_THAT(state->weight, ElementsAreArray(std::vector<double>(weight, 1.0)));
    EXPECT_THAT(state->bias, ElementsAreArray(std::vector<double>(bias, 0.0)));
    EXPECT_EQ(state->running_stats.has_value(), kind == NormKind::kBatchNorm);
    EXPECT_EQ(state->weight_slots, OptimizerSlots());
    EXPECT_EQ(state->bias_slots, OptimizerSlots());
    EXPECT_EQ(state->optimizer_step, 0);
    EXPECT_FALSE(state->calibration.has_value());
  }
}

TEST(NormStateCreateTest, ParametersAreRoundedToTheirDtype) {
  const InitialValues initial = {.parameters = {.weight = {{0.1, 1e-50}}, .bias = {{1.0 / 3, 2}}}};
  const NormState float32 = NewState({}, initial);
  EXPECT_THAT(float32.weight, ElementsAre(0.1F, 0));
  EXPECT_THAT(float32.bias, ElementsAre(1.0F / 3, 2));
  const NormState float64 = NewState({.parameter_dtype = DataType::kFloat64}, initial);
  EXPECT_THAT(float64.weight, ElementsAre(0.1, 1e-50));
  EXPECT_THAT(float64.bias, ElementsAre(1.0 / 3, 2));
}

TEST(NormStateCreateTest, RefusesABadNameOrConfig) {
  EXPECT_THAT(NormState::Create("m//bn1", TwoChannels(), {}, kCreateTime),
              HasReason(Reason::kStateNameInvalid));
  EXPECT_THAT(Create({.num_features = 0}, {}), HasReason(Reason::kNumFeaturesOutOfRange));
  EXPECT_THAT(Create({.num_features = 2, .eps = -1}, {}), HasReason(Reason::kEpsOutOfRange));
  EXPECT_THAT(Create({.num_features = 2, .momentum = 2}, {}),
              HasReason(Reason::kMomentumOutOfRange));
  EXPECT_THAT(Create({.kind = NormKind::kGroupNorm, .num_features = 2}, {}),
              HasReason(Reason::kNumGroupsInvalid));
}

struct BadInitialCase {
  std::string name;
  Reason reason;
  std::string message;
  InitialValues initial;
  NormConfig config = TwoChannels();
};

std::vector<BadInitialCase> BadInitialCases() {
  const NormConfig plain = {.num_features = 2, .affine = false, .track_running_stats = false};
  NormConfig rms_norm = DefaultConfig(NormKind::kRmsNorm);
  rms_norm.num_features = 2;
  rms_norm.normalized_shape = {2};
  NormConfig instance_norm = DefaultConfig(NormKind::kInstanceNorm);
  instance_norm.num_features = 2;
  instance_norm.track_running_stats = true;
  const auto stats = [](std::vector<double> mean, std::vector<double> var, int64_t batches) {
    return InitialValues{.running_stats = RunningStats{.mean = std::move(mean),
                                                       .var = std::move(var),
                                                       .num_batches_tracked = batches}};
  };
  return {
      {"WeightWithoutAffine",
       Reason::kParametersAbsent,
       "affine is false, so there is no weight and bias to set",
       {.parameters = {.weight = std::vector<double>{1, 1}}},
       plain},
      {"BiasWithoutAffine",
       Reason::kParametersAbsent,
       "affine is false, so there is no weight and bias to set",
       {.parameters = {.bias = std::vector<double>{1, 1}}},
       plain},
      {"StatisticsWithoutTracking", Reason::kRunningStatsAbsent,
       "track_running_stats is false, so there are no running statistics to set",
       stats({0, 0}, {1, 1}, 0), plain},
      {"WeightTooLong",
       Reason::kParametersLengthMismatch,
       "num_features is 2, weight has 3 values",
       {.parameters = {.weight = std::vector<double>{1, 1, 1}}}},
      {"WeightEmpty",
       Reason::kParametersLengthMismatch,
       "num_features is 2, weight has 0 values",
       {.parameters = {.weight = std::vector<double>{}}}},
      {"BiasTooShort",
       Reason::kParametersLengthMismatch,
       "num_features is 2, bias has 1 values",
       {.parameters = {.bias = std::vector<double>{1}}}},
      {"MeanTooShort", Reason::kParametersLengthMismatch,
       "num_features is 2, running_mean has 1 values", stats({0}, {1, 1}, 0)},
      {"VarTooLong", Reason::kParametersLengthMismatch,
       "num_features is 2, running_var has 3 values", stats({0, 0}, {1, 1, 1}, 0)},
      {"WeightNan",
       Reason::kNonFiniteValue,
       "weight is nan at channel 1, expected a finite value",
       {.parameters = {.weight = std::vector<double>{1, kNan}}}},
      {"BiasInf",
       Reason::kNonFiniteValue,
       "bias is -inf at channel 0, expected a finite value",
       {.parameters = {.bias = std::vector<double>{-kInf, 0}}}},
      {"BiasOfRmsNorm",
       Reason::kParametersAbsent,
       "kind is RMS_NORM, so there is no bias to set",
       {.parameters = {.weight = std::vector<double>{1, 1}, .bias = std::vector<double>{1, 1}}},
       rms_norm},
      {"WeightTooLargeForFloat32",
       Reason::kNonFiniteValue,
       "weight is 1e+39 at channel 1, expected a value that is finite in parameter_dtype FLOAT32",
       {.parameters = {.weight = std::vector<double>{1, 1e39}}}},
      {"BiasThatRoundsToInfinity",
       Reason::kNonFiniteValue,
       "bias is -3.40282e+38 at channel 0, expected a value that is finite in parameter_dtype "
       "FLOAT32",
       {.parameters = {.bias = std::vector<double>{-0x1.ffffffp127, 1}}}},
      {"BatchesOfInstanceNorm", Reason::kFieldNotApplicable,
       "num_batches_tracked is 1, expected 0: INSTANCE_NORM counts no batches",
       stats({0, 0}, {1, 1}, 1), instance_norm},
      {"MeanNan", Reason::kNonFiniteValue,
       "running_mean is nan at channel 0, expected a finite value", stats({kNan, 0}, {1, 1}, 0)},
      {"VarInf", Reason::kNonFiniteValue,
       "running_var is inf at channel 1, expected a finite value", stats({0, 0}, {1, kInf}, 0)},
      {"VarNegative", Reason::kRunningStatsOutOfRange,
       "running_var is -0.25 at channel 1, expected >= 0", stats({0, 0}, {1, -0.25}, 0)},
      {"BatchesNegative", Reason::kRunningStatsOutOfRange,
       "num_batches_tracked is -1, expected 0 to 4611686018427387904", stats({0, 0}, {1, 1}, -1)},
      {"BatchesThatTrainingWouldOverflow", Reason::kRunningStatsOutOfRange,
       "num_batches_tracked is 9223372036854775807, expected 0 to 4611686018427387904",
       stats({0, 0}, {1, 1}, std::numeric_limits<int64_t>::max())},
  };
}

class BadInitialTest : public testing::TestWithParam<BadInitialCase> {};

TEST_P(BadInitialTest, IsRefused) {
  EXPECT_THAT(Create(GetParam().config, GetParam().initial),
              IsError(GetParam().reason, GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(Values, BadInitialTest, testing::ValuesIn(BadInitialCases()),
                         [](const auto& bad) { return bad.param.name; });

TEST(NormStateCreateTest, LargestBatchCountCanStillBeTrained) {
  NormState state =
      NewState({.momentum = std::nullopt},
               {.running_stats = RunningStats{
                    .mean = {0, 0}, .var = {1, 1}, .num_batches_tracked = kNumBatchesTrackedMax}});
  ASSERT_TRUE(Train(state, GoodBatch()).ok());
  EXPECT_EQ(state.num_batches_tracked(), kNumBatchesTrackedMax + 1);
}

TEST(SetParametersTest, SetsOneOrBoth) {
  NormState state = NewState();
  ASSERT_TRUE(state.SetParameters({.weight = {{2, 3}}}).ok());
  EXPECT_THAT(state.weight, ElementsAre(2, 3));
  EXPECT_THAT(state.bias, ElementsAre(0, 0));
  ASSERT_TRUE(state.SetParameters({.bias = {{4, 5}}}).ok());
  EXPECT_THAT(state.weight, ElementsAre(2, 3));
  EXPECT_THAT(state.bias, ElementsAre(4, 5));
  ASSERT_TRUE(state.SetParameters({.weight = {{6, 7}}, .bias = {{8, 9}}}).ok());
  EXPECT_THAT(state.weight, ElementsAre(6, 7));
  EXPECT_THAT(state.bias, ElementsAre(8, 9));
}

TEST(SetParametersTest, RoundsToParameterDtype) {
  NormState float32 = NewState();
  ASSERT_TRUE(float32.SetParameters({.weight = {{0.1, 0x1.fffffefffp127}}}).ok());
  EXPECT_THAT(float32.weight, ElementsAre(0.1F, std::numeric_limits<float>::max()));
  EXPECT_THAT(float32.SetParameters({.bias = {{1e39, 0}}}), HasReason(Reason::kNonFiniteValue));
  EXPECT_THAT(float32.bias, ElementsAre(0, 0));
  NormState float64 = NewState({.parameter_dtype = DataType::kFloat64});
  ASSERT_TRUE(float64.SetParameters({.weight = {{0.1, 1e300}}}).ok());
  EXPECT_THAT(float64.weight, ElementsAre(0.1, 1e300));
}

TEST(SetParametersTest, KeepsTheOptimizersSlots) {
  NormState state = NewState({.optimizer = OptimizerConfig{.momentum = .9}});
  ASSERT_TRUE(Learn(state, {.weight = {{1, 2}}}).ok());
  ASSERT_TRUE(state.SetParameters({.weight = {{5, 6}}}).ok());
  EXPECT_THAT(state.weight, ElementsAre(5, 6));
  EXPECT_THAT(state.weight_slots.first, ElementsAre(1, 2));
  EXPECT_EQ(state.optimizer_step, 1);
}

TEST(SetParametersTest, NothingIsASuccessThatChangesNothing) {
  for (const bool affine : {false, true}) {
    NormState state = NewState({.affine = affine});
    const std::string before = EncodeState(state);
    EXPECT_TRUE(state.SetParameters({}).ok());
    EXPECT_EQ(EncodeState(state), before);
  }
}

TEST(SetParametersTest, RefusalChangesNothing) {
  NormState state = NewState();
  const std::string before = EncodeState(state);
  const std::vector<double> good = {2, 3};
  // The good half of a pair is not set either.
  EXPECT_THAT(state.SetParameters({.weight = good, .bias = std::vector<double>{1}}),
              IsError(Reason::kParametersLengthMismatch, "num_features is 2, bias has 1 values"));
  EXPECT_THAT(state.SetParameters({.weight = good, .bias = std::vector<double>{1, kNan}}),
              HasReason(Reason::kNonFiniteValue));
  EXPECT_THAT(state.SetParameters({.weight = std::vector<double>{kInf, 1}, .bias = good}),
              HasReason(Reason::kNonFiniteValue));
  EXPECT_EQ(EncodeState(state), before);

  NormState plain = NewState({.affine = false});
  EXPECT_THAT(plain.SetParameters({.weight = good, .bias = good}),
              HasReason(Reason::kParametersAbsent));
  EXPECT_THAT(plain.weight, IsEmpty());
}

TEST(ResetRunningStatsTest, GoesBackToTheInitialValuesAndKeepsTheRest) {
  NormState state = NewState({}, {.parameters = {.weight = {{2, 3}}}});
  ASSERT_TRUE(Train(state, GoodBatch(), {"p", 5}).ok());
  ASSERT_TRUE(state.ResetRunningStats().ok());
  EXPECT_THAT(state.running_stats->mean, ElementsAre(0, 0));
  EXPECT_THAT(state.running_stats->var, ElementsAre(1, 1));
  EXPECT_EQ(state.num_batches_tracked(), 0);
  EXPECT_THAT(state.weight, ElementsAre(2, 3));
  EXPECT_EQ(state.producers.Sequence("p"), 5);
}

TEST(ResetRunningStatsTest, IsRefusedWithoutRunningStatistics) {
  NormState state = NewState({.track_running_stats = false});
  EXPECT_THAT(state.ResetRunningStats(),
              IsError(Reason::kRunningStatsAbsent,
                      "track_running_stats is false, so there are no running statistics to reset"));
}

TEST(UpdateConfigTest, SetsWhatMayChange) {
  NormState state = NewState();
  const NormConfig updated = {.num_features = 2,
                              .eps = 0,
                              .momentum = std::nullopt,
                              .running_var_correction = 0,
                              .non_finite = NonFinitePolicy::kPropagate};
  ASSERT_TRUE(state.UpdateConfig(updated).ok());
  EXPECT_EQ(state.config, updated);
}

TEST(UpdateConfigTest, RefusesWhatIsFixedAtCreation) {
  const std::vector<std::pair<std::string, NormConfig>> cases = {
      {"config.kind", {.kind = NormKind::kInstanceNorm, .num_features = 2}},
      {"config.num_features", {.num_features = 3}},
      {"config.affine", {.num_features = 2, .affine = false}},
      {"config.track_running_stats", {.num_features = 2, .track_running_stats = false}},
      {"config.normalized_shape", {.num_features = 2, .normalized_shape = {2}}},
      {"config.num_groups", {.num_features = 2, .num_groups = 1}},
      {"config.parameter_dtype", {.num_features = 2, .parameter_dtype = DataType::kFloat64}},
  };
  NormState state = NewState();
  const std::string before = EncodeState(state);
  for (const auto& [field, config] : cases) {
    const absl::Status status = state.UpdateConfig(config);
    EXPECT_THAT(status, IsError(Reason::kFieldImmutable,
                                field + " is fixed at creation, expected it unchanged"));
    EXPECT_THAT(GetErrorMetadata(status), Contains(Pair("field", field)));
    EXPECT_EQ(EncodeState(state), before);
  }
}

TEST(UpdateConfigTest, EpsOfTheDtypeMayBecomeANumberAndBack) {
  NormConfig config = DefaultConfig(NormKind::kRmsNorm);
  config.normalized_shape = {2};
  NormState state = NewState(config);
  NormConfig updated = state.config;
  updated.eps = 1e-6;
  updated.eps_of_dtype = false;
  ASSERT_TRUE(state.UpdateConfig(updated).ok());
  EXPECT_EQ(state.config, updated);
  updated.eps = 0;
  updated.eps_of_dtype = true;
  EXPECT_TRUE(state.UpdateConfig(updated).ok());
}

TEST(UpdateConfigTest, RefusesWhatIsOutOfRange) {
  NormState state = NewState();
  const std::string before = EncodeState(state);
  EXPECT_THAT(state.UpdateConfig({.num_features = 2, .eps = kInf}),
              HasReason(Reason::kEpsOutOfRange));
  EXPECT_THAT(state.UpdateConfig({.num_features = 2, .momentum = 1.5}),
              HasReason(Reason::kMomentumOutOfRange));
  EXPECT_THAT(state.UpdateConfig({.num_features = 2, .running_var_correction = 2}),
              HasReason(Reason::kCorrectionOutOfRange));
  EXPECT_THAT(state.UpdateConfig({.num_features = 2, .optimizer = OptimizerConfig{.lr = -1}}),
              HasReason(Reason::kOptimizerInvalid));
  EXPECT_EQ(EncodeState(state), before);
}

TEST(FrozenTest, RefusesEveryChange) {
  NormState state = NewState({.optimizer = OptimizerConfig()});
  ASSERT_TRUE(state.BeginCalibration(CalibrationMethod::kPooled).ok());
  ASSERT_TRUE(Contribute(state, GoodBatch()).ok());
  state.frozen = true;
  const std::string before = EncodeState(state);
  EXPECT_THAT(Train(state, GoodBatch()), HasReason(Reason::kStateFrozen));
  EXPECT_THAT(state.SetParameters({.weight = {{1, 2}}}), HasReason(Reason::kStateFrozen));
  EXPECT_THAT(state.ResetRunningStats(), HasReason(Reason::kStateFrozen));
  EXPECT_THAT(state.UpdateConfig(state.config), HasReason(Reason::kStateFrozen));
  EXPECT_THAT(Contribute(state, GoodBatch()), HasReason(Reason::kStateFrozen));
  EXPECT_THAT(Learn(state, {.weight = {{1, 2}}}), HasReason(Reason::kStateFrozen));
  EXPECT_THAT(state.BeginCalibration(CalibrationMethod::kPooled), HasReason(Reason::kStateFrozen));
  EXPECT_THAT(state.CommitCalibration(), HasReason(Reason::kStateFrozen));
  EXPECT_THAT(state.AbortCalibration(), HasReason(Reason::kStateFrozen));
  EXPECT_EQ(EncodeState(state), before);
}

TEST(EtagTest, ChangesWithTheSettingsRevisionAndTheCreationOnly) {
  NormState state = NewState();
  state.revision = 1;
  state.settings_revision = 1;
  const std::string etag = state.Etag();
  EXPECT_FALSE(etag.empty());

  NormState same = state;
  ASSERT_TRUE(Train(same, GoodBatch(), {"p", 1}).ok());
  same.revision = 2;
  same.update_time += absl::Hours(1);
  EXPECT_EQ(same.Etag(), etag);

  NormState changed = state;
  changed.settings_revision = 2;
  EXPECT_NE(changed.Etag(), etag);

  // Deleted and created anew under the same name.
  NormState anew = state;
  anew.create_time += absl::Microseconds(1);
  EXPECT_NE(anew.Etag(), etag);
}

TEST(EtagTest, SurvivesTheDisk) {
  NormState state = NewState();
  state.settings_revision = 17;
  state.create_time += absl::Nanoseconds(999);
  const auto decoded = DecodeState(state.name, state.revision, EncodeState(state));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->Etag(), state.Etag());
}

TEST(CheckEtagTest, TakesNoneOrTheRightOne) {
  const NormState state = NewState();
  EXPECT_TRUE(state.CheckEtag("").ok());
  EXPECT_TRUE(state.CheckEtag(state.Etag()).ok());
  const absl::Status status = state.CheckEtag("stale");
  EXPECT_THAT(status, IsError(Reason::kEtagMismatch,
                              "etag is '" + state.Etag() + "', the request expected 'stale'"));
  EXPECT_THAT(GetErrorMetadata(status), Contains(Pair("actual", state.Etag())));
}

// A message of the request's size would not fit the trailers of a call.
TEST(CheckEtagTest, MessageStaysShortWhateverCame) {
  const absl::Status status = NewState().CheckEtag(std::string(kMiB, '\xff'));
  EXPECT_THAT(status, IsError(Reason::kEtagMismatch, HasSubstr("\\xff...'")));
  EXPECT_LT(status.message().size(), 512U);
}

TEST(MemoryBytesTest, GrowsWithFeaturesAndProducers) {
  const auto bytes_of = [](const NormConfig& config) {
    return NormState::Create("m", config, {}, kCreateTime)->MemoryBytes();
  };
  const int64_t small = bytes_of({.num_features = 1});
  EXPECT_GE(small, static_cast<int64_t>(sizeof(NormState)));
  EXPECT_EQ(bytes_of({.num_features = 1001}) - small, 1000 * (2 * 8 + 2 * 8));
  EXPECT_EQ(bytes_of({.num_features = 1001, .affine = false}) -
                bytes_of({.num_features = 1001, .affine = false, .track_running_stats = false}),
            1001 * 2 * 8);

  NormConfig layer_norm = DefaultConfig(NormKind::kLayerNorm);
  layer_norm.num_features = 2;
  layer_norm.normalized_shape = {1, 1, 2};
  EXPECT_EQ(bytes_of(layer_norm),
            bytes_of({.num_features = 2, .track_running_stats = false}) + 3 * 8);

  NormState state = NewState();
  const int64_t before = state.MemoryBytes();
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(
        Train(state, GoodBatch(), {"a producer of some length " + std::to_string(i), 1}).ok());
  }
  EXPECT_GE(state.MemoryBytes(), before + 100 * (48 + 27));
}

TEST(MemoryBytesTest, CountsSlotsAndCalibration) {
  constexpr int64_t kFeatures = 1000;
  NormState state = *NormState::Create(
      "m",
      {.num_features = kFeatures,
       .optimizer = OptimizerConfig{.algorithm = OptimizerAlgorithm::kAdam, .amsgrad = true}},
      {}, kCreateTime);
  const int64_t before = state.MemoryBytes();
  const std::vector<double> gradient(kFeatures, 1.0);
  ASSERT_TRUE(Learn(state, {.weight = gradient}).ok());
  EXPECT_EQ(state.MemoryBytes() - before, 3 * kFeatures * 8);
  ASSERT_TRUE(Learn(state, {.bias = gradient}).ok());
  EXPECT_EQ(state.MemoryBytes() - before, 6 * kFeatures * 8);
  ASSERT_TRUE(state.BeginCalibration(CalibrationMethod::kPooled).ok());
  EXPECT_EQ(state.MemoryBytes() - before, 8 * kFeatures * 8);
}

}  // namespace
}  // namespace normd
