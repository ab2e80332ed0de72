// ApplyGradients, and the optimizer in a state's config: steps, exactly-once, learning rate.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

using ::testing::ElementsAre;

v1::Optimizer Adam(v1::Optimizer::Algorithm algorithm, double lr) {
  v1::Optimizer optimizer;
  optimizer.set_algorithm(algorithm);
  optimizer.set_lr(lr);
  return optimizer;
}

// A batch norm of one feature, weight 1 and bias 0 in FLOAT64.
v1::State Learner(const std::string& name, const v1::Optimizer& optimizer) {
  v1::State state = BatchNormState(name, 1);
  state.mutable_config()->set_parameter_dtype(v1::FLOAT64);
  *state.mutable_config()->mutable_optimizer() = optimizer;
  return state;
}

v1::ApplyGradientsRequest GradWeight(const std::string& state, double value) {
  v1::ApplyGradientsRequest request;
  request.set_state(state);
  *request.mutable_grad_weight() = Float64Tensor({1}, {value});
  return request;
}

class LearningTest : public ServerTest {
 protected:
  void SetUp() override { StartServer(InMemory()); }

  v1::ApplyGradientsResponse MustApply(const v1::ApplyGradientsRequest& request) {
    v1::ApplyGradientsResponse response;
    const grpc::Status status = ApplyGradients(request, &response);
    EXPECT_TRUE(status.ok()) << ErrorOf(status);
    return response;
  }

  double WeightOf(const std::string& state) {
    return Doubles(MustGet(state).parameters().weight())[0];
  }

  // Updates what `paths` name from `optimizer`.
  grpc::Status UpdateOptimizer(const std::string& state, const std::string& path,
                               const v1::Optimizer* optimizer, v1::State* updated = nullptr) {
    v1::UpdateStateRequest request;
    request.mutable_state()->set_name(state);
    if (optimizer != nullptr) {
      *request.mutable_state()->mutable_config()->mutable_optimizer() = *optimizer;
    }
    request.mutable_update_mask()->add_paths(path);
    return Update(request, updated);
  }
};

TEST_F(LearningTest, StepsWeightAndBias) {
  const v1::State before = MustCreate(Learner("m", Sgd(0.5)));
  v1::ApplyGradientsRequest request = GradWeight("m", 3);
  *request.mutable_grad_bias() = Float32Tensor({1}, {-2});
  request.set_sequence(8);
  const v1::ApplyGradientsResponse response = MustApply(request);
  EXPECT_EQ(response.sequence(), 8);
  EXPECT_EQ(response.disposition(), v1::APPLIED);
  EXPECT_EQ(response.revision(), 2);
  EXPECT_EQ(response.optimizer_step(), 1);
  EXPECT_EQ(response.durable_sequence(), 0) << "without a producer nothing is remembered";
  const v1::State after = MustGet("m");
  EXPECT_THAT(Doubles(after.parameters().weight()), ElementsAre(-0.5));
  EXPECT_THAT(Doubles(after.parameters().bias()), ElementsAre(1));
  EXPECT_EQ(after.optimizer_step(), 1);
  EXPECT_EQ(after.revision(), 2);
  EXPECT_NE(after.etag(), before.etag()) << "parameters are what users set";
  EXPECT_EQ(after.running_stats().SerializeAsString(), before.running_stats().SerializeAsString());
}

TEST_F(LearningTest, AParameterWithoutAGradientTakesNoPart) {
  v1::Optimizer decaying = Sgd(0.5);
  decaying.set_weight_decay(1);
  v1::State wanted = Learner("m", decaying);
  *wanted.mutable_parameters()->mutable_bias() = Float64Tensor({1}, {8});
  MustCreate(wanted);
  MustApply(GradWeight("m", 1));
  const v1::State after = MustGet("m");
  EXPECT_THAT(Doubles(after.parameters().weight()), ElementsAre(0));
  EXPECT_THAT(Doubles(after.parameters().bias()), ElementsAre(8)) << "nor does it decay";
}

