// What CreateState refuses; nothing is made.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/server/bad_input.h"
#include "tests/server/server_fixture.h"

namespace normd::testing {
namespace {

using BadCreate = BadInput<std::function<void(v1::State&)>>;

std::function<void(v1::State&)> Config(const std::function<void(v1::NormConfig&)>& spoil) {
  return [spoil](v1::State& state) { spoil(*state.mutable_config()); };
}

std::function<void(v1::State&)> Name(const std::string& name) {
  return [name](v1::State& state) { state.set_name(name); };
}

std::function<void(v1::State&)> NumFeatures(int64_t num_features) {
  return Config([=](v1::NormConfig& config) { config.set_num_features(num_features); });
}

std::function<void(v1::State&)> Eps(double eps) {
  return Config([=](v1::NormConfig& config) { config.set_eps(eps); });
}

std::function<void(v1::State&)> Momentum(double momentum) {
  return Config([=](v1::NormConfig& config) { config.set_momentum(momentum); });
}

std::function<void(v1::State&)> Weight(const v1::Tensor& tensor) {
  return [=](v1::State& state) { *state.mutable_parameters()->mutable_weight() = tensor; };
}

std::function<void(v1::State&)> RunningVar(const v1::Tensor& tensor) {
  return [=](v1::State& state) { *state.mutable_running_stats()->mutable_running_var() = tensor; };
}

std::vector<BadCreate> BadCreates() {
  return {
      {"Duplicate",
       Name("there"),
       {grpc::StatusCode::ALREADY_EXISTS,
        "STATE_ALREADY_EXISTS",
        {"state 'there' exists already"},
        ""}},
      {"EmptyName", Name(""), {kInvalid, "STATE_NAME_INVALID", {"empty", "1 to 255"}, "name"}},
      {"LongName",
       Name(std::string(256, 'n')),
       {kInvalid, "STATE_NAME_INVALID", {"256", "255"}, "name"}},
      {"NameThatBeginsWithASlash", Name("/m"), {kInvalid, "STATE_NAME_INVALID", {"empty"}, "name"}},
      {"NameThatEndsWithASlash", Name("m/"), {kInvalid, "STATE_NAME_INVALID", {"empty"}, "name"}},
      {"NameThatIsADot", Name("."), {kInvalid, "STATE_NAME_INVALID", {"'.'"}, "name"}},
      {"NameInUtf8",
       Name("größe"),
       {kInvalid, "STATE_NAME_INVALID", {"\\xc3", "offset 2"}, "name"}},
      {"NoConfig",
       [](v1::State& state) { state.clear_config(); },
       {kInvalid, "KIND_UNKNOWN", {"kind is 0", "BATCH_NORM (1)"}, "config.kind"}},
      {"KindUnknown",
       Config(
           [](v1::NormConfig& config) { config.set_kind(static_cast<v1::NormConfig::Kind>(6)); }),
       {kInvalid, "KIND_UNKNOWN", {"kind is 6", "BATCH_NORM (1)"}, "config.kind"}},
      {"KindNegative",
       Config(
           [](v1::NormConfig& config) { config.set_kind(static_cast<v1::NormConfig::Kind>(-1)); }),
       {kInvalid, "KIND_UNKNOWN", {"kind is -1", "BATCH_NORM (1)"}, "config.kind"}},
      {"NoFeatures",
       NumFeatures(0),
       {kInvalid,
        "NUM_FEATURES_OUT_OF_RANGE",
        {"num_features is 0", "1 to 1048576"},
        "config.num_features"}},
      {"NegativeFeatures",
       NumFeatures(-1),
       {kInvalid,
        "NUM_FEATURES_OUT_OF_RANGE",
        {"num_features is -1", "1 to 1048576"},
        "config.num_features"}},
      {"OneFeatureTooMany",
       NumFeatures(kNumFeaturesMax + 1),
       {kInvalid,
        "NUM_FEATURES_OUT_OF_RANGE",
        {"num_features is 1048577", "1 to 1048576"},
        "config.num_features"}},
      {"MostFeatures",
       NumFeatures(kInt64Max),
       {kInvalid,
        "NUM_FEATURES_OUT_OF_RANGE",
        {"num_features is 9223372036854775807", "1 to 1048576"},
        "config.num_features"}},
      {"EpsNegative",
       Eps(-1e-5),
       {kInvalid, "EPS_OUT_OF_RANGE", {"eps is -1e-05", ">= 0"}, "config.eps"}},
      {"EpsNan", Eps(kNan), {kInvalid, "EPS_OUT_OF_RANGE", {"nan", "finite"}, "config.eps"}},
      {"EpsInfinite",
       Eps(kInfinity),
       {kInvalid, "EPS_OUT_OF_RANGE", {"inf", "finite"}, "config.eps"}},
      {"MomentumNegative",
       Momentum(-0.1),
       {kInvalid, "MOMENTUM_OUT_OF_RANGE", {"momentum is -0.1", "0 to 1"}, "config.momentum"}},
      {"MomentumAboveOne",
       Momentum(1.5),
       {kInvalid, "MOMENTUM_OUT_OF_RANGE", {"momentum is 1.5", "0 to 1"}, "config.momentum"}},
      {"MomentumNan",
       Momentum(kNan),
       {kInvalid, "MOMENTUM_OUT_OF_RANGE", {"nan", "0 to 1"}, "config.momentum"}},
      {"CorrectionTwo",
       Config([](v1::NormConfig& config) { config.set_running_var_correction(2); }),
       {kInvalid,
        "CORRECTION_OUT_OF_RANGE",
        {"running_var_correction is 2", "0 or 1"},
        "config.running_var_correction"}},
      {"NonFinitePolicyUnknown",
       Config([](v1::NormConfig& config) {
         config.set_non_finite(static_cast<v1::NormConfig::NonFinite>(3));
       }),
       {kInvalid,
        "NON_FINITE_POLICY_UNKNOWN",
        {"non_finite is 3", "REFUSE (1)", "PROPAGATE (2)"},
        "config.non_finite"}},
      {"WeightTooLong",
       Weight(Float32Tensor({3}, {1, 2, 3})),
       {kInvalid, "PARAMETERS_LENGTH_MISMATCH", {"num_features is 2", "weight has 3"}, "weight"}},
      {"WeightOfRankTwo",
       Weight(Float32Tensor({1, 2}, {1, 2})),
       {kInvalid,
        "PARAMETERS_LENGTH_MISMATCH",
        {"weight has shape [1,2]", "expected [2]"},
        "weight"}},
      {"WeightEmpty",
       Weight(Float32Tensor({0}, {})),
       {kInvalid, "PARAMETERS_LENGTH_MISMATCH", {"num_features is 2", "weight has 0"}, "weight"}},
      {"WeightWithInfinity",
       Weight(Float32Tensor({2}, {1, static_cast<float>(kInfinity)})),
       {kInvalid, "NON_FINITE_VALUE", {"weight is inf", "channel 1", "finite"}, "weight"}},
      {"WeightBeyondFloat32",
       Weight(Float64Tensor({2}, {1, 1e300})),
       {kInvalid, "NON_FINITE_VALUE", {"weight", "channel 1", "finite"}, "weight"}},
      {"WeightOfShorterData",
       [](v1::State& state) {
         *state.mutable_parameters()->mutable_weight() = Float32Tensor({2}, {1});
       },
       {kInvalid, "DATA_LENGTH_MISMATCH", {"weight", "[2]", "8", "4"}, "data"}},
      {"WeightInFloat16",
       [](v1::State& state) {
         v1::Tensor& weight = *state.mutable_parameters()->mutable_weight();
         weight = Float32Tensor({2}, {1});
         weight.set_dtype(v1::FLOAT16);
       },
       {grpc::StatusCode::INVALID_ARGUMENT,
        "PARAMETER_DTYPE_INVALID",
        {"FLOAT16", "FLOAT32 or FLOAT64"},
        "weight"}},
      {"WeightWithoutAffine",
       [](v1::State& state) {
         state.mutable_config()->set_affine(false);
         *state.mutable_parameters()->mutable_weight() = Float32Tensor({2}, {1, 2});
       },
       {grpc::StatusCode::FAILED_PRECONDITION,
        "PARAMETERS_ABSENT",
        {"affine is false"},
        "parameters"}},
      {"RunningVarNegative",
       RunningVar(Float64Tensor({2}, {1, -2})),
       {kInvalid,
        "RUNNING_STATS_OUT_OF_RANGE",
        {"running_var is -2", "channel 1", ">= 0"},
        "running_var"}},
      {"RunningVarNan",
       RunningVar(Float64Tensor({2}, {kNan, 1})),
       {kInvalid,
        "NON_FINITE_VALUE",
        {"running_var is nan", "channel 0", "finite"},
        "running_var"}},
      {"RunningVarTooShort",
       RunningVar(Float64Tensor({1}, {1})),
       {kInvalid,
        "PARAMETERS_LENGTH_MISMATCH",
        {"num_features is 2", "running_var has 1"},
        "running_var"}},
      {"NumBatchesTrackedNegative",
       [](v1::State& state) { state.mutable_running_stats()->set_num_batches_tracked(-1); },
       {kInvalid,
        "RUNNING_STATS_OUT_OF_RANGE",
        {"num_batches_tracked is -1", "expected"},
        "running_stats.num_batches_tracked"}},
      {"NumBatchesTrackedThatCannotGrow",
       [](v1::State& state) { state.mutable_running_stats()->set_num_batches_tracked(kInt64Max); },
       {kInvalid,
        "RUNNING_STATS_OUT_OF_RANGE",
        {"num_batches_tracked is 9223372036854775807", "expected"},
        "running_stats.num_batches_tracked"}},
      {"RunningStatsWithoutTracking",
       [](v1::State& state) {
         state.mutable_config()->set_track_running_stats(false);
         state.mutable_running_stats()->set_num_batches_tracked(1);
       },
       {grpc::StatusCode::FAILED_PRECONDITION,
        "RUNNING_STATS_ABSENT",
        {"track_running_stats is false"},
        "running_stats"}},
  };
}

class BadCreateTest : public ServerTest, public ::testing::WithParamInterface<BadCreate> {};

TEST_P(BadCreateTest, IsRefusedAndMakesNothing) {
  StartServer(InMemory());
  const std::string before = MustCreate("there", 2).SerializeAsString();
  v1::State wanted = BatchNormState("new", 2);
  GetParam().spoil(wanted);
  ExpectRefusal(ErrorOf(Create(wanted)), GetParam().refusal);
  v1::ListStatesRequest request;
  request.set_view(v1::FULL);
  v1::ListStatesResponse response;
  ASSERT_TRUE(List(request, &response).ok());
  ASSERT_EQ(response.states_size(), 1);
  EXPECT_EQ(response.states(0).SerializeAsString(), before);
}

INSTANTIATE_TEST_SUITE_P(Cases, BadCreateTest, ::testing::ValuesIn(BadCreates()),
                         CaseName<std::function<void(v1::State&)>>);

}  // namespace
}  // namespace normd::testing
