// Backward and StreamBackward: modes, saved moments, what is left out, and the step with `apply`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

using ::testing::ElementsAre;

constexpr float kNanFloat = std::numeric_limits<float>::quiet_NaN();

// A batch norm of one feature, eps 0, weight 2, that learns by SGD with learning rate 0.5.
v1::State Learner(const std::string& name) {
  v1::State state = BatchNormState(name, 1);
  state.mutable_config()->set_eps(0);
  *state.mutable_config()->mutable_optimizer() = Sgd(0.5);
  *state.mutable_parameters()->mutable_weight() = Float32Tensor({1}, {2});
  return state;
}

// Input (1, 1, 3, 3) and gradient (1, 0, 0, 0): grad_input (1, -1, 0, 0) by weight 2, grad_weight
// -1, grad_bias 1.
v1::BackwardRequest KnownBackward(const std::string& state) {
  v1::BackwardRequest request;
  request.set_state(state);
  *request.mutable_input() = Float32Tensor({4, 1}, {1, 1, 3, 3});
  *request.mutable_grad_output() = Float32Tensor({4, 1}, {1, 0, 0, 0});
  return request;
}

class BackwardTest : public ServerTest {
 protected:
  void SetUp() override { StartServer(InMemory()); }

  v1::BackwardResponse MustBackward(const v1::BackwardRequest& request) {
    v1::BackwardResponse response;
    const grpc::Status status = Backward(request, &response);
    EXPECT_TRUE(status.ok()) << ErrorOf(status);
    return response;
  }

  float WeightOf(const std::string& state) {
    return Floats(MustGet(state).parameters().weight())[0];
  }
  float BiasOf(const std::string& state) { return Floats(MustGet(state).parameters().bias())[0]; }
};

TEST_F(BackwardTest, ReturnsTheGradientsAndChangesNothing) {
  const v1::State before = MustCreate(Learner("m"));
  v1::BackwardRequest request = KnownBackward("m");
  request.set_sequence(-7);
  const v1::BackwardResponse response = MustBackward(request);
  EXPECT_EQ(response.sequence(), -7) << "any number without apply";
  EXPECT_THAT(Floats(response.grad_input()), ElementsAre(1, -1, 0, 0));
  EXPECT_THAT(Floats(response.grad_weight()), ElementsAre(-1));
  EXPECT_THAT(Floats(response.grad_bias()), ElementsAre(1));
  EXPECT_EQ(response.disposition(), v1::DISPOSITION_UNSPECIFIED);
  EXPECT_EQ(response.revision(), 1);
  EXPECT_EQ(response.optimizer_step(), 0);
  EXPECT_FALSE(response.has_error());
  EXPECT_EQ(MustGet("m").SerializeAsString(), before.SerializeAsString());
}

TEST_F(BackwardTest, AFrozenStateGivesGradients) {
  MustCreate(Learner("m"));
  ASSERT_TRUE(Freeze("m").ok());
  EXPECT_THAT(Floats(MustBackward(KnownBackward("m")).grad_weight()), ElementsAre(-1));
}

TEST_F(BackwardTest, TheModeChoosesTheStatistics) {
  v1::State wanted = Learner("m");
  *wanted.mutable_running_stats()->mutable_running_var() = Float32Tensor({1}, {4});
  MustCreate(wanted);
  wanted = Learner("untracked");
  wanted.mutable_config()->set_track_running_stats(false);
  MustCreate(wanted);
  v1::BackwardRequest request = KnownBackward("m");
  EXPECT_THAT(Floats(MustBackward(request).grad_input()), ElementsAre(1, -1, 0, 0));
  request.set_mode(v1::BackwardRequest::TRAIN);
  EXPECT_THAT(Floats(MustBackward(request).grad_input()), ElementsAre(1, -1, 0, 0));
  request.set_mode(v1::BackwardRequest::EVAL);
  EXPECT_THAT(Floats(MustBackward(request).grad_input()), ElementsAre(1, 0, 0, 0));
  request.set_state("untracked");
  EXPECT_THAT(Floats(MustBackward(request).grad_input()), ElementsAre(1, -1, 0, 0));
}

TEST_F(BackwardTest, OneValueIsEnoughInEvalMode) {
  MustCreate(Learner("m"));
  v1::BackwardRequest request = KnownBackward("m");
  *request.mutable_input() = Float32Tensor({1, 1}, {5});
  *request.mutable_grad_output() = Float32Tensor({1, 1}, {3});
  request.set_mode(v1::BackwardRequest::EVAL);
  EXPECT_THAT(Floats(MustBackward(request).grad_input()), ElementsAre(6));
}