// torch.optim in float64: first steps, which need no table.
TEST_F(LearningTest, TakesTheFirstStepsOfEachAlgorithm) {
  v1::Optimizer momentum = Sgd(0.5);
  momentum.set_momentum(0.5);
  v1::Optimizer nesterov = momentum;
  nesterov.set_nesterov(true);
  v1::Optimizer climbing = Sgd(0.5);
  climbing.set_maximize(true);
  struct Case {
    std::string name;
    v1::Optimizer optimizer;
    std::vector<double> weights;  // after a step by 2 each
  };
  const double adam = 0.1 * 2 / (2 + 1e-8);
  for (const Case& c :
       std::vector<Case>{{"sgd", Sgd(0.5), {0, -1}},
                         // The buffer is 2, then 3.
                         {"momentum", momentum, {0, -1.5}},
                         // By gradient plus half the buffer: 3, then 3.5.
                         {"nesterov", nesterov, {-0.5, -2.25}},
                         {"climbing", climbing, {2, 3}},
                         {"adam", Adam(v1::Optimizer::ADAM, 0.1), {1 - adam, 1 - 2 * adam}},
                         // Decays by 0.01 unless told otherwise.
                         {"adamw",
                          Adam(v1::Optimizer::ADAMW, 0.1),
                          {0.999 - adam, (0.999 - adam) * 0.999 - adam}}}) {
    SCOPED_TRACE(c.name);
    MustCreate(Learner(c.name, c.optimizer));
    for (const double weight : c.weights) {
      MustApply(GradWeight(c.name, 2));
      EXPECT_NEAR(WeightOf(c.name), weight, 1e-12);
    }
    EXPECT_EQ(MustGet(c.name).optimizer_step(), 2);
  }
}

TEST_F(LearningTest, TheOptimizerIsReadBackWithItsDefaults) {
  v1::Optimizer wanted;
  wanted.set_algorithm(v1::Optimizer::ADAMW);
  v1::Optimizer optimizer = MustCreate(Learner("adamw", wanted)).config().optimizer();
  EXPECT_EQ(optimizer.algorithm(), v1::Optimizer::ADAMW);
  EXPECT_EQ(optimizer.lr(), 1e-3);
  EXPECT_EQ(optimizer.weight_decay(), 1e-2);
  EXPECT_EQ(optimizer.beta1(), 0.9);
  EXPECT_EQ(optimizer.beta2(), 0.999);
  EXPECT_EQ(optimizer.eps(), 1e-8);
  EXPECT_FALSE(optimizer.amsgrad());
  EXPECT_FALSE(optimizer.maximize());
  EXPECT_FALSE(optimizer.has_momentum()) << "not a field of ADAMW";
  wanted.set_algorithm(v1::Optimizer::ADAM);
  EXPECT_EQ(MustCreate(Learner("adam", wanted)).config().optimizer().weight_decay(), 0);
  optimizer = MustCreate(Learner("sgd", Sgd(0.25))).config().optimizer();
  EXPECT_EQ(optimizer.lr(), 0.25);
  EXPECT_EQ(optimizer.momentum(), 0);
  EXPECT_EQ(optimizer.dampening(), 0);
  EXPECT_FALSE(optimizer.nesterov());
  EXPECT_EQ(optimizer.weight_decay(), 0);
  EXPECT_FALSE(optimizer.has_beta1()) << "not a field of SGD";
}

