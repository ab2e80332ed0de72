// Every unary method of StateService but for calibration (calibration_test.cc) and for what it
// refuses (bad_*_test.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

using ::testing::ElementsAre;

class StateServiceTest : public ServerTest {
 protected:
  void SetUp() override { StartServer(InMemory()); }
};

std::vector<std::string> Names(const v1::ListStatesResponse& response) {
  std::vector<std::string> names;
  for (const v1::State& state : response.states()) names.push_back(state.name());
  return names;
}

TEST_F(StateServiceTest, CreatesWithPyTorchsDefaults) {
  v1::State state;
  const grpc::Status status = Create(BatchNormState("resnet50/layer1.0/bn1", 3), &state);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(state.name(), "resnet50/layer1.0/bn1");
  EXPECT_EQ(state.config().kind(), v1::NormConfig::BATCH_NORM);
  EXPECT_EQ(state.config().num_features(), 3);
  EXPECT_EQ(state.config().eps(), 1e-5);
  EXPECT_EQ(state.config().momentum(), 0.1);
  EXPECT_TRUE(state.config().affine());
  EXPECT_TRUE(state.config().track_running_stats());
  EXPECT_EQ(state.config().running_var_correction(), 1);
  EXPECT_EQ(state.config().non_finite(), v1::NormConfig::REFUSE);
  EXPECT_THAT(Floats(state.parameters().weight()), ElementsAre(1, 1, 1));
  EXPECT_THAT(Floats(state.parameters().bias()), ElementsAre(0, 0, 0));
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), ElementsAre(0, 0, 0));
  EXPECT_THAT(Doubles(state.running_stats().running_var()), ElementsAre(1, 1, 1));
  EXPECT_EQ(state.running_stats().num_batches_tracked(), 0);
  EXPECT_FALSE(state.frozen());
  EXPECT_EQ(state.revision(), 1);
  EXPECT_NE(state.etag(), "");
  EXPECT_GT(state.create_time().seconds(), 1'700'000'000);
  EXPECT_EQ(state.producer_count(), 0);
  EXPECT_EQ(MustGet(state.name()).SerializeAsString(), state.SerializeAsString());
}

TEST_F(StateServiceTest, CreatesFromInitialValues) {
  v1::State wanted = BatchNormState("m", 2);
  wanted.mutable_config()->set_eps(0);
  wanted.mutable_config()->set_cumulative_average(true);
  wanted.mutable_config()->set_running_var_correction(0);
  wanted.mutable_config()->set_non_finite(v1::NormConfig::PROPAGATE);
  *wanted.mutable_parameters()->mutable_weight() = Float32Tensor({2}, {2, 3});
  *wanted.mutable_parameters()->mutable_bias() = Float64Tensor({2}, {0.1, -4});
  *wanted.mutable_running_stats()->mutable_running_mean() = Float32Tensor({2}, {5, 6});
  *wanted.mutable_running_stats()->mutable_running_var() = Float64Tensor({2}, {0, 1e-300});
  wanted.mutable_running_stats()->set_num_batches_tracked(77);
  // Output only: ignored.
  wanted.set_frozen(true);
  wanted.set_revision(99);
  wanted.set_etag("mine");
  wanted.set_producer_count(5);
  v1::State state;
  const grpc::Status status = Create(wanted, &state);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(state.config().eps(), 0);
  EXPECT_TRUE(state.config().cumulative_average());
  EXPECT_EQ(state.config().running_var_correction(), 0);
  EXPECT_EQ(state.config().non_finite(), v1::NormConfig::PROPAGATE);
  EXPECT_THAT(Floats(state.parameters().weight()), ElementsAre(2, 3));
  EXPECT_THAT(Floats(state.parameters().bias()), ElementsAre(0.1F, -4));
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), ElementsAre(5, 6));
  EXPECT_THAT(Doubles(state.running_stats().running_var()), ElementsAre(0, 1e-300));
  EXPECT_EQ(state.running_stats().num_batches_tracked(), 77);
  EXPECT_FALSE(state.frozen());
  EXPECT_EQ(state.revision(), 1);
  EXPECT_NE(state.etag(), "mine");
  EXPECT_EQ(state.producer_count(), 0);
}

