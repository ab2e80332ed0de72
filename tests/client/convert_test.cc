#include "client/cpp/convert.h"

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normd::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// The state that the server would answer with for `config`.
absl::StatusOr<State> RoundTrip(const StateConfig& config) {
  v1::State wire;
  *wire.mutable_config() = ToWire(config);
  return FromWire(wire);
}

TEST(ConvertTest, TheConfigOfEveryKindReadsBackAsItWas) {
  StateConfig instance = StateConfig::InstanceNorm(3);
  instance.affine = true;
  instance.track_running_stats = true;
  instance.momentum = 0.25;
  instance.parameter_dtype = DataType::kFloat64;
  StateConfig batch = StateConfig::BatchNorm(3);
  batch.momentum = std::nullopt;
  batch.eps = 0.5;
  batch.correction = 0;
  batch.non_finite = NonFinite::kPropagate;
  StateConfig rms = StateConfig::RmsNorm({5});
  rms.eps = 1e-6;
  for (const StateConfig& config :
       {StateConfig::BatchNorm(3), batch, StateConfig::LayerNorm({4, 5}),
        StateConfig::GroupNorm(2, 6), StateConfig::InstanceNorm(3), instance,
        StateConfig::RmsNorm({5}), rms}) {
    const auto state = RoundTrip(config);
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_TRUE(state->config == config) << static_cast<int>(config.kind);
  }
}

TEST(ConvertTest, KindsHavePyTorchsDefaults) {
  EXPECT_TRUE(StateConfig::BatchNorm(1).affine);
  EXPECT_TRUE(StateConfig::BatchNorm(1).track_running_stats);
  EXPECT_FALSE(StateConfig::InstanceNorm(1).affine);
  EXPECT_FALSE(StateConfig::InstanceNorm(1).track_running_stats);
  EXPECT_TRUE(StateConfig::LayerNorm({1}).affine);
  EXPECT_EQ(StateConfig::GroupNorm(1, 1).eps, 1e-5);
  EXPECT_EQ(StateConfig::RmsNorm({1}).eps, std::nullopt);
}

TEST(ConvertTest, SendsNoFieldThatTheKindDoesNotHaveUnlessItWasSet) {
  v1::NormConfig wire = ToWire(StateConfig::LayerNorm({2, 3}));
  EXPECT_EQ(wire.averaging_case(), v1::NormConfig::AVERAGING_NOT_SET);
  EXPECT_FALSE(wire.has_running_var_correction());
  EXPECT_FALSE(wire.track_running_stats());
  EXPECT_THAT(wire.normalized_shape(), ElementsAre(2, 3));
  EXPECT_FALSE(ToWire(StateConfig::RmsNorm({2})).has_eps());

  StateConfig wrong = StateConfig::LayerNorm({2});
  wrong.momentum = 0.5;
  wrong.track_running_stats = true;
  wire = ToWire(wrong);
  EXPECT_EQ(wire.momentum(), 0.5);
  EXPECT_TRUE(wire.track_running_stats());
}

TEST(ConvertTest, OptimizersReadBackAsTheyWere) {
  Optimizer sgd = Optimizer::Sgd(0.5);
  sgd.momentum = 0.9;
  sgd.nesterov = true;
  sgd.weight_decay = 0.125;
  Optimizer adam = Optimizer::Adam(0.25);
  adam.beta1 = 0.5;
  adam.beta2 = 0.75;
  adam.eps = 1e-3;
  adam.amsgrad = true;
  adam.maximize = true;
  for (const Optimizer& optimizer : {sgd, adam, Optimizer::Adam(), Optimizer::AdamW()}) {
    StateConfig config = StateConfig::BatchNorm(1);
    config.optimizer = optimizer;
    const auto state = RoundTrip(config);
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_TRUE(state->config.optimizer == optimizer);
  }
  EXPECT_EQ(Optimizer::AdamW().weight_decay, 0.01);
  EXPECT_EQ(Optimizer::Adam().weight_decay, 0);
}