TEST_F(BackwardTest, UsesTheSavedMoments) {
  MustCreate(Learner("m"));
  v1::TrainRequest train;
  train.set_state("m");
  *train.mutable_input() = KnownBackward("m").input();
  train.set_return_moments(true);
  v1::TrainResponse trained;
  ASSERT_TRUE(Train(train, &trained).ok());
  const v1::BackwardResponse computed = MustBackward(KnownBackward("m"));
  v1::BackwardRequest request = KnownBackward("m");
  *request.mutable_moments() = trained.moments();
  EXPECT_EQ(MustBackward(request).SerializeAsString(), computed.SerializeAsString());
  // They are taken at their word: mean 1 and variance 4 instead of 2 and 1.
  *request.mutable_moments() = MakeMoments(4, {1}, {16});
  request.mutable_grad_output()->CopyFrom(Float32Tensor({4, 1}, {0, 0, 1, 0}));
  EXPECT_THAT(Floats(MustBackward(request).grad_weight()), ElementsAre(1));
}

TEST_F(BackwardTest, LeavesOutWhatIsNotWantedOrNotThere) {
  MustCreate(Learner("m"));
  v1::BackwardRequest request = KnownBackward("m");
  request.set_omit_grad_input(true);
  v1::BackwardResponse response = MustBackward(request);
  EXPECT_FALSE(response.has_grad_input());
  EXPECT_THAT(Floats(response.grad_weight()), ElementsAre(-1));
  v1::State bare = BatchNormState("bare", 1);
  bare.mutable_config()->set_affine(false);
  bare.mutable_config()->set_eps(0);
  MustCreate(bare);
  response = MustBackward(KnownBackward("bare"));
  EXPECT_THAT(Floats(response.grad_input()), ElementsAre(0.5, -0.5, 0, 0));
  EXPECT_FALSE(response.has_grad_weight());
  EXPECT_FALSE(response.has_grad_bias());
}