TEST_F(StateServiceTest, CreatesWithoutParametersAndBuffers) {
  v1::State wanted = BatchNormState("m", 2);
  wanted.mutable_config()->set_affine(false);
  wanted.mutable_config()->set_track_running_stats(false);
  v1::State state;
  const grpc::Status status = Create(wanted, &state);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_FALSE(state.has_parameters());
  EXPECT_FALSE(state.has_running_stats());
}

TEST_F(StateServiceTest, CreatesTheNarrowestAndTheWidestState) {
  MustCreate("narrow", 1);
  const v1::State wide = MustCreate("wide", kNumFeaturesMax);
  EXPECT_EQ(wide.parameters().weight().shape(0), kNumFeaturesMax);
  EXPECT_EQ(MustGet("wide").SerializeAsString(), wide.SerializeAsString());
}

TEST_F(StateServiceTest, GetsBasicWithoutTensors) {
  const v1::State full = MustCreate("m", 2);
  v1::State basic;
  ASSERT_TRUE(Get("m", &basic, v1::BASIC).ok());
  EXPECT_FALSE(basic.has_parameters());
  EXPECT_TRUE(basic.has_running_stats());
  EXPECT_FALSE(basic.running_stats().has_running_mean());
  EXPECT_FALSE(basic.running_stats().has_running_var());
  EXPECT_EQ(basic.etag(), full.etag());
  EXPECT_EQ(basic.revision(), full.revision());
  v1::State again;
  ASSERT_TRUE(Get("m", &again, v1::FULL).ok());
  EXPECT_EQ(again.SerializeAsString(), full.SerializeAsString());
}

TEST_F(StateServiceTest, ListsByPrefixInTheOrderOfBytes) {
  for (const char* name : {"b/2", "b/10", "a", "b", "b-", "c", "b/2/x"}) MustCreate(name, 1);
  v1::ListStatesRequest request;
  v1::ListStatesResponse response;
  ASSERT_TRUE(List(request, &response).ok());
  EXPECT_THAT(Names(response), ElementsAre("a", "b", "b-", "b/10", "b/2", "b/2/x", "c"));
  EXPECT_EQ(response.next_page_token(), "");
  EXPECT_FALSE(response.states(0).has_parameters()) << "BASIC is the default";
  request.set_prefix("b/");
  request.set_view(v1::FULL);
  response.Clear();
  ASSERT_TRUE(List(request, &response).ok());
  EXPECT_THAT(Names(response), ElementsAre("b/10", "b/2", "b/2/x"));
  EXPECT_EQ(response.states(0).SerializeAsString(), MustGet("b/10").SerializeAsString());
  request.set_prefix("nothing");
  response.Clear();
  ASSERT_TRUE(List(request, &response).ok());
  EXPECT_EQ(response.states_size(), 0);
  EXPECT_EQ(response.next_page_token(), "");
}

TEST_F(StateServiceTest, ListsPageByPageEveryStateOnce) {
  std::vector<std::string> expected;
  for (int i = 100; i < 125; ++i) {
    expected.push_back(absl::StrCat("p/", i));
    MustCreate(expected.back(), 1);
    MustCreate(absl::StrCat("q/", i), 1);
  }
  for (const int page_size : {1, 7, 24, 25, 26}) {
    SCOPED_TRACE(page_size);
    v1::ListStatesRequest request;
    request.set_prefix("p/");
    request.set_page_size(page_size);
    std::vector<std::string> names;
    int pages = 0;
    do {
      v1::ListStatesResponse response;
      const grpc::Status status = List(request, &response);
      ASSERT_TRUE(status.ok()) << ErrorOf(status);
      ASSERT_LE(response.states_size(), page_size);
      for (std::string& name : Names(response)) names.push_back(std::move(name));
      request.set_page_token(response.next_page_token());
      ++pages;
    } while (!request.page_token().empty());
    EXPECT_EQ(names, expected);
    EXPECT_EQ(pages, (25 + page_size - 1) / page_size);
  }
}