TEST(ConvertTest, SendsNoFieldThatTheAlgorithmDoesNotHaveUnlessItWasSet) {
  const v1::Optimizer sgd = ToWire(Optimizer::Sgd(1));
  EXPECT_FALSE(sgd.has_beta1() || sgd.has_beta2() || sgd.has_eps() || sgd.has_amsgrad());
  const v1::Optimizer adam = ToWire(Optimizer::Adam());
  EXPECT_FALSE(adam.has_momentum() || adam.has_dampening() || adam.has_nesterov());
  Optimizer wrong = Optimizer::Adam();
  wrong.momentum = 0.5;
  EXPECT_TRUE(ToWire(wrong).has_momentum());
}

TEST(ConvertTest, NarrowsAVectorOnlyWhereThatLosesNothing) {
  EXPECT_EQ(NarrowVectorToWire({1, 0.5, std::nan("")}).dtype(), v1::FLOAT32);
  EXPECT_THAT(NarrowVectorToWire({1, 0.5}).data(), SizeIs(8));
  EXPECT_EQ(NarrowVectorToWire({1, 0.1}).dtype(), v1::FLOAT64);
  EXPECT_EQ(NarrowVectorToWire({1e300}).dtype(), v1::FLOAT64);
  EXPECT_EQ(NarrowVectorToWire({}).shape(0), 0);
}

TEST(ConvertTest, ReadsParametersOfEitherDtypeAndTheCalibration) {
  v1::State wire;
  wire.mutable_config()->set_kind(v1::NormConfig::BATCH_NORM);
  *wire.mutable_parameters()->mutable_weight() = NarrowVectorToWire({1, 0.5});
  *wire.mutable_parameters()->mutable_bias() = VectorToWire({0.1, 0.2});
  wire.set_optimizer_step(7);
  auto state = FromWire(wire);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_THAT(state->weight, ElementsAre(1, 0.5));
  EXPECT_THAT(state->bias, ElementsAre(0.1, 0.2));
  EXPECT_EQ(state->optimizer_step, 7);
  EXPECT_FALSE(state->calibration.has_value());
  wire.mutable_calibration()->set_method(v1::Calibration::POOLED);
  wire.mutable_calibration()->set_num_batches(3);
  wire.mutable_calibration()->set_count(30);
  wire.mutable_calibration()->set_calibration_id("5f-2");
  state = FromWire(wire);
  ASSERT_TRUE(state.ok() && state->calibration.has_value());
  EXPECT_EQ(state->calibration->method, CalibrationMethod::kPooled);
  EXPECT_EQ(state->calibration->num_batches, 3);
  EXPECT_EQ(state->calibration->count, 30);
  EXPECT_EQ(state->calibration->calibration_id, "5f-2");
}

TEST(ConvertTest, AnAnswerThatMakesNoSenseIsAnInternalError) {
  v1::Tensor tensor;
  EXPECT_TRUE(absl::IsInternal(FromWire(tensor).status()));
  tensor.set_dtype(v1::FLOAT64);
  tensor.set_data("1234567");
  EXPECT_TRUE(absl::IsInternal(FromWire(tensor).status()));
  EXPECT_TRUE(absl::IsInternal(FromWire(v1::State()).status()));
  EXPECT_TRUE(absl::IsInternal(FromWire(v1::NormalizeResponse()).status()));
}

TEST(ConvertTest, ReadsTheGradientsThatAreThere) {
  v1::BackwardResponse wire;
  wire.set_sequence(3);
  *wire.mutable_grad_weight() = VectorToWire({0.1});
  wire.set_revision(9);
  wire.set_parameters_revision(7);
  const auto result = FromWire(wire);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->sequence, 3);
  EXPECT_FALSE(result->grad_input.has_value());
  EXPECT_THAT(result->grad_weight, ElementsAre(0.1));
  EXPECT_THAT(result->grad_bias, IsEmpty());
  EXPECT_EQ(result->revision, 9);
  EXPECT_EQ(result->parameters_revision, 7);
}

}  // namespace
}  // namespace normd::client
