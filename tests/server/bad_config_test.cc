// Configs of the whole family that CreateState refuses; nothing is made.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/server/bad_input.h"
#include "tests/server/server_fixture.h"

namespace normd::testing {
namespace {

using SpoilConfig = std::function<void(v1::NormConfig&)>;

struct KindConfig {
  v1::State state;  // a good one
  SpoilConfig spoil;
};

using BadConfig = BadInput<KindConfig>;

KindConfig Batch(const SpoilConfig& spoil) { return {BatchNormState("new", 4), spoil}; }
KindConfig Layer(const SpoilConfig& spoil) { return {LayerNormState("new", {2, 2}), spoil}; }
KindConfig Group(const SpoilConfig& spoil) { return {GroupNormState("new", 2, 4), spoil}; }
KindConfig Instance(const SpoilConfig& spoil) { return {InstanceNormState("new", 4), spoil}; }
KindConfig Rms(const SpoilConfig& spoil) { return {RmsNormState("new", {4}), spoil}; }

// A batch norm with an optimizer of `algorithm`, lr 0.1, that is spoiled.
KindConfig Learning(v1::Optimizer::Algorithm algorithm,
                    const std::function<void(v1::Optimizer&)>& spoil) {
  return Batch([=](v1::NormConfig& config) {
    config.mutable_optimizer()->set_algorithm(algorithm);
    config.mutable_optimizer()->set_lr(0.1);
    spoil(*config.mutable_optimizer());
  });
}

KindConfig Shape(const std::vector<int64_t>& normalized_shape) {
  return {LayerNormState("new", normalized_shape), [](v1::NormConfig&) {}};
}

std::vector<BadConfig> BadSizes() {
  return {
      {"LayerNormWithoutAShape",
       Shape({}),
       {kInvalid,
        "NORMALIZED_SHAPE_INVALID",
        {"state 'new'", "0 axes", "expected 1 to"},
        "config.normalized_shape"}},
      {"ZeroAxis",
       Shape({2, 0}),
       {kInvalid, "NORMALIZED_SHAPE_INVALID", {"[2,0]", ">= 1"}, "config.normalized_shape"}},
      {"NegativeAxis",
       Shape({-2, -3}),
       {kInvalid, "NORMALIZED_SHAPE_INVALID", {"[-2,-3]", ">= 1"}, "config.normalized_shape"}},
      {"ProductTooLarge",
       Shape({1025, 1024}),
       {kInvalid,
        "NORMALIZED_SHAPE_INVALID",
        {"[1025,1024]", "1048576"},
        "config.normalized_shape"}},
      {"ProductOverflows",
       Shape({int64_t{1} << 32, int64_t{1} << 32}),
       {kInvalid,
        "NORMALIZED_SHAPE_INVALID",
        {"4294967296", "1048576"},
        "config.normalized_shape"}},
      {"TooManyAxes",
       Shape(std::vector<int64_t>(1000, 1)),
       {kInvalid, "NORMALIZED_SHAPE_INVALID", {"1000 axes"}, "config.normalized_shape"}},
      {"NumFeaturesThatIsNotTheProduct",
       Layer([](v1::NormConfig& config) { config.set_num_features(5); }),
       {kInvalid, "NUM_FEATURES_OUT_OF_RANGE", {"num_features is 5", "4"}, "config.num_features"}},
      {"ShapeOfABatchNorm",
       Batch([](v1::NormConfig& config) { config.add_normalized_shape(4); }),
       {kInvalid,
        "FIELD_NOT_APPLICABLE",
        {"normalized_shape is [4]", "BATCH_NORM"},
        "config.normalized_shape"}},
      {"GroupsOfABatchNorm",
       Batch([](v1::NormConfig& config) { config.set_num_groups(2); }),
       {kInvalid, "FIELD_NOT_APPLICABLE", {"num_groups is 2", "BATCH_NORM"}, "config.num_groups"}},
      {"NoGroups",
       Group([](v1::NormConfig& config) { config.clear_num_groups(); }),
       {kInvalid, "NUM_GROUPS_INVALID", {"num_groups is 0", ">= 1"}, "config.num_groups"}},
      {"NegativeGroups",
       Group([](v1::NormConfig& config) { config.set_num_groups(-2); }),
       {kInvalid, "NUM_GROUPS_INVALID", {"num_groups is -2", ">= 1"}, "config.num_groups"}},
      {"GroupsThatDoNotDivide",
       Group([](v1::NormConfig& config) { config.set_num_groups(3); }),
       {kInvalid,
        "NUM_GROUPS_INVALID",
        {"num_groups is 3", "num_features 4"},
        "config.num_groups"}},
      {"NoChannelsOfAGroupNorm",
       Group([](v1::NormConfig& config) { config.clear_num_features(); }),
       {kInvalid, "NUM_FEATURES_OUT_OF_RANGE", {"num_features is 0"}, "config.num_features"}},
  };
}

std::vector<BadConfig> BadFields() {
  return {
      {"TrackingLayerNorm",
       Layer([](v1::NormConfig& config) { config.set_track_running_stats(true); }),
       {kInvalid,
        "FIELD_NOT_APPLICABLE",
        {"track_running_stats", "LAYER_NORM"},
        "config.track_running_stats"}},
      {"TrackingRmsNorm",
       Rms([](v1::NormConfig& config) { config.set_track_running_stats(true); }),
       {kInvalid,
        "FIELD_NOT_APPLICABLE",
        {"track_running_stats", "RMS_NORM"},
        "config.track_running_stats"}},
      {"MomentumOfALayerNorm",
       Layer([](v1::NormConfig& config) { config.set_momentum(0.1); }),
       {kInvalid, "FIELD_NOT_APPLICABLE", {"momentum is set", "LAYER_NORM"}, "config.momentum"}},
      {"CumulativeGroupNorm",
       Group([](v1::NormConfig& config) { config.set_cumulative_average(true); }),
       {kInvalid,
        "FIELD_NOT_APPLICABLE",
        {"cumulative_average is set", "GROUP_NORM"},
        "config.cumulative_average"}},
      {"CumulativeInstanceNorm",
       Instance([](v1::NormConfig& config) { config.set_cumulative_average(true); }),
       {kInvalid,
        "FIELD_NOT_APPLICABLE",
        {"cumulative_average", "INSTANCE_NORM"},
        "config.cumulative_average"}},
      {"CorrectionOfAnRmsNorm",
       Rms([](v1::NormConfig& config) { config.set_running_var_correction(1); }),
       {kInvalid,
        "FIELD_NOT_APPLICABLE",
        {"running_var_correction is set", "RMS_NORM"},
        "config.running_var_correction"}},
      {"ParametersInFloat16",
       Batch([](v1::NormConfig& config) { config.set_parameter_dtype(v1::FLOAT16); }),
       {kInvalid,
        "PARAMETER_DTYPE_INVALID",
        {"parameter_dtype is FLOAT16 (3)", "FLOAT32 (1) or FLOAT64 (2)"},
        "config.parameter_dtype"}},
      {"ParametersInNoDtype",
       Batch([](v1::NormConfig& config) {
         config.set_parameter_dtype(static_cast<v1::DataType>(77));
       }),
       {kInvalid, "PARAMETER_DTYPE_INVALID", {"(77)"}, "config.parameter_dtype"}},
      {"OptimizerWithoutAffine",
       Instance([](v1::NormConfig& config) { *config.mutable_optimizer() = Sgd(0.5); }),
       {kInvalid, "FIELD_NOT_APPLICABLE", {"affine is false"}, "config.optimizer"}},
  };
}

std::vector<BadConfig> BadOptimizers() {
  constexpr auto kSgd = v1::Optimizer::SGD;
  constexpr auto kAdam = v1::Optimizer::ADAM;
  constexpr auto kAdamW = v1::Optimizer::ADAMW;
  const auto refusal = [](const std::string& field, const std::vector<std::string>& texts) {
    return Refusal{kInvalid, "OPTIMIZER_INVALID", texts, "config.optimizer." + field};
  };
  return {
      {"NoAlgorithm", Learning(v1::Optimizer::ALGORITHM_UNSPECIFIED, [](v1::Optimizer&) {}),
       refusal("algorithm", {"algorithm is 0", "SGD (1)", "ADAMW (3)"})},
      {"UnknownAlgorithm",
       Learning(static_cast<v1::Optimizer::Algorithm>(9), [](v1::Optimizer&) {}),
       refusal("algorithm", {"algorithm is 9"})},
      {"SgdWithoutLr", Learning(kSgd, [](v1::Optimizer& o) { o.clear_lr(); }),
       refusal("lr", {"lr is not set", "SGD has no default"})},
      {"LrNegative", Learning(kAdam, [](v1::Optimizer& o) { o.set_lr(-0.5); }),
       refusal("lr", {"lr is -0.5", ">= 0"})},
      {"LrNan", Learning(kSgd, [](v1::Optimizer& o) { o.set_lr(kNan); }),
       refusal("lr", {"lr is nan"})},
      {"SgdWithBeta1", Learning(kSgd, [](v1::Optimizer& o) { o.set_beta1(0.9); }),
       refusal("beta1", {"beta1 is set", "SGD does not have it"})},
      {"SgdWithBeta2", Learning(kSgd, [](v1::Optimizer& o) { o.set_beta2(0.9); }),
       refusal("beta2", {"beta2 is set", "SGD does not have it"})},
      {"SgdWithEps", Learning(kSgd, [](v1::Optimizer& o) { o.set_eps(1e-8); }),
       refusal("eps", {"eps is set", "SGD does not have it"})},
      {"SgdWithAmsgrad", Learning(kSgd, [](v1::Optimizer& o) { o.set_amsgrad(true); }),
       refusal("amsgrad", {"amsgrad is set", "SGD does not have it"})},
      {"AdamWithMomentum", Learning(kAdam, [](v1::Optimizer& o) { o.set_momentum(0.9); }),
       refusal("momentum", {"momentum is set", "ADAM does not have it"})},
      {"AdamWWithDampening", Learning(kAdamW, [](v1::Optimizer& o) { o.set_dampening(0); }),
       refusal("dampening", {"dampening is set", "ADAMW does not have it"})},
      {"AdamWWithNesterov", Learning(kAdamW, [](v1::Optimizer& o) { o.set_nesterov(false); }),
       refusal("nesterov", {"nesterov is set", "ADAMW does not have it"})},
      {"MomentumNegative", Learning(kSgd, [](v1::Optimizer& o) { o.set_momentum(-1); }),
       refusal("momentum", {"momentum is -1", ">= 0"})},
      {"DampeningInfinite", Learning(kSgd, [](v1::Optimizer& o) { o.set_dampening(kInfinity); }),
       refusal("dampening", {"dampening is inf", "finite"})},
      {"NesterovWithoutMomentum", Learning(kSgd, [](v1::Optimizer& o) { o.set_nesterov(true); }),
       refusal("nesterov", {"nesterov", "momentum"})},
      {"WeightDecayNegative", Learning(kAdamW, [](v1::Optimizer& o) { o.set_weight_decay(-0.1); }),
       refusal("weight_decay", {"weight_decay is -0.1", ">= 0"})},
      {"Beta1OfOne", Learning(kAdam, [](v1::Optimizer& o) { o.set_beta1(1); }),
       refusal("beta1", {"beta1 is 1"})},
      {"Beta2Negative", Learning(kAdam, [](v1::Optimizer& o) { o.set_beta2(-0.1); }),
       refusal("beta2", {"beta2 is -0.1"})},
      {"EpsNegative", Learning(kAdam, [](v1::Optimizer& o) { o.set_eps(-1); }),
       refusal("eps", {"eps is -1", ">= 0"})},
  };
}

class BadConfigTest : public ServerTest, public ::testing::WithParamInterface<BadConfig> {};

TEST_P(BadConfigTest, IsRefusedAndMakesNothing) {
  StartServer(InMemory());
  v1::State wanted = GetParam().spoil.state;
  GetParam().spoil.spoil(*wanted.mutable_config());
  ExpectRefusal(ErrorOf(Create(wanted)), GetParam().refusal);
  v1::ListStatesResponse response;
  ASSERT_TRUE(List(v1::ListStatesRequest(), &response).ok());
  EXPECT_EQ(response.states_size(), 0);
}

INSTANTIATE_TEST_SUITE_P(Sizes, BadConfigTest, ::testing::ValuesIn(BadSizes()),
                         CaseName<KindConfig>);
INSTANTIATE_TEST_SUITE_P(Fields, BadConfigTest, ::testing::ValuesIn(BadFields()),
                         CaseName<KindConfig>);
INSTANTIATE_TEST_SUITE_P(Optimizers, BadConfigTest, ::testing::ValuesIn(BadOptimizers()),
                         CaseName<KindConfig>);

using GoodConfigTest = ServerTest;

TEST_F(GoodConfigTest, AFalseIsNotTakenForSet) {
  StartServer(InMemory());
  for (v1::State wanted :
       {LayerNormState("layer", {2}), GroupNormState("group", 1, 2), RmsNormState("rms", {2})}) {
    wanted.mutable_config()->set_track_running_stats(false);
    wanted.mutable_config()->set_cumulative_average(false);
    MustCreate(wanted);
  }
}

}  // namespace
}  // namespace normd::testing