TEST_F(StateServiceTest, ListsOnAfterTheLastNameWasDeleted) {
  for (const char* name : {"a", "b", "c"}) MustCreate(name, 1);
  v1::ListStatesRequest request;
  request.set_page_size(1);
  v1::ListStatesResponse response;
  ASSERT_TRUE(List(request, &response).ok());
  ASSERT_TRUE(Delete("a").ok());
  ASSERT_TRUE(Delete("b").ok());
  request.set_page_token(response.next_page_token());
  response.Clear();
  ASSERT_TRUE(List(request, &response).ok());
  EXPECT_THAT(Names(response), ElementsAre("c"));
}

TEST_F(StateServiceTest, CapsThePageSize) {
  normd::ServerOptions options = InMemory();
  options.page_size_max = 2;
  StartServer(options);
  for (const char* name : {"a", "b", "c"}) MustCreate(name, 1);
  for (const int page_size : {0, 3, std::numeric_limits<int>::max()}) {
    v1::ListStatesRequest request;
    request.set_page_size(page_size);
    v1::ListStatesResponse response;
    ASSERT_TRUE(List(request, &response).ok());
    EXPECT_THAT(Names(response), ElementsAre("a", "b"));
  }
}

TEST_F(StateServiceTest, UpdatesOnlyWhatTheMaskNames) {
  const v1::State before = MustCreate("m", 2);
  v1::UpdateStateRequest request;
  *request.mutable_state() = BatchNormState("m", 999);
  request.mutable_state()->mutable_config()->set_eps(0.5);
  request.mutable_state()->mutable_config()->set_momentum(0.25);
  request.mutable_state()->mutable_config()->set_running_var_correction(0);
  request.mutable_state()->mutable_config()->set_non_finite(v1::NormConfig::PROPAGATE);
  request.mutable_update_mask()->add_paths("config.eps");
  request.set_etag(before.etag());
  v1::State after;
  grpc::Status status = Update(request, &after);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  v1::State expected = before;
  expected.mutable_config()->set_eps(0.5);
  expected.set_revision(2);
  expected.set_etag(after.etag());
  *expected.mutable_update_time() = after.update_time();
  EXPECT_EQ(after.SerializeAsString(), expected.SerializeAsString());
  EXPECT_NE(after.etag(), before.etag());

  request.clear_etag();
  request.mutable_update_mask()->add_paths("config.momentum");
  request.mutable_update_mask()->add_paths("config.running_var_correction");
  request.mutable_update_mask()->add_paths("config.non_finite");
  status = Update(request, &after);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(after.config().momentum(), 0.25);
  EXPECT_EQ(after.config().running_var_correction(), 0);
  EXPECT_EQ(after.config().non_finite(), v1::NormConfig::PROPAGATE);
  EXPECT_EQ(after.config().num_features(), 2);
  EXPECT_EQ(after.revision(), 3);

  request.mutable_state()->mutable_config()->set_cumulative_average(true);
  request.clear_update_mask();
  request.mutable_update_mask()->add_paths("config.cumulative_average");
  status = Update(request, &after);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_TRUE(after.config().cumulative_average());
  EXPECT_EQ(MustGet("m").SerializeAsString(), after.SerializeAsString());
}

TEST_F(StateServiceTest, DeletesAndForgets) {
  const v1::State first = MustCreate("m", 1);
  v1::TrainRequest train = PairBatch("m", 0, 2);
  train.set_producer_id("p");
  train.set_sequence(5);
  ASSERT_TRUE(Train(train).ok());
  ASSERT_TRUE(Delete("m", first.etag()).ok());
  v1::State state;
  EXPECT_EQ(ErrorOf(Get("m", &state)).reason, "STATE_NOT_FOUND");
  EXPECT_EQ(ErrorOf(Delete("m")).reason, "STATE_NOT_FOUND");
  const v1::State second = MustCreate("m", 1);
  EXPECT_EQ(second.revision(), 1);
  EXPECT_NE(second.etag(), first.etag());
  v1::TrainResponse trained;
  ASSERT_TRUE(Train(train, &trained).ok());
  EXPECT_EQ(trained.disposition(), v1::APPLIED) << "producers are forgotten with their state";
}

