#include "client/cli/config_json.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/norm_options.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normd::cli {
namespace {

using ::normd::client::NormKind;
using ::normd::client::Optimizer;
using ::normd::client::StateConfig;
using ::testing::HasSubstr;

std::string MessageOf(absl::string_view text) {
  return std::string(
      ConfigFromJson(nlohmann::ordered_json::parse(text.begin(), text.end())).status().message());
}

TEST(ConfigJsonTest, EveryConfigReadsBackAsItWas) {
  StateConfig batch = StateConfig::BatchNorm(3);
  batch.momentum = std::nullopt;
  batch.eps = 0.1;
  batch.correction = 0;
  batch.non_finite = client::NonFinite::kPropagate;
  batch.parameter_dtype = client::DataType::kFloat64;
  batch.optimizer = Optimizer::Sgd(0.1);
  batch.optimizer->momentum = 0.9;
  batch.optimizer->nesterov = true;
  StateConfig instance = StateConfig::InstanceNorm(4);
  instance.affine = true;
  instance.track_running_stats = true;
  StateConfig layer = StateConfig::LayerNorm({4, 5});
  layer.num_features = 20;
  layer.optimizer = Optimizer::AdamW();
  StateConfig group = StateConfig::GroupNorm(2, 6);
  group.optimizer = Optimizer::Adam(0.3);
  group.optimizer->amsgrad = true;
  for (const StateConfig& config :
       {StateConfig::BatchNorm(3), batch, instance, layer, group, StateConfig::RmsNorm({7})}) {
    const nlohmann::ordered_json json = ConfigToJson(config);
    const auto read = ConfigFromJson(nlohmann::ordered_json::parse(json.dump()));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_TRUE(*read == config) << json;
  }
}

TEST(ConfigJsonTest, LeavesOutWhatTheKindDoesNotHave) {
  EXPECT_EQ(ConfigToJson(StateConfig::LayerNorm({4})).dump(),
            R"({"kind":"LAYER_NORM","num_features":0,"normalized_shape":[4],"eps":1e-05,)"
            R"("affine":true,"track_running_stats":false,"non_finite":"REFUSE",)"
            R"("parameter_dtype":"FLOAT32"})");
}

TEST(ConfigJsonTest, RefusesWhatIsWrongByName) {
  EXPECT_THAT(MessageOf("[]"), HasSubstr("config is no object"));
  EXPECT_THAT(MessageOf("{}"), HasSubstr("kind is ''"));
  EXPECT_THAT(MessageOf(R"({"kind":"BATCH"})"), HasSubstr("kind is 'BATCH'"));
  const auto with = [](absl::string_view field) {
    return MessageOf(absl::StrCat(R"({"kind":"BATCH_NORM",)", field, "}"));
  };
  EXPECT_EQ(with(R"("num_features":3)"), "");
  EXPECT_THAT(with(R"("num_features":"3")"), HasSubstr("num_features is \"3\""));
  EXPECT_THAT(with(R"("num_features":3.5)"), HasSubstr("expected a whole number"));
  EXPECT_THAT(with(R"("eps":true)"), HasSubstr("expected a number or null"));
  EXPECT_THAT(with(R"("affine":1)"), HasSubstr("expected true or false"));
  EXPECT_THAT(with(R"("momentum":0.1,"cumulative_average":true)"), HasSubstr("cumulative_average"));
  EXPECT_THAT(with(R"("running_var_correction":2)"), HasSubstr("expected 0 or 1"));
  EXPECT_THAT(with(R"("non_finite":"MAYBE")"), HasSubstr("non_finite"));
  EXPECT_THAT(with(R"("parameter_dtype":"FLOAT16")"), HasSubstr("parameter_dtype"));
  EXPECT_THAT(with(R"("normalized_shape":[1,"2"])"), HasSubstr("array of whole numbers"));
  EXPECT_THAT(with(R"("optimizer":{"algorithm":"LION"})"), HasSubstr("algorithm is 'LION'"));
  EXPECT_THAT(with(R"("optimizer":{"algorithm":"SGD","speed":1})"), HasSubstr("'speed'"));
  EXPECT_THAT(with(R"("mystery":1)"), HasSubstr("'mystery', which is not known"));
}

TEST(NormOptionsTest, BuildsTheConfigOfEachKindAndSaysWhatIsMissing) {
  NormOptions options;
  EXPECT_THAT(std::string(ToConfig(options).status().message()), HasSubstr("--num-features"));
  options.num_features = 6;
  EXPECT_TRUE(*ToConfig(options) == StateConfig::BatchNorm(6));
  options.kind = NormKind::kGroupNorm;
  EXPECT_THAT(std::string(ToConfig(options).status().message()), HasSubstr("--num-groups"));
  options.num_groups = 2;
  EXPECT_TRUE(*ToConfig(options) == StateConfig::GroupNorm(2, 6));
  options = {};
  options.kind = NormKind::kLayerNorm;
  EXPECT_THAT(std::string(ToConfig(options).status().message()), HasSubstr("--normalized-shape"));
  options.normalized_shape = {2, 3};
  options.affine = false;
  EXPECT_FALSE(ToConfig(options)->affine);
}

TEST(NormOptionsTest, BuildsOptimizersWithTorchsDefaultsAndSaysWhatIsMissing) {
  OptimizerOptions options;
  EXPECT_EQ(*ToOptimizer(options), std::nullopt);
  options.lr = 0.5;
  EXPECT_THAT(std::string(ToOptimizer(options).status().message()), HasSubstr("--optimizer"));
  options.algorithm = Optimizer::Algorithm::kSgd;
  EXPECT_EQ(*ToOptimizer(options), Optimizer::Sgd(0.5));
  options.lr.reset();
  EXPECT_THAT(std::string(ToOptimizer(options).status().message()), HasSubstr("needs --lr"));
  options.algorithm = Optimizer::Algorithm::kAdamW;
  EXPECT_EQ(*ToOptimizer(options), Optimizer::AdamW());
  options.weight_decay = 0;
  EXPECT_EQ((*ToOptimizer(options))->weight_decay, 0);
}

}  // namespace
}  // namespace normd::cli
