// Kinds, dtypes, gradients, learning and calibration through the library, against a real server.

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "client/cpp/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/server_testing.h"
#include "tests/client/stream_testing.h"
#include "tests/testing/seeded_random.h"
#include "tests/testing/server_process.h"
#include "tests/testing/temp_dir.h"

namespace normd::client {
namespace {

using ::normd::testing::ServerProcess;
using ::normd::testing::TempDir;
using ::testing::DoubleEq;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pointwise;

class FamilyServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(StartServer());
    client_ = ConnectTo(server_->address());
  }

  void StartServer() {
    server_ = StartServerIn(folder_);
    ASSERT_NE(server_, nullptr);
  }

  State Create(const std::string& name, const StateConfig& config,
               const InitialValues& initial = {}) {
    const auto state = client_->CreateState(name, config, initial);
    EXPECT_TRUE(state.ok()) << state.status();
    return state.value_or(State());
  }

  TempDir folder_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(FamilyServerTest, CreatesEveryKindAndReadsItsConfigBack) {
  StateConfig instance = StateConfig::InstanceNorm(3);
  instance.affine = true;
  instance.track_running_stats = true;
  instance.momentum = 0.25;
  StateConfig layer = StateConfig::LayerNorm({2, 3});
  layer.parameter_dtype = DataType::kFloat64;
  layer.optimizer = Optimizer::AdamW(0.5);
  StateConfig batch = StateConfig::BatchNorm(3);
  batch.optimizer = Optimizer::Sgd(0.1);
  batch.optimizer->momentum = 0.9;
  int number = 0;
  for (StateConfig config :
       {StateConfig::BatchNorm(4), StateConfig::GroupNorm(2, 4), StateConfig::InstanceNorm(4),
        StateConfig::RmsNorm({5}), instance, layer, batch}) {
    const std::string name = absl::StrCat("kind", number++);
    Create(name, config);
    const auto state = client_->GetState(name);
    ASSERT_TRUE(state.ok()) << state.status();
    if (config.kind == NormKind::kLayerNorm) config.num_features = 6;
    if (config.kind == NormKind::kRmsNorm) config.num_features = 5;
    EXPECT_TRUE(state->config == config) << name;
    EXPECT_EQ(state->weight.size(), config.affine ? state->config.num_features : 0u) << name;
    EXPECT_EQ(state->bias.size(), HasBias(config) ? state->config.num_features : 0u) << name;
    EXPECT_EQ(state->running_mean.empty(), !config.track_running_stats) << name;
  }
}

TEST_F(FamilyServerTest, AFieldThatTheKindDoesNotHaveIsRefused) {
  StateConfig config = StateConfig::LayerNorm({2});
  config.track_running_stats = true;
  EXPECT_EQ(ErrorReason(client_->CreateState("a", config).status()), "FIELD_NOT_APPLICABLE");
  config = StateConfig::BatchNorm(2);
  config.optimizer = Optimizer::Adam();
  config.optimizer->momentum = 0.5;
  EXPECT_EQ(ErrorReason(client_->CreateState("a", config).status()), "OPTIMIZER_INVALID");
}

TEST_F(FamilyServerTest, ParametersOfFloat64AreKeptExactlyAndOthersRounded) {
  StateConfig config = StateConfig::BatchNorm(2);
  InitialValues initial;
  initial.weight = {0.1, 2};
  Create("single", config, initial);
  config.parameter_dtype = DataType::kFloat64;
  Create("double", config, initial);
  EXPECT_THAT(client_->GetState("single")->weight, ElementsAre(static_cast<double>(0.1f), 2));
  EXPECT_THAT(client_->GetState("double")->weight, ElementsAre(0.1, 2));
  const std::vector<double> bias = {0.3, -1};
  ASSERT_TRUE(client_->SetParameters("double", std::nullopt, bias).ok());
  EXPECT_EQ(client_->GetState("double")->bias, bias);
}

TEST_F(FamilyServerTest, OutputsHaveTheDtypeOfTheInput) {
  StateConfig config = StateConfig::BatchNorm(1);
  config.eps = 0;
  Create("a", config);
  const std::vector<double> values = {1, 3};
  for (const DataType dtype :
       {DataType::kFloat32, DataType::kFloat64, DataType::kFloat16, DataType::kBfloat16}) {
    const Batch batch = *Convert(Batch::Borrow({2, 1}, values), dtype);
    TrainOptions options;
    options.return_output = true;
    const auto trained = client_->Train("a", batch, options);
    ASSERT_TRUE(trained.ok()) << trained.status();
    EXPECT_EQ(trained->output->dtype(), dtype);
    EXPECT_THAT(ToDoubles(*trained->output), ElementsAre(-1, 1)) << DataTypeName(dtype);
    const auto normalized = client_->Normalize("a", batch);
    ASSERT_TRUE(normalized.ok()) << normalized.status();
    EXPECT_EQ(normalized->output.dtype(), dtype);
  }
}

TEST_F(FamilyServerTest, MomentsOfInstanceNormTrainAsTheValuesDo) {
  StateConfig config = StateConfig::InstanceNorm(2);
  config.track_running_stats = true;
  Create("values", config);
  Create("moments", config);
  const Batch batch = Batch::Own({2, 2, 3}, {1, 2, 4, -4, 0, 4, 10, 20, 60, 0.5, 1.5, 3.5});
  const auto moments = ComputeMoments(batch, NormKind::kInstanceNorm);
  ASSERT_TRUE(moments.ok()) << moments.status();
  ASSERT_TRUE(client_->Train("values", batch).ok());
  const auto trained = client_->Train("moments", *moments);
  ASSERT_TRUE(trained.ok()) << trained.status();
  EXPECT_THAT(client_->GetState("moments")->running_mean,
              Pointwise(DoubleEq(), client_->GetState("values")->running_mean));
  EXPECT_THAT(client_->GetState("moments")->running_var,
              Pointwise(DoubleEq(), client_->GetState("values")->running_var));
}

// One channel, values -1 and 1: mean 0, var 1. With dy = (1, 3): s = 4, d = 2.
TEST_F(FamilyServerTest, BackwardGivesTheGradientsOfBothModes) {
  StateConfig config = StateConfig::BatchNorm(1);
  config.eps = 0;
  config.parameter_dtype = DataType::kFloat64;
  InitialValues initial;
  initial.weight = {2};
  initial.running_mean = {1};
  initial.running_var = {4};
  Create("a", config, initial);
  const std::vector<double> x = {-1, 1};
  const std::vector<double> dy = {1, 3};
  const Batch input = Batch::Borrow({2, 1}, x);
  const Batch grad_output = Batch::Borrow({2, 1}, dy);
  BackwardOptions options;
  auto result = client_->Backward("a", input, grad_output, options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->grad_weight, ElementsAre(DoubleEq(2)));
  EXPECT_THAT(result->grad_bias, ElementsAre(DoubleEq(4)));
  // dx = (dy - s/n - (x - mean) d/n) w = (1 - 2 + 1, 3 - 2 - 1) 2.
  EXPECT_THAT(result->grad_input->doubles(),
              ElementsAre(DoubleNear(0, 1e-12), DoubleNear(0, 1e-12)));

  options.moments = Moments{2, {0.0}, {2.0}};
  options.return_grad_input = false;
  result = client_->Backward("a", input, grad_output, options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->grad_input.has_value());
  EXPECT_THAT(result->grad_weight, ElementsAre(DoubleEq(2)));

  options = {};
  options.mode = BackwardMode::kEval;
  result = client_->Backward("a", input, grad_output, options);
  ASSERT_TRUE(result.ok()) << result.status();
  // invstd 1/2: dx = dy w / 2; d = 1 * -2 + 3 * 0 = -2.
  EXPECT_THAT(result->grad_input->doubles(), ElementsAre(DoubleEq(1), DoubleEq(3)));
  EXPECT_THAT(result->grad_weight, ElementsAre(DoubleEq(-1)));
  EXPECT_EQ(ErrorReason(client_->Backward("a", input, Batch::Own({1, 1}, {1.0f})).status()),
            "GRADIENT_SHAPE_MISMATCH");
}

TEST_F(FamilyServerTest, GradientsStepOnceByProducerAndSequence) {
  StateConfig config = StateConfig::BatchNorm(2);
  Create("none", config);
  config.optimizer = Optimizer::Sgd(0.5);
  Create("a", config);
  const std::vector<double> gradient = {1, -2};
  ApplyOptions options;
  options.producer_id = "p";
  options.sequence = 1;
  auto result = client_->ApplyGradients("a", gradient, std::nullopt, options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->disposition, Disposition::kApplied);
  EXPECT_EQ(result->optimizer_step, 1);
  EXPECT_EQ(result->durable_sequence, 1);
  result = client_->ApplyGradients("a", gradient, std::nullopt, options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->disposition, Disposition::kDuplicate);
  auto state = client_->GetState("a");
  EXPECT_THAT(state->weight, ElementsAre(0.5, 2));
  EXPECT_THAT(state->bias, ElementsAre(0, 0));
  EXPECT_EQ(state->optimizer_step, 1);
  EXPECT_EQ(ErrorReason(client_->ApplyGradients("none", gradient, std::nullopt).status()),
            "OPTIMIZER_ABSENT");
  EXPECT_EQ(ErrorReason(client_->ApplyGradients("a", std::nullopt, std::nullopt).status()),
            "GRADIENTS_MISSING");

  ConfigUpdate update;
  update.lr = 0.25;
  const auto updated = client_->UpdateState("a", update);
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(updated->config.optimizer, Optimizer::Sgd(0.25));
  options.sequence = 2;
  ASSERT_TRUE(client_->ApplyGradients("a", std::nullopt, gradient, options).ok());
  EXPECT_THAT(client_->GetState("a")->bias, ElementsAre(-0.25, 0.5));
  update = {};
  update.optimizer = Optimizer::Adam();
  EXPECT_EQ(client_->UpdateState("a", update)->config.optimizer, Optimizer::Adam());
  update = {};
  update.remove_optimizer = true;
  EXPECT_EQ(client_->UpdateState("a", update)->config.optimizer, std::nullopt);
}

TEST_F(FamilyServerTest, CalibrationReplacesTheStatisticsAtTheCommitAlone) {
  Create("a", StateConfig::BatchNorm(1));
  EXPECT_EQ(ErrorReason(client_->CommitCalibration("a").status()), "CALIBRATION_NOT_ACTIVE");
  auto state = client_->BeginCalibration("a", CalibrationMethod::kPooled);
  ASSERT_TRUE(state.ok()) << state.status();
  ASSERT_TRUE(state->calibration.has_value());
  EXPECT_EQ(state->calibration->method, CalibrationMethod::kPooled);
  EXPECT_EQ(ErrorReason(client_->BeginCalibration("a", CalibrationMethod::kPooled).status()),
            "CALIBRATION_ACTIVE");
  TrainOptions options;
  options.calibrate = true;
  ASSERT_TRUE(client_->Train("a", Batch::Own({2, 1}, {1, 3}), options).ok());
  ASSERT_TRUE(client_->Train("a", *ComputeMoments(Batch::Own({2, 1}, {5, 7})), options).ok());
  state = client_->GetState("a");
  EXPECT_THAT(state->running_mean, ElementsAre(0));
  EXPECT_EQ(state->calibration->num_batches, 2);
  EXPECT_EQ(state->calibration->count, 4);
  state = client_->CommitCalibration("a");
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_FALSE(state->calibration.has_value());
  state = client_->GetState("a");
  EXPECT_THAT(state->running_mean, ElementsAre(DoubleEq(4)));
  EXPECT_THAT(state->running_var, ElementsAre(DoubleNear(20.0 / 3, 1e-12)));
  EXPECT_EQ(state->num_batches_tracked, 2);

  state = client_->BeginCalibration("a", CalibrationMethod::kMeanOfBatches);
  ASSERT_TRUE(state.ok()) << state.status();
  const std::string id = state->calibration->calibration_id;
  EXPECT_EQ(ErrorReason(client_->CommitCalibration("a", id).status()), "CALIBRATION_EMPTY");
  EXPECT_EQ(ErrorReason(client_->CommitCalibration("a", "other").status()), "CALIBRATION_MISMATCH");
  EXPECT_EQ(ErrorReason(client_->AbortCalibration("a", "other").status()), "CALIBRATION_MISMATCH");
  EXPECT_EQ(ErrorReason(client_->CommitCalibration("a", id, "stale").status()), "ETAG_MISMATCH");
  EXPECT_EQ(ErrorReason(client_->AbortCalibration("a", id, "stale").status()), "ETAG_MISMATCH");
  options.calibration_id = "other";
  EXPECT_EQ(ErrorReason(client_->Train("a", Batch::Own({2, 1}, {1, 3}), options).status()),
            "CALIBRATION_MISMATCH");
  std::vector<std::string> reasons;
  TrainStreamOptions stream_options;
  stream_options.on_result = [&reasons](const TrainResult& result) {
    reasons.push_back(ErrorReason(result.status));
  };
  const auto stream = client_->OpenTrainStream(stream_options);
  ASSERT_TRUE(stream.ok()) << stream.status();
  SendOptions send;
  send.calibrate = true;
  for (const std::string& sent_id : {id, std::string("other"), std::string()}) {
    send.calibration_id = sent_id;
    ASSERT_TRUE((*stream)->Send("a", Batch::Own({2, 1}, {1, 3}), send).ok());
  }
  ASSERT_TRUE((*stream)->Close().ok());
  EXPECT_THAT(reasons, ElementsAre("", "CALIBRATION_MISMATCH", ""));
  options.calibration_id = id;
  ASSERT_TRUE(client_->Train("a", Batch::Own({2, 1}, {1, 3}), options).ok());
  state = client_->GetState("a");
  EXPECT_EQ(state->calibration->num_batches, 3);
  ASSERT_TRUE(client_->AbortCalibration("a", id, state->etag).ok());
  EXPECT_EQ(ErrorReason(client_->Train("a", Batch::Own({2, 1}, {1, 3}), options).status()),
            "CALIBRATION_NOT_ACTIVE");
}

// With x = -1, 1 and dy = (0, 1): grad_bias is 1 in every step.
TEST_F(FamilyServerTest, AStreamStepsEveryGradientOnceThroughKillsOfTheServer) {
  constexpr int64_t kSteps = 1500;
  SeededRandom random;
  StateConfig config = StateConfig::BatchNorm(1);
  config.parameter_dtype = DataType::kFloat64;
  config.optimizer = Optimizer::Sgd(1);
  Create("a", config);
  Results<BackwardResult> results;
  BackwardStreamOptions options;
  options.retry = FastRetry();
  options.on_result = [&results](BackwardResult result) { results.Add(std::move(result)); };
  auto stream = *client_->OpenBackwardStream(options);
  std::thread sender([&stream] {
    BackwardSendOptions send;
    send.apply = true;
    for (int64_t i = 1; i <= kSteps; ++i) {
      const Batch input = Batch::Own({2, 1}, {-1, 1});
      if (!stream->Send("a", input, Batch::Own({2, 1}, {0, 1}), send).ok()) return;
    }
  });
  for (int kill = 1; kill <= 3; ++kill) {
    EXPECT_TRUE(results.WaitFor(kill * kSteps / 5 + random() % 200));
    server_->Kill();
    StartServer();
    if (HasFatalFailure()) stream->Cancel();
  }
  sender.join();
  const absl::Status closed = stream->Close();
  ASSERT_TRUE(closed.ok()) << closed;
  EXPECT_EQ(results.Sequences("a"), UpTo(kSteps));
  const auto state = client_->GetState("a");
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->optimizer_step, kSteps);
  EXPECT_THAT(state->bias, ElementsAre(-static_cast<double>(kSteps)));
  EXPECT_THAT(stream->Pending(), IsEmpty());
}

}  // namespace
}  // namespace normd::client
