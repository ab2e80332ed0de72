// NormState::DecideGradients, ApplyGradients and what UpdateConfig does to an optimizer.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/base/limits.h"
#include "tests/core/error_matchers.h"
#include "tests/core/state/record_bytes.h"
#include "tests/core/state/state_testing.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// SGD with learning rate .5 and momentum .5 over float64 parameters.
NormConfig Learning() {
  return {.num_features = 2,
          .parameter_dtype = DataType::kFloat64,
          .optimizer = OptimizerConfig{.lr = .5, .momentum = .5}};
}

NormConfig RmsNorm() {
  NormConfig config = DefaultConfig(NormKind::kRmsNorm);
  config.normalized_shape = {2};
  config.optimizer = OptimizerConfig();
  return config;
}

TEST(LearningTest, StepsWeightAndBiasByTheOptimizer) {
  NormState state = NewState(Learning());
  EXPECT_EQ(Learn(state, {.weight = {{2, -2}}, .bias = {{4, 0}}}).value(), Disposition::kApplied);
  EXPECT_THAT(state.weight, ElementsAre(0, 2));
  EXPECT_THAT(state.bias, ElementsAre(-2, 0));
  EXPECT_THAT(state.weight_slots.first, ElementsAre(2, -2));
  EXPECT_THAT(state.bias_slots.first, ElementsAre(4, 0));
  EXPECT_EQ(state.optimizer_step, 1);
  EXPECT_EQ(Learn(state, {.weight = {{0, 0}}, .bias = {{0, 0}}}).value(), Disposition::kApplied);
  EXPECT_THAT(state.weight, ElementsAre(-.5, 2.5));
  EXPECT_EQ(state.optimizer_step, 2);
}

TEST(LearningTest, OneGradientStepsOneParameter) {
  NormState state = NewState(Learning());
  ASSERT_TRUE(Learn(state, {.bias = {{4, 0}}}).ok());
  EXPECT_THAT(state.weight, ElementsAre(1, 1));
  EXPECT_EQ(state.weight_slots, OptimizerSlots());
  EXPECT_THAT(state.bias, ElementsAre(-2, 0));
  EXPECT_EQ(state.bias_slots.step, 1);
  ASSERT_TRUE(Learn(state, {.weight = {{2, 2}}}).ok());
  EXPECT_THAT(state.weight, ElementsAre(0, 0));
  EXPECT_EQ(state.weight_slots.step, 1);
  EXPECT_THAT(state.bias, ElementsAre(-2, 0));
  EXPECT_EQ(state.optimizer_step, 2);
}

TEST(LearningTest, TouchesNothingElse) {
  NormState state = NewState(Learning());
  ASSERT_TRUE(Train(state, GoodBatch()).ok());
  state.revision = 7;
  state.settings_revision = 3;
  const NormState before = state;
  ASSERT_TRUE(Learn(state, {.weight = {{1, 1}}}, {"p", 1}, kCreateTime + absl::Hours(1)).ok());
  EXPECT_EQ(state.revision, 7);
  EXPECT_EQ(state.settings_revision, 3);
  EXPECT_EQ(state.update_time, kCreateTime);
  EXPECT_EQ(state.config, before.config);
  EXPECT_EQ(state.running_stats->mean, before.running_stats->mean);
  EXPECT_EQ(state.num_batches_tracked(), 1);
  EXPECT_EQ(state.producers.Find("p")->update_time, kCreateTime + absl::Hours(1));
}

TEST(LearningTest, ParametersAreRoundedAfterEveryStepAndSlotsAreNot) {
  NormConfig config = Learning();
  config.parameter_dtype = DataType::kFloat32;
  NormState state = NewState(config);
  ASSERT_TRUE(Learn(state, {.weight = {{.1, 1e-30}}}).ok());
  EXPECT_THAT(state.weight, ElementsAre(static_cast<float>(1 - .5 * .1), 1));
  EXPECT_THAT(state.weight_slots.first, ElementsAre(.1, 1e-30));
}

TEST(LearningTest, RmsNormLearnsItsWeight) {
  NormState state = NewState(RmsNorm());
  EXPECT_EQ(Learn(state, {.weight = {{100, -100}}}).value(), Disposition::kApplied);
  EXPECT_THAT(state.weight, ElementsAre(.9F, 1.1F));
  EXPECT_THAT(state.bias, IsEmpty());
  EXPECT_EQ(state.bias_slots, OptimizerSlots());
}

