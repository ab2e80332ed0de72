// What ApplyGradients refuses: each case has a reason of its own, tells what was expected and what
// came, and changes nothing.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/server/bad_input.h"
#include "tests/server/server_fixture.h"

namespace normd::testing {
namespace {

using SpoilGradients = std::function<void(v1::ApplyGradientsRequest&)>;
using BadGradients = BadInput<SpoilGradients>;

// Gradients for the state "m/layer", a layer norm [2,3].
v1::ApplyGradientsRequest GoodGradients() {
  v1::ApplyGradientsRequest request;
  request.set_state("m/layer");
  *request.mutable_grad_weight() = Float32Tensor({2, 3}, {1, 2, 3, 4, 5, 6});
  *request.mutable_grad_bias() = Float32Tensor({6}, {6, 5, 4, 3, 2, 1});
  return request;
}

SpoilGradients State(const std::string& name) {
  return [name](v1::ApplyGradientsRequest& request) {
    request.set_state(name);
    *request.mutable_grad_weight() = Float32Tensor({6}, {1, 2, 3, 4, 5, 6});
  };
}

SpoilGradients Weight(const v1::Tensor& grad_weight) {
  return [grad_weight](v1::ApplyGradientsRequest& request) {
    *request.mutable_grad_weight() = grad_weight;
  };
}

SpoilGradients Producer(const std::string& id, int64_t sequence) {
  return [=](v1::ApplyGradientsRequest& request) {
    request.set_producer_id(id);
    request.set_sequence(sequence);
  };
}

std::vector<BadGradients> AllBadGradients() {
  constexpr auto kPrecondition = grpc::StatusCode::FAILED_PRECONDITION;
  return {
      {"UnknownState",
       State("m/none"),
       {grpc::StatusCode::NOT_FOUND, "STATE_NOT_FOUND", {"state 'm/none' does not exist"}, ""}},
      {"BadName", State("m layer"), {kInvalid, "STATE_NAME_INVALID", {"offset 1"}, "name"}},
      {"FrozenState",
       State("m/frozen"),
       {kPrecondition, "STATE_FROZEN", {"state 'm/frozen'", "frozen", "unfrozen"}, ""}},
      {"StateWithoutAnOptimizer",
       State("m/fixed"),
       {kPrecondition, "OPTIMIZER_ABSENT", {"state 'm/fixed'", "no optimizer"}, ""}},
      {"StateWithoutAffine",
       State("m/bare"),
       {kPrecondition, "PARAMETERS_ABSENT", {"state 'm/bare'", "affine is false"}, ""}},
      {"BiasOfAnRmsNorm",
       State("m/rms"),
       {kPrecondition, "PARAMETERS_ABSENT", {"RMS_NORM", "no bias"}, "bias"}},
      {"NoGradient",
       [](v1::ApplyGradientsRequest& request) {
         request.clear_grad_weight();
         request.clear_grad_bias();
       },
       {kInvalid,
        "GRADIENTS_MISSING",
        {"neither grad_weight nor grad_bias", "expected one or both"},
        "grad_weight"}},
      {"WeightTooShort",
       Weight(Float32Tensor({5}, {1, 2, 3, 4, 5})),
       {kInvalid,
        "PARAMETERS_LENGTH_MISMATCH",
        {"state 'm/layer'", "num_features is 6", "grad_weight has 5"},
        "grad_weight"}},
      {"WeightTransposed",
       Weight(Float32Tensor({3, 2}, {1, 2, 3, 4, 5, 6})),
       {kInvalid,
        "PARAMETERS_LENGTH_MISMATCH",
        {"grad_weight has shape [3,2]", "expected [2,3] or [6]"},
        "grad_weight"}},
      {"BiasTooLong",
       [](v1::ApplyGradientsRequest& request) {
         *request.mutable_grad_bias() = Float64Tensor({7}, {1, 2, 3, 4, 5, 6, 7});
       },
       {kInvalid,
        "PARAMETERS_LENGTH_MISMATCH",
        {"num_features is 6", "grad_bias has 7"},
        "grad_bias"}},
      {"WeightInBfloat16",
       Weight(MakeTensor(v1::BFLOAT16, {6}, {1, 2, 3, 4, 5, 6})),
       {grpc::StatusCode::INVALID_ARGUMENT,
        "PARAMETER_DTYPE_INVALID",
        {"grad_weight", "BFLOAT16", "FLOAT32 or FLOAT64"},
        "grad_weight"}},
      {"WeightInNoDtype",
       Weight(v1::Tensor()),
       {kInvalid, "DTYPE_UNKNOWN", {"grad_weight", "dtype is 0"}, "dtype"}},
      {"WeightOfShorterData",
       Weight(Float32Tensor({6}, {1})),
       {kInvalid, "DATA_LENGTH_MISMATCH", {"grad_weight", "[6]", "24", "4"}, "data"}},
      {"WeightWithNan",
       Weight(Float64Tensor({6}, {1, 2, 3, 4, kNan, 6})),
       {kInvalid,
        "NON_FINITE_VALUE",
        {"grad_weight is nan", "channel 4", "finite"},
        "grad_weight"}},
      {"BiasWithInfinity",
       [](v1::ApplyGradientsRequest& request) {
         *request.mutable_grad_bias() = Float64Tensor({6}, {-kInfinity, 2, 3, 4, 5, 6});
       },
       {kInvalid, "NON_FINITE_VALUE", {"grad_bias is -inf", "channel 0", "finite"}, "grad_bias"}},
      {"StepOutOfFloat32",
       Weight(Float64Tensor({6}, {0, 0, 1e300, 0, 0, 0})),
       {kInvalid,
        "NON_FINITE_VALUE",
        {"grad_weight 1e+300", "channel 2", "expected a finite value"},
        "grad_weight"}},
      {"SequenceZero",
       Producer("p", 0),
       {kInvalid, "SEQUENCE_INVALID", {"sequence is 0", ">= 1"}, "sequence"}},
      {"ProducerIdTooLong",
       Producer(std::string(129, 'p'), 1),
       {kInvalid, "PRODUCER_ID_INVALID", {"129", "128"}, "producer_id"}},
      {"DurabilityUnknown",
       [](v1::ApplyGradientsRequest& request) {
         request.set_durability(static_cast<v1::Durability>(-1));
       },
       {kInvalid, "DURABILITY_UNKNOWN", {"durability is -1", "DURABLE (1)"}, "durability"}},
  };
}

class BadGradientsTest : public ServerTest, public ::testing::WithParamInterface<BadGradients> {
 protected:
  void SetUp() override {
    StartServer(InMemory());
    v1::State learner = LayerNormState("m/layer", {2, 3});
    *learner.mutable_config()->mutable_optimizer() = Sgd(0.5);
    MustCreate(learner);
    learner.set_name("m/frozen");
    MustCreate(learner);
    ASSERT_TRUE(Freeze("m/frozen").ok());
    MustCreate(LayerNormState("m/fixed", {2, 3}));
    v1::State rms = RmsNormState("m/rms", {6});
    *rms.mutable_config()->mutable_optimizer() = Sgd(0.5);
    MustCreate(rms);
    v1::State bare = LayerNormState("m/bare", {2, 3});
    bare.mutable_config()->set_affine(false);
    MustCreate(bare);
  }
};

TEST_P(BadGradientsTest, AreRefusedAndChangeNothing) {
  const std::string before = Everything();
  v1::ApplyGradientsRequest request = GoodGradients();
  GetParam().spoil(request);
  ExpectRefusal(ErrorOf(ApplyGradients(request)), GetParam().refusal);
  EXPECT_EQ(Everything(), before);
  v1::ApplyGradientsResponse response;
  const grpc::Status status = ApplyGradients(GoodGradients(), &response);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(response.optimizer_step(), 1);
}

INSTANTIATE_TEST_SUITE_P(Cases, BadGradientsTest, ::testing::ValuesIn(AllBadGradients()),
                         CaseName<SpoilGradients>);

using StepProducerTest = ServerTest;

TEST_F(StepProducerTest, AStepOfOneProducerTooManyIsRefusedWhole) {
  normd::ServerOptions options = InMemory();
  options.producers_max = 1;
  StartServer(options);
  v1::State learner = LayerNormState("m/layer", {2, 3});
  *learner.mutable_config()->mutable_optimizer() = Sgd(0.5);
  MustCreate(learner);
  v1::ApplyGradientsRequest request = GoodGradients();
  Producer("a", 1)(request);
  ASSERT_TRUE(ApplyGradients(request).ok());
  const std::string before = MustGet("m/layer").SerializeAsString();
  Producer("b", 1)(request);
  const WireError error = ErrorOf(ApplyGradients(request));
  EXPECT_EQ(error.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(error.reason, "PRODUCER_TABLE_FULL") << error;
  EXPECT_EQ(MustGet("m/layer").SerializeAsString(), before);
  Producer("a", 2)(request);
  EXPECT_TRUE(ApplyGradients(request).ok());
}

}  // namespace
}  // namespace normd::testing