TEST_F(StateServiceTest, ReplacesAStateInOneChange) {
  StartServer(OnDisk());
  const auto replace = [this](int64_t num_features, const std::string& etag,
                              v1::State* replaced = nullptr) {
    v1::CreateStateRequest request;
    *request.mutable_state() = BatchNormState("m", num_features);
    request.set_replace(true);
    request.set_etag(etag);
    TestContext context;
    v1::State ignored;
    return states_->CreateState(&context, request, replaced == nullptr ? &ignored : replaced);
  };
  EXPECT_EQ(ErrorOf(replace(1, "stale")).reason, "STATE_NOT_FOUND");
  v1::State state;
  ASSERT_TRUE(replace(1, "", &state).ok()) << "where there is none, it is created";
  EXPECT_EQ(state.revision(), 1);

  v1::TrainRequest train = PairBatch("m", 0, 2);
  train.set_producer_id("p");
  train.set_sequence(5);
  ASSERT_TRUE(Train(train).ok());
  const v1::State trained = MustGet("m");
  EXPECT_EQ(trained.producer_count(), 1);
  EXPECT_EQ(ErrorOf(replace(2, "stale")).reason, "ETAG_MISMATCH");
  EXPECT_EQ(ErrorOf(replace(0, trained.etag())).reason, "NUM_FEATURES_OUT_OF_RANGE");
  EXPECT_EQ(ErrorOf(Create(BatchNormState("m", 2))).reason, "STATE_ALREADY_EXISTS");
  EXPECT_EQ(MustGet("m").SerializeAsString(), trained.SerializeAsString());

  ASSERT_TRUE(replace(1, trained.etag(), &state).ok());
  EXPECT_EQ(state.revision(), trained.revision() + 1) << "a watcher never sees a revision twice";
  EXPECT_NE(state.etag(), trained.etag());
  EXPECT_EQ(state.producer_count(), 0);
  EXPECT_EQ(state.running_stats().num_batches_tracked(), 0);
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), ElementsAre(0));
  EXPECT_EQ(ErrorOf(replace(1, trained.etag())).reason, "ETAG_MISMATCH");

  StartServer(OnDisk());
  EXPECT_EQ(MustGet("m").SerializeAsString(), state.SerializeAsString());
  v1::TrainResponse again;
  ASSERT_TRUE(Train(train, &again).ok());
  EXPECT_EQ(again.disposition(), v1::APPLIED) << "producers went with the state";
  EXPECT_EQ(again.revision(), state.revision() + 1);
}

TEST_F(StateServiceTest, SetsParametersUnderAnEtag) {
  const v1::State before = MustCreate("m", 2);
  v1::SetParametersRequest request;
  request.set_name("m");
  request.set_etag(before.etag());
  *request.mutable_parameters()->mutable_weight() = Float64Tensor({2}, {0.1, 0.2});
  v1::State after;
  grpc::Status status = SetParameters(request, &after);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_THAT(Floats(after.parameters().weight()), ElementsAre(0.1F, 0.2F));
  EXPECT_THAT(Floats(after.parameters().bias()), ElementsAre(0, 0)) << "absent: stays";
  EXPECT_EQ(after.revision(), 2);
  EXPECT_NE(after.etag(), before.etag());
  EXPECT_EQ(ErrorOf(SetParameters(request)).reason, "ETAG_MISMATCH");
  EXPECT_EQ(MustGet("m").SerializeAsString(), after.SerializeAsString());

  request.set_etag(after.etag());
  request.mutable_parameters()->clear_weight();
  *request.mutable_parameters()->mutable_bias() = Float32Tensor({2}, {7, 8});
  ASSERT_TRUE(SetParameters(request, &after).ok());
  EXPECT_THAT(Floats(after.parameters().weight()), ElementsAre(0.1F, 0.2F));
  EXPECT_THAT(Floats(after.parameters().bias()), ElementsAre(7, 8));
}

TEST_F(StateServiceTest, TrainingLeavesTheEtagAlone) {
  const v1::State before = MustCreate("m", 1);
  ASSERT_TRUE(Train(PairBatch("m", 0, 2)).ok());
  v1::State after = MustGet("m");
  EXPECT_EQ(after.revision(), 2);
  EXPECT_EQ(after.etag(), before.etag());
  ASSERT_TRUE(Reset("m", &after).ok());
  EXPECT_EQ(after.etag(), before.etag()) << "running statistics are not what users set";
}

