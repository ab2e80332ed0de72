// Every kind over the wire: its defaults, the shape of its parameters, and figures checked by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::FloatNear;
using ::testing::Pointwise;

class KindsTest : public ServerTest {
 protected:
  void SetUp() override { StartServer(InMemory()); }

  // Trains with output and moments; the test fails when it cannot.
  v1::TrainResponse MustTrain(const std::string& state, const v1::Tensor& input) {
    v1::TrainRequest request;
    request.set_state(state);
    *request.mutable_input() = input;
    request.set_return_output(true);
    request.set_return_moments(true);
    v1::TrainResponse response;
    const grpc::Status status = Train(request, &response);
    EXPECT_TRUE(status.ok()) << ErrorOf(status);
    return response;
  }

  std::vector<float> MustNormalize(const std::string& state, const v1::Tensor& input) {
    v1::NormalizeRequest request;
    request.set_state(state);
    *request.mutable_input() = input;
    v1::NormalizeResponse response;
    const grpc::Status status = Normalize(request, &response);
    EXPECT_TRUE(status.ok()) << ErrorOf(status);
    return Floats(response.output());
  }

  v1::BackwardResponse MustBackward(const std::string& state, const v1::Tensor& input,
                                    const v1::Tensor& grad_output,
                                    v1::BackwardRequest::Mode mode = v1::BackwardRequest::TRAIN) {
    v1::BackwardRequest request;
    request.set_state(state);
    *request.mutable_input() = input;
    *request.mutable_grad_output() = grad_output;
    request.set_mode(mode);
    v1::BackwardResponse response;
    const grpc::Status status = Backward(request, &response);
    EXPECT_TRUE(status.ok()) << ErrorOf(status);
    return response;
  }
};

void SetWeights(v1::State& state, const std::vector<float>& weight) {
  *state.mutable_parameters()->mutable_weight() =
      Float32Tensor({static_cast<int64_t>(weight.size())}, weight);
}

void SetBias(v1::State& state, const std::vector<float>& bias) {
  *state.mutable_parameters()->mutable_bias() =
      Float32Tensor({static_cast<int64_t>(bias.size())}, bias);
}

// Nothing but the sign of a value's distance to the mean is left when the distances are all alike.
const std::vector<float> kTwoLowTwoHigh = {1, 1, 3, 3};

TEST_F(KindsTest, EachIsCreatedWithPyTorchsDefaults) {
  struct Case {
    v1::State wanted;
    bool affine;
    bool tracks;
    bool has_averaging;
    bool has_eps;
    bool has_bias;
  };
  for (const Case& c :
       std::vector<Case>{{BatchNormState("batch", 6), true, true, true, true, true},
                         {LayerNormState("layer", {2, 3}), true, false, false, true, true},
                         {GroupNormState("group", 2, 6), true, false, false, true, true},
                         {InstanceNormState("instance", 6), false, false, true, true, false},
                         {RmsNormState("rms", {2, 3}), true, false, false, false, false}}) {
    SCOPED_TRACE(c.wanted.name());
    const v1::State state = MustCreate(c.wanted);
    const v1::NormConfig& config = state.config();
    EXPECT_EQ(config.kind(), c.wanted.config().kind());
    EXPECT_EQ(config.num_features(), 6);
    EXPECT_EQ(config.affine(), c.affine);
    EXPECT_EQ(config.track_running_stats(), c.tracks);
    EXPECT_EQ(config.has_momentum(), c.has_averaging);
    EXPECT_EQ(config.has_running_var_correction(), c.has_averaging);
    EXPECT_EQ(config.has_eps(), c.has_eps);
    EXPECT_EQ(config.eps(), c.has_eps ? 1e-5 : 0);
    EXPECT_EQ(config.non_finite(), v1::NormConfig::REFUSE);
    EXPECT_EQ(config.parameter_dtype(), v1::FLOAT32);
    EXPECT_FALSE(config.has_optimizer());
    EXPECT_EQ(state.has_parameters(), c.affine);
    EXPECT_EQ(state.parameters().has_bias(), c.has_bias);
    EXPECT_EQ(state.has_running_stats(), c.tracks);
    EXPECT_EQ(state.optimizer_step(), 0);
    EXPECT_FALSE(state.has_calibration());
    EXPECT_EQ(MustGet(state.name()).SerializeAsString(), state.SerializeAsString());
  }
}