TEST(LearningTest, BatchesAndGradientsShareOneNumbering) {
  NormState state = NewState(Learning());
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 1}).value(), Disposition::kApplied);
  EXPECT_EQ(Learn(state, {.weight = {{1, 1}}}, {"p", 1}).value(), Disposition::kDuplicate);
  EXPECT_EQ(Learn(state, {.weight = {{1, 1}}}, {"p", 2}).value(), Disposition::kApplied);
  EXPECT_EQ(Train(state, GoodBatch(), {"p", 2}).value(), Disposition::kDuplicate);
  EXPECT_EQ(state.optimizer_step, 1);
  EXPECT_EQ(state.num_batches_tracked(), 1);
}

TEST(LearningTest, DuplicateIsASuccessWhateverBecameOfTheState) {
  NormState state = NewState(Learning());
  ASSERT_TRUE(Learn(state, {.weight = {{1, 1}}}, {"p", 5}).ok());
  const std::string before = EncodeState(state);
  EXPECT_EQ(Learn(state, {.weight = {{1}}}, {"p", 5}).value(), Disposition::kDuplicate);
  EXPECT_EQ(Learn(state, {}, {"p", 4}).value(), Disposition::kDuplicate);
  EXPECT_EQ(EncodeState(state), before);
  NormConfig plain = state.config;
  plain.optimizer.reset();
  ASSERT_TRUE(state.UpdateConfig(plain).ok());
  state.frozen = true;
  EXPECT_EQ(Learn(state, {.weight = {{1, 1}}}, {"p", 5}).value(), Disposition::kDuplicate);
}

TEST(LearningTest, DecideAloneChangesNothing) {
  const NormState state = NewState(Learning());
  const std::string before = EncodeState(state);
  EXPECT_EQ(state.DecideGradients({.weight = {{1, 1}}}, {"p", 1}), std::nullopt);
  EXPECT_EQ(EncodeState(state), before);
}

struct RefusedCase {
  std::string name;
  Reason reason;
  std::string message;
  Parameters gradients = {.weight = std::vector<double>{1, 1}};
  std::string producer_id = "p";
  int64_t sequence = 6;
  NormConfig config = Learning();
  bool frozen = false;
};

void PrintTo(const RefusedCase& refused, std::ostream* out) { *out << refused.name; }

std::vector<RefusedCase> RefusedCases() {
  using Values = std::vector<double>;
  NormConfig no_optimizer = Learning();
  no_optimizer.optimizer.reset();
  NormConfig not_affine = no_optimizer;
  not_affine.affine = false;
  NormConfig float32 = Learning();
  float32.parameter_dtype = DataType::kFloat32;
  float32.optimizer = OptimizerConfig{.lr = 1e10};
  NormConfig adam = Learning();
  adam.optimizer = OptimizerConfig{.algorithm = OptimizerAlgorithm::kAdam};
  return {
      {.name = "SequenceZero",
       .reason = Reason::kSequenceInvalid,
       .message = "sequence is 0, expected >= 1",
       .sequence = 0},
      {.name = "ProducerIdOf129Bytes",
       .reason = Reason::kProducerIdInvalid,
       .message = "producer_id has 129 bytes, expected at most 128",
       .producer_id = std::string(129, 'p')},
      {.name = "Frozen",
       .reason = Reason::kStateFrozen,
       .message = "the state is frozen, expected it unfrozen",
       .frozen = true},
      {.name = "NotAffine",
       .reason = Reason::kParametersAbsent,
       .message = "affine is false, so there is no weight and bias to step",
       .config = not_affine},
      {.name = "NoOptimizer",
       .reason = Reason::kOptimizerAbsent,
       .message = "the config has no optimizer, expected one to step weight and bias by",
       .config = no_optimizer},
      {.name = "NoGradient",
       .reason = Reason::kGradientsMissing,
       .message = "neither grad_weight nor grad_bias is set, expected one or both",
       .gradients = {}},
      {.name = "BiasOfRmsNorm",
       .reason = Reason::kParametersAbsent,
       .message = "kind is RMS_NORM, so there is no bias to step",
       .gradients = {.weight = Values{1, 1}, .bias = Values{1, 1}},
       .config = RmsNorm()},
      {.name = "WeightTooLong",
       .reason = Reason::kParametersLengthMismatch,
       .message = "num_features is 2, grad_weight has 3 values",
       .gradients = {.weight = Values{1, 1, 1}}},
      {.name = "BiasEmpty",
       .reason = Reason::kParametersLengthMismatch,
       .message = "num_features is 2, grad_bias has 0 values",
       .gradients = {.weight = Values{1, 1}, .bias = Values{}}},
      {.name = "WeightNan",
       .reason = Reason::kNonFiniteValue,
       .message = "grad_weight is nan at channel 1, expected a finite value",
       .gradients = {.weight = Values{1, kNan}}},
      {.name = "BiasInf",
       .reason = Reason::kNonFiniteValue,
       .message = "grad_bias is -inf at channel 0, expected a finite value",
       .gradients = {.weight = Values{1, 1}, .bias = Values{-kInf, 1}}},
      {.name = "StepToInfinity",
       .reason = Reason::kNonFiniteValue,
       .message =
           "the step by grad_bias 1e+30 at channel 1 would make bias -inf, expected a finite "
           "value",
       .gradients = {.weight = Values{1, 1}, .bias = Values{0, 1e30}},
       .config = float32},
      {.name = "SlotToInfinity",
       .reason = Reason::kNonFiniteValue,
       .message = "the step by grad_weight 1e+200 at channel 0 would make an optimizer slot inf, "
                  "expected a finite value",
       .gradients = {.weight = Values{1e200, 1}, .bias = Values{1, 1}},
       .config = adam},
  };
}