TEST_F(StateServiceTest, ResetsTheRunningStatisticsAndKeepsTheRest) {
  v1::State wanted = BatchNormState("m", 1);
  *wanted.mutable_parameters()->mutable_weight() = Float32Tensor({1}, {3});
  ASSERT_TRUE(Create(wanted).ok());
  v1::TrainRequest train = PairBatch("m", 0, 2);
  train.set_producer_id("p");
  train.set_sequence(1);
  ASSERT_TRUE(Train(train).ok());
  v1::State state;
  const grpc::Status status = Reset("m", &state);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), ElementsAre(0));
  EXPECT_THAT(Doubles(state.running_stats().running_var()), ElementsAre(1));
  EXPECT_EQ(state.running_stats().num_batches_tracked(), 0);
  EXPECT_THAT(Floats(state.parameters().weight()), ElementsAre(3));
  EXPECT_EQ(state.revision(), 3);
  EXPECT_EQ(state.producer_count(), 1);
  v1::TrainResponse trained;
  ASSERT_TRUE(Train(train, &trained).ok());
  EXPECT_EQ(trained.disposition(), v1::DUPLICATE) << "producers stay known";
}

TEST_F(StateServiceTest, FreezesAndUnfreezesIdempotently) {
  const v1::State before = MustCreate("m", 1);
  v1::State frozen;
  ASSERT_TRUE(Freeze("m", &frozen, before.etag()).ok());
  EXPECT_TRUE(frozen.frozen());
  EXPECT_EQ(frozen.revision(), 2);
  EXPECT_NE(frozen.etag(), before.etag());
  v1::State again;
  ASSERT_TRUE(Freeze("m", &again).ok());
  EXPECT_EQ(again.SerializeAsString(), frozen.SerializeAsString()) << "nothing changes";
  EXPECT_EQ(ErrorOf(Freeze("m", nullptr, before.etag())).reason, "ETAG_MISMATCH");

  v1::State thawed;
  ASSERT_TRUE(Unfreeze("m", &thawed, frozen.etag()).ok());
  EXPECT_FALSE(thawed.frozen());
  EXPECT_EQ(thawed.revision(), 3);
  ASSERT_TRUE(Unfreeze("m", &again).ok());
  EXPECT_EQ(again.SerializeAsString(), thawed.SerializeAsString()) << "nothing changes";
  EXPECT_TRUE(Train(PairBatch("m", 0, 2)).ok());
}

TEST_F(StateServiceTest, AFrozenStateIsReadAndNormalizesAndCanBeDeleted) {
  MustCreate("m", 1);
  ASSERT_TRUE(Freeze("m").ok());
  v1::NormalizeRequest request;
  request.set_state("m");
  *request.mutable_input() = Float32Tensor({1, 1}, {5});
  EXPECT_TRUE(Normalize(request).ok());
  EXPECT_TRUE(MustGet("m").frozen());
  EXPECT_TRUE(Delete("m").ok());
}

TEST_F(StateServiceTest, EverythingIsThereAfterARestart) {
  StartServer(OnDisk());
  MustCreate("a/1", 3);
  MustCreate("a/2", 1);
  MustCreate("b", 1);
  ASSERT_TRUE(Train(PairBatch("a/2", 0, 2)).ok());
  ASSERT_TRUE(Freeze("b").ok());
  MustCreate("gone", 1);
  ASSERT_TRUE(Delete("gone").ok());
  std::vector<std::string> before;
  for (const char* name : {"a/1", "a/2", "b"}) before.push_back(MustGet(name).SerializeAsString());
  StartServer(OnDisk());
  std::vector<std::string> after;
  for (const char* name : {"a/1", "a/2", "b"}) after.push_back(MustGet(name).SerializeAsString());
  EXPECT_EQ(after, before);
  v1::ListStatesResponse response;
  ASSERT_TRUE(List(v1::ListStatesRequest(), &response).ok());
  EXPECT_THAT(Names(response), ElementsAre("a/1", "a/2", "b"));
}

}  // namespace
}  // namespace normd::testing