TEST_F(LearningTest, StepsOnceBySequenceAndAfterARestart) {
  StartServer(OnDisk());
  v1::Optimizer momentum = Sgd(0.5);
  momentum.set_momentum(0.5);
  MustCreate(Learner("m", momentum));
  v1::ApplyGradientsRequest request = GradWeight("m", 2);
  request.set_producer_id("p");
  request.set_sequence(10);
  EXPECT_EQ(MustApply(request).durable_sequence(), 10);
  const v1::State before = MustGet("m");
  for (int round = 0; round < 2; ++round) {
    SCOPED_TRACE(round);
    for (const int64_t sequence : {10, 9, 1}) {
      request.set_sequence(sequence);
      const v1::ApplyGradientsResponse response = MustApply(request);
      EXPECT_EQ(response.disposition(), v1::DUPLICATE);
      EXPECT_EQ(response.sequence(), sequence);
      EXPECT_EQ(response.revision(), 2);
      EXPECT_EQ(response.optimizer_step(), 1);
      EXPECT_EQ(response.durable_sequence(), 10);
      EXPECT_EQ(MustGet("m").SerializeAsString(), before.SerializeAsString());
    }
    StartServer(OnDisk());
  }
  request.set_sequence(std::numeric_limits<int64_t>::max());
  const v1::ApplyGradientsResponse response = MustApply(request);
  EXPECT_EQ(response.disposition(), v1::APPLIED) << "gaps are fine";
  EXPECT_EQ(response.optimizer_step(), 2);
  EXPECT_EQ(WeightOf("m"), -1.5) << "the momentum was kept over the restart";
}

TEST_F(LearningTest, BatchesAndGradientsOfAProducerShareOneNumbering) {
  MustCreate(Learner("m", Sgd(0.5)));
  v1::TrainRequest train = PairBatch("m", 0, 2);
  train.set_producer_id("p");
  train.set_sequence(5);
  ASSERT_TRUE(Train(train).ok());
  v1::ApplyGradientsRequest apply = GradWeight("m", 2);
  apply.set_producer_id("p");
  apply.set_sequence(5);
  EXPECT_EQ(MustApply(apply).disposition(), v1::DUPLICATE);
  apply.set_sequence(6);
  EXPECT_EQ(MustApply(apply).disposition(), v1::APPLIED);
  train.set_sequence(6);
  v1::TrainResponse trained;
  ASSERT_TRUE(Train(train, &trained).ok());
  EXPECT_EQ(trained.disposition(), v1::DUPLICATE);
  apply.set_producer_id("q");
  EXPECT_EQ(MustApply(apply).disposition(), v1::APPLIED) << "producers do not know each other";
}

TEST_F(LearningTest, ADuplicateIsNoErrorAfterAFreeze) {
  MustCreate(Learner("m", Sgd(0.5)));
  v1::ApplyGradientsRequest request = GradWeight("m", 2);
  request.set_producer_id("p");
  request.set_sequence(1);
  MustApply(request);
  ASSERT_TRUE(Freeze("m").ok());
  EXPECT_EQ(MustApply(request).disposition(), v1::DUPLICATE);
}

TEST_F(LearningTest, ARelaxedStepIsOnDiskOnceTheNextDurableOneIsAnswered) {
  StartServer(OnDisk());
  MustCreate(Learner("m", Sgd(0.5)));
  v1::ApplyGradientsRequest request = GradWeight("m", 1);
  request.set_producer_id("p");
  request.set_durability(v1::RELAXED);
  for (int64_t sequence = 1; sequence <= 20; ++sequence) {
    request.set_sequence(sequence);
    const v1::ApplyGradientsResponse response = MustApply(request);
    EXPECT_EQ(response.optimizer_step(), sequence);
    EXPECT_LE(response.durable_sequence(), sequence);
  }
  request.set_durability(v1::DURABLE);
  const v1::ApplyGradientsResponse response = MustApply(request);
  EXPECT_EQ(response.disposition(), v1::DUPLICATE);
  EXPECT_EQ(response.durable_sequence(), 20);
  StartServer(OnDisk());
  EXPECT_EQ(WeightOf("m"), 1 - 0.5 * 20);
}