class RefusedGradientsTest : public testing::TestWithParam<RefusedCase> {};

TEST_P(RefusedGradientsTest, ChangeNothingAtAll) {
  const RefusedCase& refused = GetParam();
  NormState state = NewState(refused.config);
  const Parameters good = {.weight = std::vector<double>{1, 1}};
  if (state.config.optimizer.has_value()) {
    ASSERT_TRUE(Learn(state, good, {"p", 5}).ok());
  }
  state.frozen = refused.frozen;
  const std::string before = EncodeState(state);
  EXPECT_THAT(Learn(state, refused.gradients, {refused.producer_id, refused.sequence},
                    kCreateTime + absl::Hours(1)),
              IsError(refused.reason, refused.message));
  EXPECT_EQ(EncodeState(state), before);
  // The sequence was not used up.
  state.frozen = false;
  if (state.config.optimizer.has_value()) {
    EXPECT_EQ(Learn(state, good, {"p", 6}).value(), Disposition::kApplied);
  }
}

INSTANTIATE_TEST_SUITE_P(Gradients, RefusedGradientsTest, testing::ValuesIn(RefusedCases()),
                         [](const auto& refused) { return refused.param.name; });

TEST(LearningTest, ErrorNamesTheGradientAndTheIndex) {
  NormState state = NewState(Learning());
  for (const double bad : {kNan, 1e308}) {
    const absl::StatusOr<Disposition> refused =
        Learn(state, {.weight = {{1, 1}}, .bias = {{1, bad}}});
    if (std::isnan(bad)) {
      EXPECT_THAT(GetErrorMetadata(refused.status()), Contains(Pair("field", "grad_bias")));
      EXPECT_THAT(GetErrorMetadata(refused.status()), Contains(Pair("index", "1")));
    } else {
      EXPECT_TRUE(refused.ok());
    }
  }
  // The buffer of 1e308 grows beyond float64.
  Learn(state, {.bias = {{0, 1e308}}}).IgnoreError();
  const absl::StatusOr<Disposition> refused = Learn(state, {.bias = {{0, 1.7e308}}});
  EXPECT_THAT(refused, HasReason(Reason::kNonFiniteValue));
  EXPECT_THAT(GetErrorMetadata(refused.status()), Contains(Pair("field", "grad_bias")));
  EXPECT_THAT(GetErrorMetadata(refused.status()), Contains(Pair("index", "1")));
}

TEST(LearningTest, UnderPropagateGradientsAreTakenAsTorchDoes) {
  NormConfig config = Learning();
  config.non_finite = NonFinitePolicy::kPropagate;
  NormState state = NewState(config);
  EXPECT_EQ(Learn(state, {.weight = {{kNan, 1}}, .bias = {{kInf, 1}}}).value(),
            Disposition::kApplied);
  EXPECT_TRUE(std::isnan(state.weight[0]));
  EXPECT_EQ(state.weight[1], .5);
  EXPECT_EQ(state.bias[0], -kInf);
}