TEST_F(KindsTest, AConfigThatWasReadCreatesTheSameState) {
  v1::State learns = LayerNormState("learns", {4});
  *learns.mutable_config()->mutable_optimizer() = Sgd(0.5);
  v1::State cumulative = BatchNormState("cumulative", 4);
  cumulative.mutable_config()->set_cumulative_average(true);
  v1::State tracks = InstanceNormState("tracks", 4);
  tracks.mutable_config()->set_track_running_stats(true);
  tracks.mutable_config()->set_affine(true);
  for (const v1::State& wanted : {BatchNormState("batch", 6), LayerNormState("layer", {2, 3}),
                                  GroupNormState("group", 2, 6), InstanceNormState("instance", 6),
                                  RmsNormState("rms", {2, 3}), learns, cumulative, tracks}) {
    SCOPED_TRACE(wanted.name());
    v1::State again = MustCreate(wanted);
    const v1::NormConfig config = again.config();
    again.set_name("again/" + wanted.name());
    EXPECT_EQ(MustCreate(again).config().SerializeAsString(), config.SerializeAsString());
  }
}

TEST_F(KindsTest, ParametersHaveTheShapeOfNormalizedShapeAndAreTakenFlatToo) {
  v1::State wanted = LayerNormState("m", {2, 3});
  *wanted.mutable_parameters()->mutable_weight() = Float32Tensor({2, 3}, {1, 2, 3, 4, 5, 6});
  *wanted.mutable_parameters()->mutable_bias() = Float32Tensor({6}, {6, 5, 4, 3, 2, 1});
  v1::State state = MustCreate(wanted);
  EXPECT_THAT(state.parameters().weight().shape(), ElementsAre(2, 3));
  EXPECT_THAT(state.parameters().bias().shape(), ElementsAre(2, 3));
  EXPECT_THAT(Floats(state.parameters().weight()), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(Floats(state.parameters().bias()), ElementsAre(6, 5, 4, 3, 2, 1));

  v1::SetParametersRequest request;
  request.set_name("m");
  *request.mutable_parameters() = state.parameters();
  *request.mutable_parameters()->mutable_bias() = Float64Tensor({2, 3}, {0, 0, 0, 0, 0, 7});
  const grpc::Status status = SetParameters(request, &state);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_THAT(Floats(state.parameters().weight()), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(Floats(state.parameters().bias()), ElementsAre(0, 0, 0, 0, 0, 7));
}

TEST_F(KindsTest, BatchNormGivesTheGradientsOfBothModes) {
  v1::State wanted = BatchNormState("m", 1);
  wanted.mutable_config()->set_eps(0);
  SetWeights(wanted, {2});
  *wanted.mutable_running_stats()->mutable_running_mean() = Float32Tensor({1}, {1});
  *wanted.mutable_running_stats()->mutable_running_var() = Float32Tensor({1}, {4});
  MustCreate(wanted);
  const v1::Tensor input = Float32Tensor({4, 1}, kTwoLowTwoHigh);
  // xhat = (-1, -1, 1, 1), invstd 1: dx = 2 (dy - 1/4 - xhat * -1/4).
  v1::BackwardResponse response = MustBackward("m", input, Float32Tensor({4, 1}, {1, 0, 0, 0}));
  EXPECT_THAT(Floats(response.grad_input()), ElementsAre(1, -1, 0, 0));
  EXPECT_THAT(response.grad_input().shape(), ElementsAre(4, 1));
  EXPECT_THAT(Floats(response.grad_weight()), ElementsAre(-1));
  EXPECT_THAT(Floats(response.grad_bias()), ElementsAre(1));
  // (x - 1) / 2, which is a constant map: dx = dy 2 / 2.
  response =
      MustBackward("m", input, Float32Tensor({4, 1}, {0, 0, 1, 0}), v1::BackwardRequest::EVAL);
  EXPECT_THAT(Floats(response.grad_input()), ElementsAre(0, 0, 1, 0));
  EXPECT_THAT(Floats(response.grad_weight()), ElementsAre(1));
  EXPECT_THAT(Floats(response.grad_bias()), ElementsAre(1));
}

TEST_F(KindsTest, LayerNormNormalizesEachRow) {
  v1::State wanted = LayerNormState("m", {2});
  wanted.mutable_config()->set_eps(0);
  SetWeights(wanted, {2, 3});
  SetBias(wanted, {0, 10});
  const v1::State before = MustCreate(wanted);
  const v1::Tensor input = Float32Tensor({2, 1, 2}, {1, 3, 2, 8});
  const v1::TrainResponse response = MustTrain("m", input);
  EXPECT_EQ(response.disposition(), v1::APPLIED);
  EXPECT_EQ(response.revision(), 1);
  EXPECT_EQ(response.num_batches_tracked(), 0);
  EXPECT_EQ(response.moments().count(), 2);
  EXPECT_THAT(response.moments().mean(), ElementsAre(2, 5));
  EXPECT_THAT(response.moments().m2(), ElementsAre(2, 18));
  EXPECT_THAT(response.output().shape(), ElementsAre(2, 1, 2));
  EXPECT_THAT(Floats(response.output()), ElementsAre(-2, 13, -2, 13));
  EXPECT_THAT(MustNormalize("m", input), ElementsAre(-2, 13, -2, 13));
  EXPECT_EQ(MustGet("m").SerializeAsString(), before.SerializeAsString());
}

TEST_F(KindsTest, LayerNormTakesAnyRankThatEndsInTheShape) {
  v1::State wanted = LayerNormState("m", {2, 2});
  wanted.mutable_config()->set_eps(0);
  MustCreate(wanted);
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{2, 2}, {1, 2, 2}, {1, 1, 2, 2}, {1, 1, 1, 1, 1, 2, 2}}) {
    const v1::Tensor input = Float32Tensor(shape, kTwoLowTwoHigh);
    EXPECT_THAT(MustNormalize("m", input), ElementsAre(-1, -1, 1, 1));
    const v1::BackwardResponse response =
        MustBackward("m", input, Float32Tensor(shape, {1, 0, 0, 0}));
    EXPECT_THAT(Floats(response.grad_input()), ElementsAre(0.5, -0.5, 0, 0));
    EXPECT_THAT(response.grad_input().shape(), ElementsAreArray(shape));
    EXPECT_THAT(response.grad_weight().shape(), ElementsAre(2, 2));
    EXPECT_THAT(Floats(response.grad_weight()), ElementsAre(-1, 0, 0, 0));
    EXPECT_THAT(Floats(response.grad_bias()), ElementsAre(1, 0, 0, 0));
  }
}