// torch gives 0 for the output of such a batch, and no infinity for its gradient.
TEST_F(BackwardTest, AChannelWithoutVarianceUnderEpsZeroDividesByNothing) {
  MustCreate(Learner("m"));
  v1::BackwardRequest request = KnownBackward("m");
  *request.mutable_input() = Float32Tensor({4, 1}, {3, 3, 3, 3});
  const v1::BackwardResponse response = MustBackward(request);
  EXPECT_THAT(Floats(response.grad_input()), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(Floats(response.grad_weight()), ElementsAre(0));
  EXPECT_THAT(Floats(response.grad_bias()), ElementsAre(1));
}

TEST_F(BackwardTest, AGradientThatIsNotFiniteFlowsThroughWithoutApply) {
  MustCreate(Learner("m"));
  v1::BackwardRequest request = KnownBackward("m");
  *request.mutable_grad_output() = Float32Tensor({4, 1}, {1, kNanFloat, 0, 0});
  const v1::BackwardResponse response = MustBackward(request);
  EXPECT_TRUE(std::isnan(Floats(response.grad_weight())[0]));
  EXPECT_TRUE(std::isnan(Floats(response.grad_input())[1]));
}

TEST_F(BackwardTest, ApplyStepsTheParametersByTheGradientsOfThoseBefore) {
  const v1::State before = MustCreate(Learner("m"));
  v1::BackwardRequest request = KnownBackward("m");
  request.set_apply(true);
  const v1::BackwardResponse response = MustBackward(request);
  EXPECT_EQ(response.disposition(), v1::APPLIED);
  EXPECT_EQ(response.revision(), 2);
  EXPECT_EQ(response.optimizer_step(), 1);
  EXPECT_EQ(response.durable_sequence(), 0) << "without a producer nothing is remembered";
  EXPECT_THAT(Floats(response.grad_input()), ElementsAre(1, -1, 0, 0)) << "by weight 2";
  const v1::State after = MustGet("m");
  EXPECT_THAT(Floats(after.parameters().weight()), ElementsAre(2.5));
  EXPECT_THAT(Floats(after.parameters().bias()), ElementsAre(-0.5));
  EXPECT_EQ(after.optimizer_step(), 1);
  EXPECT_EQ(after.revision(), 2);
  EXPECT_NE(after.etag(), before.etag()) << "parameters are what users set";
  EXPECT_EQ(after.running_stats().SerializeAsString(), before.running_stats().SerializeAsString());
  EXPECT_THAT(Floats(MustBackward(KnownBackward("m")).grad_input()),
              ElementsAre(1.25, -1.25, 0, 0));
}

TEST_F(BackwardTest, ApplyIsTheSameAsApplyGradients) {
  MustCreate(Learner("both"));
  MustCreate(Learner("two"));
  v1::BackwardRequest request = KnownBackward("both");
  request.set_apply(true);
  MustBackward(request);
  const v1::BackwardResponse gradients = MustBackward(KnownBackward("two"));
  v1::ApplyGradientsRequest apply;
  apply.set_state("two");
  *apply.mutable_grad_weight() = gradients.grad_weight();
  *apply.mutable_grad_bias() = gradients.grad_bias();
  const grpc::Status status = ApplyGradients(apply);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(MustGet("two").parameters().SerializeAsString(),
            MustGet("both").parameters().SerializeAsString());
}

TEST_F(BackwardTest, AnEmptyBatchStepsNothingThoughTheMomentumWould) {
  v1::State wanted = Learner("m");
  wanted.mutable_config()->mutable_optimizer()->set_momentum(0.5);
  MustCreate(wanted);
  v1::BackwardRequest request = KnownBackward("m");
  request.set_apply(true);
  request.set_producer_id("p");
  request.set_sequence(1);
  MustBackward(request);
  const v1::State before = MustGet("m");
  *request.mutable_input() = Float32Tensor({0, 1}, {});
  *request.mutable_grad_output() = Float32Tensor({0, 1}, {});
  request.set_sequence(2);
  const v1::BackwardResponse response = MustBackward(request);
  EXPECT_EQ(response.disposition(), v1::APPLIED);
  EXPECT_EQ(response.revision(), 2);
  EXPECT_EQ(response.optimizer_step(), 1);
  EXPECT_EQ(response.durable_sequence(), 1) << "what changes nothing does not move it";
  EXPECT_THAT(response.grad_input().shape(), ElementsAre(0, 1));
  EXPECT_THAT(Floats(response.grad_weight()), ElementsAre(0));
  EXPECT_EQ(MustGet("m").SerializeAsString(), before.SerializeAsString());
  ASSERT_TRUE(Freeze("m").ok());
  EXPECT_EQ(ErrorOf(Backward(request)).reason, "STATE_FROZEN");
}

TEST_F(BackwardTest, ApplyStepsOnceBySequenceAndAfterARestart) {
  StartServer(OnDisk());
  MustCreate(Learner("m"));
  v1::BackwardRequest request = KnownBackward("m");
  request.set_apply(true);
  request.set_producer_id("p");
  request.set_sequence(10);
  const v1::BackwardResponse applied = MustBackward(request);
  EXPECT_EQ(applied.disposition(), v1::APPLIED);
  EXPECT_EQ(applied.revision(), 2);
  EXPECT_EQ(applied.parameters_revision(), 1);
  EXPECT_TRUE(applied.has_grad_input());
  const v1::State before = MustGet("m");
  EXPECT_EQ(before.producer_count(), 1);
  for (int round = 0; round < 2; ++round) {
    SCOPED_TRACE(round);
    for (const int64_t sequence : {10, 9, 1}) {
      request.set_sequence(sequence);
      const v1::BackwardResponse response = MustBackward(request);
      EXPECT_EQ(response.disposition(), v1::DUPLICATE);
      EXPECT_EQ(response.sequence(), sequence);
      EXPECT_EQ(response.revision(), 2);
      EXPECT_EQ(response.optimizer_step(), 1);
      EXPECT_EQ(response.durable_sequence(), 10);
      EXPECT_FALSE(response.has_grad_input()) << "its parameters have moved on";
      EXPECT_FALSE(response.has_grad_weight());
      EXPECT_FALSE(response.has_grad_bias());
      EXPECT_EQ(response.parameters_revision(), 0);
      EXPECT_EQ(MustGet("m").SerializeAsString(), before.SerializeAsString());
    }
    StartServer(OnDisk());
  }
  request.set_sequence(11);
  EXPECT_EQ(MustBackward(request).optimizer_step(), 2);
  EXPECT_EQ(WeightOf("m"), 3);
  EXPECT_EQ(BiasOf("m"), -1);
}

TEST_F(BackwardTest, ARelaxedStepIsTold) {
  StartServer(OnDisk());
  MustCreate(Learner("m"));
  TestContext context;
  const std::unique_ptr<BackwardStream> stream = data_->StreamBackward(&context);
  v1::BackwardRequest request = KnownBackward("m");
  request.set_apply(true);
  request.set_producer_id("p");
  request.set_durability(v1::RELAXED);
  int64_t durable = 0;
  constexpr int64_t kSteps = 100;
  for (int64_t sequence = 1; sequence <= kSteps; ++sequence) {
    request.set_sequence(sequence);
    ASSERT_TRUE(stream->Write(request));
    v1::BackwardResponse response;
    ASSERT_TRUE(stream->Read(&response));
    ASSERT_FALSE(response.has_error()) << ErrorOf(response.error());
    EXPECT_EQ(response.optimizer_step(), sequence);
    EXPECT_GE(response.durable_sequence(), durable);
    EXPECT_LE(response.durable_sequence(), sequence);
    durable = response.durable_sequence();
  }
  request.set_durability(v1::DURABLE);
  ASSERT_TRUE(stream->Write(request));
  v1::BackwardResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.disposition(), v1::DUPLICATE);
  EXPECT_EQ(response.durable_sequence(), kSteps);
  EXPECT_EQ(WeightOf("m"), 2 + 0.5F * kSteps);
}