TEST(LearningTest, FullProducerTableRefusesTheGradientsAndChangesNothing) {
  constexpr ProducerLimits kOne = {.producers_max = 1, .age_max = absl::Hours(1)};
  NormState state = NewState(Learning());
  ASSERT_TRUE(Learn(state, {.weight = {{1, 1}}}, {"p", 1}, kCreateTime, kOne).ok());
  const std::string before = EncodeState(state);
  EXPECT_THAT(Learn(state, {.weight = {{1, 1}}}, {"q", 1}, kCreateTime, kOne),
              HasReason(Reason::kProducerTableFull));
  EXPECT_EQ(EncodeState(state), before);
}

TEST(UpdateOptimizerTest, SlotsStayWhileTheAlgorithmStays) {
  NormState state = NewState(Learning());
  ASSERT_TRUE(Learn(state, {.weight = {{2, 2}}, .bias = {{2, 2}}}).ok());
  NormConfig updated = state.config;
  updated.optimizer->lr = .25;
  updated.optimizer->nesterov = true;
  updated.eps = .5;
  ASSERT_TRUE(state.UpdateConfig(updated).ok());
  EXPECT_EQ(state.config, updated);
  EXPECT_THAT(state.weight_slots.first, ElementsAre(2, 2));
  EXPECT_THAT(state.bias_slots.first, ElementsAre(2, 2));
  EXPECT_EQ(state.optimizer_step, 1);
}

TEST(UpdateOptimizerTest, AnotherAlgorithmOrNoneBeginsAnew) {
  for (const std::optional<OptimizerConfig>& optimizer :
       {std::optional<OptimizerConfig>(),
        std::optional(OptimizerConfig{.algorithm = OptimizerAlgorithm::kAdam})}) {
    NormState state = NewState(Learning());
    ASSERT_TRUE(Learn(state, {.weight = {{2, 2}}, .bias = {{2, 2}}}).ok());
    const SharedArray weight = state.weight;
    NormConfig updated = state.config;
    updated.optimizer = optimizer;
    ASSERT_TRUE(state.UpdateConfig(updated).ok());
    EXPECT_EQ(state.weight_slots, OptimizerSlots());
    EXPECT_EQ(state.bias_slots, OptimizerSlots());
    EXPECT_EQ(state.optimizer_step, 0);
    EXPECT_EQ(state.weight, weight);
  }
}

TEST(UpdateOptimizerTest, OptimizerMayComeLater) {
  NormState state = NewState();
  NormConfig updated = state.config;
  updated.optimizer = OptimizerConfig{.lr = 1};
  ASSERT_TRUE(state.UpdateConfig(updated).ok());
  EXPECT_TRUE(Learn(state, {.weight = {{1, 0}}}).ok());
  EXPECT_THAT(state.weight, ElementsAre(0, 1));
  NormState plain = NewState({.affine = false});
  updated.affine = false;
  EXPECT_THAT(plain.UpdateConfig(updated), HasReason(Reason::kFieldNotApplicable));
}

// Steps of a state that lies on disk between them equal steps without the disk, bit by bit.
TEST(LearningTest, StepsGoOnOverTheDisk) {
  SeededRandom random;
  std::normal_distribution<double> normal(0, 1);
  for (int round = 0; round < 60; ++round) {
    NormConfig config = Learning();
    if (round % 2 == 0) config.parameter_dtype = DataType::kFloat32;
    config.optimizer = OptimizerConfig{.algorithm = static_cast<OptimizerAlgorithm>(1 + round % 3),
                                       .weight_decay = .1};
    if (round % 3 == 0) {
      config.optimizer->momentum = .9;
    } else {
      config.optimizer->amsgrad = random() % 2 == 0;
    }
    NormState without = NewState(config);
    NormState with = without;
    for (int part = 0; part < 3; ++part) {
      for (uint32_t k = random() % 5; k > 0; --k) {
        Parameters gradients = {.weight = {{normal(random), normal(random)}}};
        if (random() % 2 == 0) gradients.bias = {{normal(random), normal(random)}};
        ASSERT_TRUE(Learn(without, gradients).ok());
        ASSERT_TRUE(Learn(with, gradients).ok());
      }
      auto decoded = DecodeState(with.name, with.revision, EncodeState(with));
      ASSERT_TRUE(decoded.ok()) << decoded.status();
      with = *std::move(decoded);
    }
    ASSERT_EQ(Describe(with), Describe(without));
  }
}

}  // namespace
}  // namespace normd