TEST_F(KindsTest, GroupNormNormalizesEachGroupAndScalesEachChannel) {
  v1::State wanted = GroupNormState("m", 2, 4);
  wanted.mutable_config()->set_eps(0);
  SetWeights(wanted, {1, 2, 3, 4});
  SetBias(wanted, {0, 0, 0, 1});
  MustCreate(wanted);
  const v1::Tensor input = Float32Tensor({1, 4, 2}, {1, 1, 3, 3, 2, 2, 6, 6});
  const v1::TrainResponse response = MustTrain("m", input);
  EXPECT_EQ(response.moments().count(), 4);
  EXPECT_THAT(response.moments().mean(), ElementsAre(2, 4));
  EXPECT_THAT(response.moments().m2(), ElementsAre(4, 16));
  EXPECT_THAT(Floats(response.output()), ElementsAre(-1, -1, 2, 2, -3, -3, 5, 5));
  EXPECT_THAT(MustNormalize("m", input), ElementsAre(-1, -1, 2, 2, -3, -3, 5, 5));
  const v1::Tensor last = Float32Tensor({1, 2, 4}, {1, 3, 2, 6, 1, 3, 2, 6}, v1::CHANNELS_LAST);
  EXPECT_THAT(MustNormalize("m", last), ElementsAre(-1, 2, -3, 5, -1, 2, -3, 5));
  const v1::BackwardResponse gradients =
      MustBackward("m", input, Float32Tensor({1, 4, 2}, {1, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_THAT(Floats(gradients.grad_input()), ElementsAre(0.5, -0.5, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(Floats(gradients.grad_weight()), ElementsAre(-1, 0, 0, 0));
  EXPECT_THAT(Floats(gradients.grad_bias()), ElementsAre(1, 0, 0, 0));
}

TEST_F(KindsTest, InstanceNormNormalizesEachChannelOfEachSample) {
  v1::State wanted = InstanceNormState("m", 2);
  wanted.mutable_config()->set_eps(0);
  const v1::State before = MustCreate(wanted);
  const v1::Tensor input = Float32Tensor({2, 2, 2}, {1, 3, 2, 6, 4, 8, 0, 2});
  const v1::TrainResponse response = MustTrain("m", input);
  EXPECT_EQ(response.moments().count(), 2);
  EXPECT_THAT(response.moments().mean(), ElementsAre(2, 4, 6, 1));
  EXPECT_THAT(response.moments().m2(), ElementsAre(2, 8, 8, 2));
  EXPECT_THAT(Floats(response.output()), ElementsAre(-1, 1, -1, 1, -1, 1, -1, 1));
  EXPECT_THAT(MustNormalize("m", input), ElementsAre(-1, 1, -1, 1, -1, 1, -1, 1));
  const v1::Tensor one = Float32Tensor({1, 2, 4}, {1, 1, 3, 3, 1, 1, 3, 3});
  const v1::BackwardResponse gradients = MustBackward(
      "m", one, Float32Tensor({1, 2, 4}, {0, 0, 0, 0, 1, 0, 0, 0}), v1::BackwardRequest::EVAL);
  EXPECT_THAT(Floats(gradients.grad_input()), ElementsAre(0, 0, 0, 0, 0.5, -0.5, 0, 0));
  EXPECT_FALSE(gradients.has_grad_weight()) << "there is no weight";
  EXPECT_FALSE(gradients.has_grad_bias());
  EXPECT_EQ(MustGet("m").SerializeAsString(), before.SerializeAsString());
}

TEST_F(KindsTest, InstanceNormTracksTheMeanOverSamplesAndCountsNoBatches) {
  v1::State wanted = InstanceNormState("values", 2);
  wanted.mutable_config()->set_track_running_stats(true);
  wanted.mutable_config()->set_momentum(0.5);
  wanted.mutable_config()->set_eps(0);
  MustCreate(wanted);
  wanted.set_name("moments");
  MustCreate(wanted);
  const v1::Tensor input = Float32Tensor({2, 2, 2}, {1, 3, 2, 6, 4, 8, 0, 2});
  const v1::TrainResponse trained = MustTrain("values", input);
  EXPECT_EQ(trained.revision(), 2);
  EXPECT_EQ(trained.num_batches_tracked(), 0);
  EXPECT_THAT(Floats(trained.output()), ElementsAre(-1, 1, -1, 1, -1, 1, -1, 1));
  const v1::State state = MustGet("values");
  // Means (2 + 6) / 2 and (4 + 1) / 2, variances (2 + 8) / 2 and (8 + 2) / 2, each half taken.
  EXPECT_THAT(Doubles(state.running_stats().running_mean()),
              Pointwise(DoubleNear(1e-12), {2.0, 1.25}));
  EXPECT_THAT(Doubles(state.running_stats().running_var()),
              Pointwise(DoubleNear(1e-12), {3.0, 3.0}));
  EXPECT_EQ(state.running_stats().num_batches_tracked(), 0);

  v1::TrainRequest moments;
  moments.set_state("moments");
  *moments.mutable_moments() = trained.moments();
  const grpc::Status status = Train(moments);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(MustGet("moments").running_stats().SerializeAsString(),
            state.running_stats().SerializeAsString());

  const auto r = static_cast<float>(1 / std::sqrt(3.0));
  EXPECT_THAT(MustNormalize("values", Float32Tensor({1, 2, 1}, {4, 1.25})),
              Pointwise(FloatNear(1e-6F), {2 * r, 0.0F}));
  const v1::BackwardResponse gradients =
      MustBackward("values", Float32Tensor({1, 2, 1}, {4, 1.25}), Float32Tensor({1, 2, 1}, {3, 0}),
                   v1::BackwardRequest::EVAL);
  EXPECT_THAT(Floats(gradients.grad_input()), Pointwise(FloatNear(1e-6F), {3 * r, 0.0F}));
}

TEST_F(KindsTest, RmsNormDividesByTheRootOfTheMeanSquare) {
  v1::State wanted = RmsNormState("m", {4});
  wanted.mutable_config()->set_eps(0);
  SetWeights(wanted, {1, 2, 3, 4});
  const v1::State state = MustCreate(wanted);
  EXPECT_EQ(state.config().eps(), 0);
  const v1::Tensor input = Float32Tensor({2, 4}, {2, 2, 2, 2, 3, -3, 3, -3});
  const v1::TrainResponse response = MustTrain("m", input);
  EXPECT_EQ(response.moments().count(), 4);
  EXPECT_THAT(response.moments().mean(), ElementsAre(2, 0));
  EXPECT_THAT(response.moments().m2(), ElementsAre(0, 36));
  EXPECT_THAT(Floats(response.output()), ElementsAre(1, 2, 3, 4, 1, -2, 3, -4));
  EXPECT_THAT(MustNormalize("m", input), ElementsAre(1, 2, 3, 4, 1, -2, 3, -4));
  // xhat = 1: dx = (g - mean(g xhat) xhat) / 2 with g = (4, 0, 0, 0).
  const v1::BackwardResponse gradients =
      MustBackward("m", Float32Tensor({1, 4}, {2, 2, 2, 2}), Float32Tensor({1, 4}, {4, 0, 0, 0}));
  EXPECT_THAT(Floats(gradients.grad_input()), ElementsAre(1.5, -0.5, -0.5, -0.5));
  EXPECT_THAT(Floats(gradients.grad_weight()), ElementsAre(4, 0, 0, 0));
  EXPECT_FALSE(gradients.has_grad_bias());
}

// A mean square of 1e-8 is small beside the epsilon of float32 and large beside that of float64.
TEST_F(KindsTest, RmsNormTakesTheEpsilonOfTheDtypeWhereNoneIsSet) {
  MustCreate(RmsNormState("m", {2}));
  EXPECT_NEAR(MustNormalize("m", Float32Tensor({1, 2}, {1e-4F, 1e-4F}))[0],
              1e-4 / std::sqrt(1e-8 + std::ldexp(1.0, -23)), 1e-6);
  v1::NormalizeRequest request;
  request.set_state("m");
  *request.mutable_input() = Float64Tensor({1, 2}, {1e-4, 1e-4});
  v1::NormalizeResponse response;
  ASSERT_TRUE(Normalize(request, &response).ok());
  EXPECT_NEAR(Doubles(response.output())[0], 1 - std::ldexp(1e8, -52) / 2, 1e-13);

  v1::UpdateStateRequest update;
  update.mutable_state()->set_name("m");
  update.mutable_state()->mutable_config()->set_eps(0);
  update.mutable_update_mask()->add_paths("config.eps");
  v1::State state;
  ASSERT_TRUE(Update(update, &state).ok());
  EXPECT_TRUE(state.config().has_eps());
  EXPECT_NEAR(MustNormalize("m", Float32Tensor({1, 2}, {1e-4F, 1e-4F}))[0], 1, 1e-6);
  update.mutable_state()->mutable_config()->clear_eps();
  ASSERT_TRUE(Update(update, &state).ok());
  EXPECT_FALSE(state.config().has_eps()) << "the dtype's again";
}

TEST_F(KindsTest, AnEmptyBatchIsAnsweredByEveryKind) {
  v1::State tracks = InstanceNormState("tracks", 2);
  tracks.mutable_config()->set_track_running_stats(true);
  for (const v1::State& wanted :
       {BatchNormState("batch", 2), LayerNormState("layer", {2, 3}), GroupNormState("group", 2, 2),
        InstanceNormState("instance", 2), tracks, RmsNormState("rms", {2, 3})}) {
    SCOPED_TRACE(wanted.name());
    const v1::State before = MustCreate(wanted);
    const v1::Tensor input = Float32Tensor({0, 2, 3}, {});
    const v1::TrainResponse trained = MustTrain(wanted.name(), input);
    EXPECT_EQ(trained.disposition(), v1::APPLIED);
    EXPECT_THAT(trained.output().shape(), ElementsAre(0, 2, 3));
    EXPECT_EQ(trained.moments().count(), 0);
    EXPECT_THAT(MustNormalize(wanted.name(), input), ElementsAre());
    const v1::BackwardResponse gradients = MustBackward(wanted.name(), input, input);
    EXPECT_THAT(gradients.grad_input().shape(), ElementsAre(0, 2, 3));
    for (const v1::Tensor& gradient : {gradients.grad_weight(), gradients.grad_bias()}) {
      if (gradient.shape().empty()) continue;
      EXPECT_THAT(Floats(gradient), ::testing::Each(0.0F));
    }
    EXPECT_EQ(gradients.has_grad_weight(), before.has_parameters());
    v1::TrainRequest again;
    again.set_state(wanted.name());
    *again.mutable_moments() = trained.moments();
    if (before.has_running_stats()) {
      EXPECT_TRUE(Train(again).ok()) << "what was answered is taken";
    }
    EXPECT_EQ(MustGet(wanted.name()).SerializeAsString(), before.SerializeAsString());
  }
}

// torch.nn.functional: group_norm counts the values of a group in all samples, instance_norm those
// of one channel and sample, layer_norm none.
TEST_F(KindsTest, OneValueInASetIsRefusedWherePyTorchRefusesIt) {
  MustCreate(LayerNormState("layer", {1}));
  MustCreate(RmsNormState("rms", {1}));
  MustCreate(GroupNormState("group", 2, 2));
  MustCreate(InstanceNormState("instance", 2));
  EXPECT_THAT(MustNormalize("layer", Float32Tensor({1, 1}, {5})), ElementsAre(0));
  EXPECT_NEAR(MustNormalize("rms", Float32Tensor({1, 1}, {5}))[0], 1, 1e-6);
  EXPECT_THAT(MustNormalize("group", Float32Tensor({2, 2}, {1, 2, 3, 4})), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(Floats(MustTrain("group", Float32Tensor({2, 2}, {1, 2, 3, 4})).output()),
              ElementsAre(0, 0, 0, 0));
  struct Case {
    std::string state;
    v1::Tensor input;
    std::string text;
  };
  for (const Case& c : std::vector<Case>{
           {"group", Float32Tensor({1, 2}, {1, 2}), "Expected more than 1 value per channel"},
           {"instance", Float32Tensor({2, 2, 1}, {1, 2, 3, 4}),
            "Expected more than 1 spatial element"}}) {
    SCOPED_TRACE(c.state);
    v1::TrainRequest train;
    train.set_state(c.state);
    *train.mutable_input() = c.input;
    v1::NormalizeRequest normalize;
    normalize.set_state(c.state);
    *normalize.mutable_input() = c.input;
    v1::BackwardRequest backward;
    backward.set_state(c.state);
    *backward.mutable_input() = c.input;
    *backward.mutable_grad_output() = c.input;
    for (const grpc::Status& status : {Train(train), Normalize(normalize), Backward(backward)}) {
      const WireError error = ErrorOf(status);
      EXPECT_EQ(error.reason, "ONE_VALUE_PER_CHANNEL") << error;
      EXPECT_THAT(error.message, ::testing::HasSubstr(c.text));
    }
  }
}

// 16 bytes of moments for every value of 4: the answer would be five times as long as the request.
TEST_F(KindsTest, MomentsThatNoMessageHoldsAreRefusedAndTheOutputAloneIsNot) {
  ServerOptions options = InMemory();
  options.message_bytes_max = 64 << 10;
  StartServer(options);
  v1::State state;
  state.set_name("m");
  state.mutable_config()->set_kind(v1::NormConfig::LAYER_NORM);
  state.mutable_config()->add_normalized_shape(1);
  MustCreate(state);
  constexpr int64_t kRows = 10000;
  v1::TrainRequest request;
  request.set_state("m");
  *request.mutable_input() = Float32Tensor({kRows, 1}, std::vector<float>(kRows, 2));
  request.set_return_output(true);
  request.set_return_moments(true);
  v1::TrainResponse response;
  const WireError error = ErrorOf(Train(request, &response));
  EXPECT_EQ(error.reason, "MESSAGE_TOO_LARGE") << error;
  EXPECT_THAT(error.message, ::testing::HasSubstr("40000 bytes of output and 160000 of moments "
                                                  "(10000 sets), expected at most 65536"));
  request.set_return_moments(false);
  ASSERT_TRUE(Train(request, &response).ok());
  EXPECT_THAT(Floats(response.output()), ::testing::Each(0));
}

}  // namespace
}  // namespace normd::testing