TEST_F(LearningTest, TheLearningRateCanBeChangedAndTheSlotsStay) {
  v1::Optimizer momentum = Sgd(0.5);
  momentum.set_momentum(0.5);
  const v1::State before = MustCreate(Learner("m", momentum));
  MustApply(GradWeight("m", 2));
  v1::Optimizer faster;
  faster.set_lr(1);
  faster.set_momentum(0.9);
  v1::State updated;
  grpc::Status status = UpdateOptimizer("m", "config.optimizer.lr", &faster, &updated);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(updated.config().optimizer().lr(), 1);
  EXPECT_EQ(updated.config().optimizer().momentum(), 0.5) << "only what the mask names";
  EXPECT_EQ(updated.optimizer_step(), 1);
  EXPECT_NE(updated.etag(), before.etag());
  MustApply(GradWeight("m", 2));
  EXPECT_EQ(WeightOf("m"), -3) << "by a buffer of 0.5 * 2 + 2";

  // The whole optimizer, of the same algorithm: the slots stay too.
  faster = Sgd(0);
  faster.set_momentum(1);
  ASSERT_TRUE(UpdateOptimizer("m", "config.optimizer", &faster, &updated).ok());
  EXPECT_EQ(updated.optimizer_step(), 2);
  // Another algorithm begins anew, and none refuses gradients.
  const v1::Optimizer adam = Adam(v1::Optimizer::ADAM, 0.1);
  status = UpdateOptimizer("m", "config.optimizer", &adam, &updated);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(updated.config().optimizer().algorithm(), v1::Optimizer::ADAM);
  EXPECT_EQ(updated.optimizer_step(), 0);
  ASSERT_TRUE(UpdateOptimizer("m", "config.optimizer", nullptr, &updated).ok());
  EXPECT_FALSE(updated.config().has_optimizer());
  EXPECT_EQ(ErrorOf(ApplyGradients(GradWeight("m", 2))).reason, "OPTIMIZER_ABSENT");
}

TEST_F(LearningTest, GradientsOfALayerNormMayHaveItsShapeOrOneAxis) {
  v1::State wanted = LayerNormState("m", {2, 2});
  *wanted.mutable_config()->mutable_optimizer() = Sgd(1);
  MustCreate(wanted);
  v1::ApplyGradientsRequest request;
  request.set_state("m");
  *request.mutable_grad_weight() = Float32Tensor({2, 2}, {1, 2, 3, 4});
  *request.mutable_grad_bias() = Float64Tensor({4}, {1, 0, 0, -1});
  MustApply(request);
  const v1::State state = MustGet("m");
  EXPECT_THAT(Floats(state.parameters().weight()), ElementsAre(0, -1, -2, -3));
  EXPECT_THAT(state.parameters().weight().shape(), ElementsAre(2, 2));
  EXPECT_THAT(Floats(state.parameters().bias()), ElementsAre(-1, 0, 0, 1));
}

TEST_F(LearningTest, TrainingBetweenStepsLeavesParametersAndEtagAlone) {
  MustCreate(Learner("m", Sgd(0.5)));
  MustApply(GradWeight("m", 1));
  const v1::State before = MustGet("m");
  ASSERT_TRUE(Train(PairBatch("m", 0, 2)).ok());
  const v1::State after = MustGet("m");
  EXPECT_EQ(after.etag(), before.etag());
  EXPECT_EQ(after.revision(), before.revision() + 1);
  EXPECT_EQ(after.parameters().SerializeAsString(), before.parameters().SerializeAsString());
  EXPECT_EQ(after.optimizer_step(), 1);
}

TEST_F(LearningTest, WhatIsNotFiniteIsPropagatedWhenToldTo) {
  v1::State wanted = Learner("m", Sgd(0.5));
  wanted.mutable_config()->set_non_finite(v1::NormConfig::PROPAGATE);
  MustCreate(wanted);
  MustApply(GradWeight("m", std::numeric_limits<double>::infinity()));
  EXPECT_EQ(WeightOf("m"), -std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace normd::testing
