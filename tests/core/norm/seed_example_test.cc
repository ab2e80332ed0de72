// One training step whose figures PyTorch printed: tests/data/seed_example.json.

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/norm/normalization.h"
#include "core/norm/running_stats.h"
#include "tests/core/norm/batch_norm_reference.h"

namespace normd {
namespace {

std::vector<float> Flat(const nlohmann::json& rows) {
  std::vector<float> values;
  for (const nlohmann::json& row : rows) {
    for (const nlohmann::json& value : row) values.push_back(value.get<float>());
  }
  return values;
}

TEST(SeedExampleTest, OneTrainingStepGivesWhatPyTorchPrinted) {
  std::ifstream file(NORMD_SEED_EXAMPLE);
  ASSERT_TRUE(file) << NORMD_SEED_EXAMPLE;
  const nlohmann::json example = nlohmann::json::parse(file);
  const NormConfig config = {.num_features = example["num_features"].get<int64_t>()};
  const nlohmann::json& tolerance = example["tolerance"];
  const TestBatch values = {
      .shape = {static_cast<int64_t>(example["input"].size()), config.num_features},
      .values = Flat(example["input"])};
  const auto tensor = values.View();
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  const auto batch = Batch::Create(*tensor, config);
  ASSERT_TRUE(batch.ok()) << batch.status();
  const auto moments = ComputeBatchMoments(*batch, config.non_finite);
  ASSERT_TRUE(moments.ok()) << moments.status();

  const auto weight = example["weight"].get<std::vector<float>>();
  const auto bias = example["bias"].get<std::vector<float>>();
  std::vector<float> output(values.values.size());
  NormalizeBatchByItself(*batch, *moments, config.eps, weight, bias, absl::MakeSpan(output));
  const std::vector<float> expected_output = Flat(example["output"]);
  ASSERT_EQ(output.size(), expected_output.size());
  for (size_t i = 0; i < output.size(); ++i) {
    EXPECT_NEAR(output[i], expected_output[i], tolerance["output_abs"].get<double>()) << i;
  }

  RunningStats stats = RunningStats::Initial(config.num_features);
  stats.Fold(*moments, config);
  EXPECT_EQ(stats.num_batches_tracked, example["num_batches_tracked"].get<int64_t>());
  for (size_t c = 0; c < stats.mean.size(); ++c) {
    const auto mean = example["running_mean"][c].get<double>();
    const auto var = example["running_var"][c].get<double>();
    EXPECT_NEAR(stats.mean[c], mean, tolerance["running_mean_abs"].get<double>()) << c;
    EXPECT_NEAR(stats.var[c], var, tolerance["running_var_rel"].get<double>() * var) << c;
  }
}

}  // namespace
}  // namespace normd
