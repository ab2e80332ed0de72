// What Backward and StreamBackward refuse: each case has a reason of its own, tells what was
// expected and what came, and changes nothing.
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/server/bad_input.h"
#include "tests/server/server_fixture.h"

namespace normd::testing {
namespace {

using SpoilBackward = std::function<void(v1::BackwardRequest&)>;
using BadBackward = BadInput<SpoilBackward>;

// A batch [4,3] and its gradient for the state "m/bn1".
v1::BackwardRequest GoodBackward() {
  v1::BackwardRequest request;
  request.set_state("m/bn1");
  *request.mutable_input() = Float32Tensor({4, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  *request.mutable_grad_output() = Float32Tensor({4, 3}, {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1});
  return request;
}

SpoilBackward State(const std::string& name) {
  return [name](v1::BackwardRequest& request) { request.set_state(name); };
}

SpoilBackward Apply(const SpoilBackward& spoil) {
  return [spoil](v1::BackwardRequest& request) {
    request.set_apply(true);
    spoil(request);
  };
}

SpoilBackward Gradient(const v1::Tensor& grad_output) {
  return
      [grad_output](v1::BackwardRequest& request) { *request.mutable_grad_output() = grad_output; };
}

SpoilBackward SavedMoments(int64_t count, const std::vector<double>& mean,
                           const std::vector<double>& m2) {
  return [=](v1::BackwardRequest& request) {
    *request.mutable_moments() = MakeMoments(count, mean, m2);
  };
}

v1::Tensor WithNan(size_t index) {
  std::vector<float> values(12, 1.0F);
  values[index] = std::numeric_limits<float>::quiet_NaN();
  return Float32Tensor({4, 3}, values);
}

SpoilBackward Producer(const std::string& id, int64_t sequence) {
  return Apply([=](v1::BackwardRequest& request) {
    request.set_producer_id(id);
    request.set_sequence(sequence);
  });
}

std::vector<BadBackward> BadTensors() {
  const std::vector<float> twelve(12, 1.0F);
  return {
      {"NoInput",
       [](v1::BackwardRequest& request) { request.clear_input(); },
       {kInvalid, "BATCH_MISSING", {"input is not set"}, "input"}},
      {"NoGradient",
       [](v1::BackwardRequest& request) { request.clear_grad_output(); },
       {kInvalid, "GRADIENTS_MISSING", {"grad_output is not set"}, "grad_output"}},
      {"InputOfOtherChannels",
       [=](v1::BackwardRequest& request) {
         *request.mutable_input() = Float32Tensor({3, 4}, twelve);
       },
       {kInvalid,
        "CHANNEL_COUNT_MISMATCH",
        {"state 'm/bn1'", "num_features is 3", "4 channels"},
        "input.shape"}},
      {"GradientOfAnotherShape",
       Gradient(Float32Tensor({2, 3, 2}, twelve)),
       {kInvalid,
        "GRADIENT_SHAPE_MISMATCH",
        {"state 'm/bn1'", "input is FLOAT32 [4,3]", "grad_output is FLOAT32 [2,3,2]"},
        "grad_output"}},
      {"GradientOfMoreSamples",
       Gradient(Float32Tensor({5, 3}, std::vector<float>(15, 1.0F))),
       {kInvalid, "GRADIENT_SHAPE_MISMATCH", {"[4,3]", "[5,3]"}, "grad_output"}},
      {"GradientOfAnotherDtype",
       Gradient(Float64Tensor({4, 3}, std::vector<double>(12, 1.0))),
       {kInvalid,
        "GRADIENT_SHAPE_MISMATCH",
        {"input is FLOAT32 [4,3]", "grad_output is FLOAT64 [4,3]"},
        "grad_output"}},
      {"GradientOfAnotherLayout",
       Gradient(Float32Tensor({4, 3}, twelve, v1::CHANNELS_LAST)),
       {kInvalid,
        "GRADIENT_SHAPE_MISMATCH",
        {"[4,3] CHANNELS_FIRST", "[4,3] CHANNELS_LAST"},
        "grad_output"}},
      {"GradientOfShorterData",
       Gradient(Float32Tensor({4, 3}, {1, 2})),
       {kInvalid, "DATA_LENGTH_MISMATCH", {"grad_output", "[4,3]", "48", "8"}, "data"}},
      {"GradientOfNoDtype",
       Gradient(v1::Tensor()),
       {kInvalid, "DTYPE_UNKNOWN", {"grad_output", "dtype is 0"}, "dtype"}},
      {"NanInTheInput",
       [](v1::BackwardRequest& request) { *request.mutable_input() = WithNan(7); },
       {kInvalid, "NON_FINITE_VALUE", {"nan", "index 7", "finite"}, "input"}},
      {"OneValuePerChannel",
       [](v1::BackwardRequest& request) {
         *request.mutable_input() = Float32Tensor({1, 3}, {1, 2, 3});
         *request.mutable_grad_output() = Float32Tensor({1, 3}, {1, 2, 3});
       },
       {kInvalid, "ONE_VALUE_PER_CHANNEL", {"more than 1", "got 1"}, ""}},
      {"ModeUnknown",
       [](v1::BackwardRequest& request) {
         request.set_mode(static_cast<v1::BackwardRequest::Mode>(3));
       },
       {kInvalid, "MODE_UNKNOWN", {"mode is 3", "TRAIN (1)", "EVAL (2)"}, "mode"}},
      {"ModeNegative",
       [](v1::BackwardRequest& request) {
         request.set_mode(static_cast<v1::BackwardRequest::Mode>(-1));
       },
       {kInvalid, "MODE_UNKNOWN", {"mode is -1"}, "mode"}},
  };
}

std::vector<BadBackward> BadMoments() {
  return {
      {"CountOfAnotherBatch",
       SavedMoments(5, {1, 2, 3}, {1, 1, 1}),
       {kInvalid,
        "MOMENTS_LENGTH_MISMATCH",
        {"values per set are 4", "moments.count is 5"},
        "moments.count"}},
      {"CountNegative",
       SavedMoments(-4, {1, 2, 3}, {1, 1, 1}),
       {kInvalid, "MOMENTS_COUNT_NEGATIVE", {"count is -4", ">= 0"}, "moments.count"}},
      {"MeansOfAnotherBatch",
       SavedMoments(4, {1, 2}, {1, 1, 1}),
       {kInvalid, "MOMENTS_LENGTH_MISMATCH", {"sets are 3", "moments.mean has 2"}, "moments.mean"}},
      {"M2OfAnotherBatch",
       SavedMoments(4, {1, 2, 3}, {1, 1, 1, 1}),
       {kInvalid, "MOMENTS_LENGTH_MISMATCH", {"sets are 3", "moments.m2 has 4"}, "moments.m2"}},
      {"EmptyMoments",
       [](v1::BackwardRequest& request) { request.mutable_moments(); },
       {kInvalid, "MOMENTS_LENGTH_MISMATCH", {"moments.count is 0"}, "moments.count"}},
      {"M2Negative",
       SavedMoments(4, {1, 2, 3}, {1, 1, -0.5}),
       {kInvalid, "MOMENTS_M2_NEGATIVE", {"-0.5", "set 2", ">= 0"}, "moments.m2"}},
      {"MeanNan",
       SavedMoments(4, {1, kNan, 3}, {1, 1, 1}),
       {kInvalid, "NON_FINITE_VALUE", {"set 1", "nan", "|mean| <= 1e150"}, "moments"}},
      {"M2Infinite",
       SavedMoments(4, {1, 2, 3}, {kInfinity, 1, 1}),
       {kInvalid, "NON_FINITE_VALUE", {"set 0", "inf", "m2 / count <= 1e300"}, "moments"}},
      {"MeanBeyondWhatStatisticsTake",
       SavedMoments(4, {1, 1.01e150, 3}, {1, 1, 1}),
       {kInvalid, "NON_FINITE_VALUE", {"set 1", "|mean| <= 1e150"}, "moments"}},
  };
}

std::vector<BadBackward> BadSteps() {
  constexpr auto kPrecondition = grpc::StatusCode::FAILED_PRECONDITION;
  return {
      {"UnknownState",
       State("m/none"),
       {grpc::StatusCode::NOT_FOUND, "STATE_NOT_FOUND", {"state 'm/none' does not exist"}, ""}},
      {"BadName", State("m//bn1"), {kInvalid, "STATE_NAME_INVALID", {"empty"}, "name"}},
      {"FrozenState",
       Apply(State("m/frozen")),
       {kPrecondition, "STATE_FROZEN", {"state 'm/frozen'", "frozen", "unfrozen"}, ""}},
      {"StateWithoutAnOptimizer",
       Apply(State("m/fixed")),
       {kPrecondition, "OPTIMIZER_ABSENT", {"state 'm/fixed'", "no optimizer"}, ""}},
      {"StateWithoutAffine",
       Apply(State("m/bare")),
       {kPrecondition, "PARAMETERS_ABSENT", {"state 'm/bare'", "affine is false"}, ""}},
      {"NanInTheGradient",
       Apply(Gradient(WithNan(1))),
       {kInvalid,
        "NON_FINITE_VALUE",
        {"grad_weight is nan", "channel 1", "finite"},
        "grad_weight"}},
      {"SequenceZero",
       Producer("p", 0),
       {kInvalid, "SEQUENCE_INVALID", {"sequence is 0", ">= 1"}, "sequence"}},
      {"ProducerIdTooLong",
       Producer(std::string(129, 'p'), 1),
       {kInvalid, "PRODUCER_ID_INVALID", {"129", "128"}, "producer_id"}},
      {"DurabilityUnknown",
       Apply([](v1::BackwardRequest& request) {
         request.set_durability(static_cast<v1::Durability>(5));
       }),
       {kInvalid, "DURABILITY_UNKNOWN", {"durability is 5", "DURABLE (1)"}, "durability"}},
  };
}

// A server with "m/bn1", which learns, "m/frozen", which may not, "m/fixed", which has no
// optimizer, and "m/bare", which has nothing to learn; all of 3 features.
class BadBackwardTest : public ServerTest, public ::testing::WithParamInterface<BadBackward> {
 protected:
  void SetUp() override {
    StartServer(InMemory());
    v1::State learner = BatchNormState("m/bn1", 3);
    *learner.mutable_config()->mutable_optimizer() = Sgd(0.5);
    MustCreate(learner);
    learner.set_name("m/frozen");
    MustCreate(learner);
    ASSERT_TRUE(Freeze("m/frozen").ok());
    MustCreate("m/fixed", 3);
    v1::State bare = BatchNormState("m/bare", 3);
    bare.mutable_config()->set_affine(false);
    MustCreate(bare);
  }
};

TEST_P(BadBackwardTest, BackwardRefusesItAndChangesNothing) {
  const std::string before = Everything();
  v1::BackwardRequest request = GoodBackward();
  GetParam().spoil(request);
  ExpectRefusal(ErrorOf(Backward(request)), GetParam().refusal);
  EXPECT_EQ(Everything(), before);
}

TEST_P(BadBackwardTest, StreamBackwardAnswersInPlaceAndLivesOn) {
  TestContext context;
  const std::unique_ptr<BackwardStream> stream = data_->StreamBackward(&context);
  v1::BackwardRequest bad = GoodBackward();
  bad.set_sequence(55);
  GetParam().spoil(bad);
  v1::BackwardRequest good = GoodBackward();
  good.set_apply(true);
  for (int round = 1; round <= 2; ++round) {
    const std::string before = Everything();
    ASSERT_TRUE(stream->Write(bad));
    v1::BackwardResponse response;
    ASSERT_TRUE(stream->Read(&response));
    ExpectRefusal(ErrorOf(response.error()), GetParam().refusal);
    EXPECT_EQ(response.sequence(), bad.sequence());
    response.clear_error();
    response.clear_sequence();
    EXPECT_EQ(response.ByteSizeLong(), 0) << "only the sequence stands beside an error";
    EXPECT_EQ(Everything(), before);

    ASSERT_TRUE(stream->Write(good));
    response.Clear();
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_FALSE(response.has_error()) << ErrorOf(response.error());
    EXPECT_EQ(response.optimizer_step(), round);
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

INSTANTIATE_TEST_SUITE_P(Tensors, BadBackwardTest, ::testing::ValuesIn(BadTensors()),
                         CaseName<SpoilBackward>);
INSTANTIATE_TEST_SUITE_P(Moments, BadBackwardTest, ::testing::ValuesIn(BadMoments()),
                         CaseName<SpoilBackward>);
INSTANTIATE_TEST_SUITE_P(Steps, BadBackwardTest, ::testing::ValuesIn(BadSteps()),
                         CaseName<SpoilBackward>);

}  // namespace
}  // namespace normd::testing