TEST_F(BackwardTest, UnaryAndStreamGiveTheSame) {
  MustCreate(Learner("unary"));
  MustCreate(Learner("stream"));
  TestContext context;
  const std::unique_ptr<BackwardStream> stream = data_->StreamBackward(&context);
  for (int i = 1; i <= 6; ++i) {
    v1::BackwardRequest request = KnownBackward("unary");
    const auto x = static_cast<float>(i);
    *request.mutable_input() = Float32Tensor({3, 1}, {x, -x, x * x + 1});
    *request.mutable_grad_output() = Float32Tensor({3, 1}, {1, x, -2});
    request.set_mode(i % 2 == 0 ? v1::BackwardRequest::EVAL : v1::BackwardRequest::TRAIN);
    request.set_apply(i % 3 == 0);
    request.set_producer_id("p");
    request.set_sequence(i);
    const v1::BackwardResponse unary = MustBackward(request);
    request.set_state("stream");
    ASSERT_TRUE(stream->Write(request));
    v1::BackwardResponse streamed;
    ASSERT_TRUE(stream->Read(&streamed));
    EXPECT_EQ(streamed.SerializeAsString(), unary.SerializeAsString());
  }
  stream->WritesDone();
  v1::BackwardResponse none;
  EXPECT_FALSE(stream->Read(&none));
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(MustGet("unary").parameters().SerializeAsString(),
            MustGet("stream").parameters().SerializeAsString());
}

// Learns y = 3 x + 2 of normalized x: the whole way of a client that has no parameters of its own.
TEST_F(BackwardTest, LearnsAnAffineMap) {
  v1::State wanted = Learner("m");
  wanted.mutable_config()->mutable_optimizer()->set_lr(0.2);
  MustCreate(wanted);
  const std::vector<float> x = {1, 1, 3, 3};
  double loss = 0;
  for (int step = 1; step <= 60; ++step) {
    v1::TrainRequest train;
    train.set_state("m");
    *train.mutable_input() = Float32Tensor({4, 1}, x);
    train.set_return_output(true);
    train.set_return_moments(true);
    v1::TrainResponse trained;
    ASSERT_TRUE(Train(train, &trained).ok());
    const std::vector<float> y = Floats(trained.output());
    std::vector<float> grad_output;
    loss = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const float error = y[i] - (3 * (x[i] - 2) + 2);
      grad_output.push_back(2 * error / 4);
      loss += error * error / 4;
    }
    v1::BackwardRequest backward;
    backward.set_state("m");
    *backward.mutable_input() = train.input();
    *backward.mutable_grad_output() = Float32Tensor({4, 1}, grad_output);
    *backward.mutable_moments() = trained.moments();
    backward.set_omit_grad_input(true);
    backward.set_apply(true);
    backward.set_producer_id("p");
    backward.set_sequence(step);
    EXPECT_EQ(MustBackward(backward).optimizer_step(), step);
  }
  EXPECT_LT(loss, 1e-10);
  EXPECT_NEAR(WeightOf("m"), 3, 1e-5);
  EXPECT_NEAR(BiasOf("m"), 2, 1e-5);
}

}  // namespace
}  // namespace normd::testing
