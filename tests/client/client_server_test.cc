// The library against a real server.

#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

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
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ClientServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(StartServer());
    client_ = ConnectTo(server_->address());
  }

  void StartServer() {
    server_ = StartServerIn(folder_);
    ASSERT_NE(server_, nullptr);
  }

  State Create(const std::string& name, int64_t num_features) {
    StateConfig config;
    config.num_features = num_features;
    const auto state = client_->CreateState(name, config);
    EXPECT_TRUE(state.ok()) << state.status();
    return state.value_or(State());
  }

  TempDir folder_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientServerTest, ReplacesAStateInOneChange) {
  const State first = Create("a", 2);
  CreateOptions options;
  options.replace = true;
  options.etag = first.etag;
  InitialValues initial;
  initial.running_var = {-1, 1, 1};
  const StateConfig config = StateConfig::BatchNorm(3);
  EXPECT_EQ(ErrorReason(client_->CreateState("a", config, initial, options).status()),
            "RUNNING_STATS_OUT_OF_RANGE");
  EXPECT_EQ(client_->GetState("a")->revision, first.revision) << "a refusal changes nothing";
  initial.running_var = {4, 1, 1};
  const auto replaced = client_->CreateState("a", config, initial, options);
  ASSERT_TRUE(replaced.ok()) << replaced.status();
  EXPECT_EQ(replaced->config.num_features, 3);
  EXPECT_THAT(replaced->running_var, ElementsAre(4, 1, 1));
  EXPECT_EQ(replaced->revision, first.revision + 1);
  EXPECT_EQ(ErrorReason(client_->CreateState("a", config, {}, options).status()), "ETAG_MISMATCH");
  EXPECT_EQ(ErrorReason(client_->CreateState("b", config, {}, options).status()),
            "STATE_NOT_FOUND");
  options.etag.clear();
  EXPECT_TRUE(client_->CreateState("b", config, {}, options).ok());
}

TEST_F(ClientServerTest, CreatesAStateWithPyTorchsDefaultsAndReadsItBack) {
  Create("a/b", 3);
  const auto state = client_->GetState("a/b");
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->name, "a/b");
  EXPECT_EQ(state->config.num_features, 3);
  EXPECT_EQ(state->config.eps, 1e-5);
  EXPECT_EQ(state->config.momentum, 0.1);
  EXPECT_TRUE(state->config.affine);
  EXPECT_TRUE(state->config.track_running_stats);
  EXPECT_EQ(state->config.correction, 1);
  EXPECT_EQ(state->config.non_finite, NonFinite::kRefuse);
  EXPECT_THAT(state->weight, ElementsAre(1, 1, 1));
  EXPECT_THAT(state->bias, ElementsAre(0, 0, 0));
  EXPECT_THAT(state->running_mean, ElementsAre(0, 0, 0));
  EXPECT_THAT(state->running_var, ElementsAre(1, 1, 1));
  EXPECT_EQ(state->num_batches_tracked, 0);
  EXPECT_EQ(state->revision, 1);
  EXPECT_FALSE(state->etag.empty());
  EXPECT_FALSE(state->frozen);
  EXPECT_GT(state->create_time, absl::FromUnixSeconds(1000000000));
  const auto basic = client_->GetState("a/b", StateView::kBasic);
  ASSERT_TRUE(basic.ok()) << basic.status();
  EXPECT_THAT(basic->weight, IsEmpty());
  EXPECT_THAT(basic->running_mean, IsEmpty());
}

TEST_F(ClientServerTest, CreatesAStateWithEveryFieldOfItsConfigAndInitialValues) {
  StateConfig config;
  config.num_features = 2;
  config.eps = 0.25;
  config.momentum = std::nullopt;
  config.correction = 0;
  config.non_finite = NonFinite::kPropagate;
  InitialValues initial;
  initial.weight = {2, 3};
  initial.bias = {4, 5};
  initial.running_mean = {0.5, 0.1};
  initial.running_var = {7, 8};
  initial.num_batches_tracked = 9;
  const auto created = client_->CreateState("s", config, initial);
  ASSERT_TRUE(created.ok()) << created.status();
  const auto state = client_->GetState("s");
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->config.eps, 0.25);
  EXPECT_EQ(state->config.momentum, std::nullopt);
  EXPECT_EQ(state->config.correction, 0);
  EXPECT_EQ(state->config.non_finite, NonFinite::kPropagate);
  EXPECT_EQ(state->weight, initial.weight);
  EXPECT_EQ(state->bias, initial.bias);
  EXPECT_EQ(state->running_mean, initial.running_mean);
  EXPECT_EQ(state->running_var, initial.running_var);
  EXPECT_EQ(state->num_batches_tracked, 9);
}

TEST_F(ClientServerTest, CarriesCodeReasonAndMessageOfARefusal) {
  const absl::Status missing = client_->GetState("none").status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  EXPECT_EQ(ErrorReason(missing), "STATE_NOT_FOUND");
  EXPECT_THAT(std::string(missing.message()), HasSubstr("none"));
  Create("a", 1);
  EXPECT_EQ(ErrorReason(client_->CreateState("a", StateConfig::BatchNorm(1)).status()),
            "STATE_ALREADY_EXISTS");
  EXPECT_EQ(ErrorReason(client_->CreateState("a/..", StateConfig::BatchNorm(1)).status()),
            "STATE_NAME_INVALID");
  ListOptions bad_page;
  bad_page.page_token = "x";
  EXPECT_EQ(ErrorReason(client_->ListStates(bad_page).status()), "PAGE_TOKEN_INVALID");
  const absl::Status refused =
      client_->Train("a", Batch::Own({2, 1}, {1, std::numeric_limits<float>::infinity()})).status();
  EXPECT_EQ(ErrorReason(refused), "NON_FINITE_VALUE");
  EXPECT_EQ(ErrorMetadata(refused)["index"], "1");
  EXPECT_EQ(ErrorReason(client_->Train("a", Batch::Own({2, 1}, {1})).status()),
            "DATA_LENGTH_MISMATCH");
}

TEST_F(ClientServerTest, ListsPageByPageAndAllInOrder) {
  for (const char* name : {"b/2", "a", "b/1", "b/3"}) Create(name, 1);
  ListOptions options;
  options.prefix = "b/";
  options.page_size = 2;
  const auto page = client_->ListStates(options);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_THAT(page->states, SizeIs(2));
  EXPECT_EQ(page->states[1].name, "b/2");
  EXPECT_FALSE(page->next_page_token.empty());

  StateLister lister = client_->ListAllStates(options);
  std::vector<std::string> names;
  for (;;) {
    const auto state = lister.Next();
    ASSERT_TRUE(state.ok()) << state.status();
    if (!state->has_value()) break;
    names.push_back((*state)->name);
  }
  EXPECT_THAT(names, ElementsAre("b/1", "b/2", "b/3"));
  EXPECT_THAT(lister.damaged(), IsEmpty());
}

TEST_F(ClientServerTest, ChangesConfigParametersAndStatisticsGuardedByTheEtag) {
  const State created = Create("a", 2);
  ConfigUpdate update;
  update.eps = 0.5;
  update.cumulative_average = true;
  const auto updated = client_->UpdateState("a", update, created.etag);
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(updated->config.eps, 0.5);
  EXPECT_EQ(updated->config.momentum, std::nullopt);
  const absl::Status stale = client_->UpdateState("a", update, created.etag).status();
  EXPECT_TRUE(absl::IsAborted(stale)) << stale;
  EXPECT_EQ(ErrorReason(stale), "ETAG_MISMATCH");
  EXPECT_EQ(ErrorReason(client_->UpdateState("a", {}).status()), "UPDATE_MASK_INVALID");
  update = {};
  update.momentum = 0.3;
  update.correction = 0;
  update.non_finite = NonFinite::kPropagate;
  const auto again = client_->UpdateState("a", update);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->config.momentum, 0.3);
  EXPECT_EQ(again->config.correction, 0);
  EXPECT_EQ(again->config.non_finite, NonFinite::kPropagate);

  const std::vector<double> weight = {5, 6};
  const auto set = client_->SetParameters("a", weight, std::nullopt, again->etag);
  ASSERT_TRUE(set.ok()) << set.status();
  const auto read = client_->GetState("a");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->weight, weight);
  EXPECT_THAT(read->bias, ElementsAre(0, 0));

  ASSERT_TRUE(client_->Train("a", Batch::Own({2, 2}, {1, 2, 3, 4})).ok());
  ASSERT_TRUE(client_->ResetRunningStats("a").ok());
  EXPECT_EQ(client_->GetState("a")->num_batches_tracked, 0);

  const auto frozen = client_->FreezeState("a");
  ASSERT_TRUE(frozen.ok()) << frozen.status();
  EXPECT_TRUE(frozen->frozen);
  EXPECT_EQ(ErrorReason(client_->ResetRunningStats("a").status()), "STATE_FROZEN");
  const auto thawed = client_->UnfreezeState("a", frozen->etag);
  ASSERT_TRUE(thawed.ok()) << thawed.status();
  EXPECT_FALSE(thawed->frozen);

  EXPECT_EQ(ErrorReason(client_->DeleteState("a", "stale")), "ETAG_MISMATCH");
  ASSERT_TRUE(client_->DeleteState("a", thawed->etag).ok());
  EXPECT_EQ(ErrorReason(client_->DeleteState("a")), "STATE_NOT_FOUND");
}

TEST_F(ClientServerTest, TrainsWithValuesAndWithMomentsAlikeAndNormalizes) {
  Create("values", 2);
  Create("moments", 2);
  const Batch batch = Batch::Own({3, 2}, {1, 10, 2, 20, 3, 60});
  TrainOptions options;
  options.producer_id = "p";
  options.sequence = 1;
  options.return_output = true;
  options.return_moments = true;
  const auto trained = client_->Train("values", batch, options);
  ASSERT_TRUE(trained.ok()) << trained.status();
  EXPECT_EQ(trained->state, "values");
  EXPECT_EQ(trained->disposition, Disposition::kApplied);
  EXPECT_EQ(trained->num_batches_tracked, 1);
  EXPECT_EQ(trained->durable_sequence, 1);
  ASSERT_TRUE(trained->moments.has_value());
  EXPECT_THAT(trained->moments->mean, ElementsAre(2, 30));
  ASSERT_TRUE(trained->output.has_value());
  EXPECT_THAT(trained->output->shape(), ElementsAre(3, 2));
  EXPECT_NEAR(trained->output->values()[0], -1.2247, 1e-3);
  EXPECT_EQ(client_->Train("values", batch, options)->disposition, Disposition::kDuplicate);

  const auto moments = ComputeMoments(batch);
  ASSERT_TRUE(moments.ok()) << moments.status();
  ASSERT_TRUE(client_->Train("moments", *moments).ok());
  const auto of_values = client_->GetState("values");
  const auto of_moments = client_->GetState("moments");
  ASSERT_TRUE(of_values.ok() && of_moments.ok());
  EXPECT_EQ(of_values->running_mean, of_moments->running_mean);
  EXPECT_EQ(of_values->running_var, of_moments->running_var);

  const auto normalized = client_->Normalize("values", Batch::Own({1, 2}, {0.2f, 3.0f}));
  ASSERT_TRUE(normalized.ok()) << normalized.status();
  EXPECT_THAT(normalized->output.values(), Each(FloatNear(0, 1e-6)));
  EXPECT_EQ(normalized->revision, 2);
}

TEST_F(ClientServerTest, WatchReportsChangesUntilItIsCancelled) {
  auto watch = client_->WatchStates("w/");
  ASSERT_TRUE(watch.ok()) << watch.status();
  Create("other", 1);
  Create("w/a", 1);
  const auto created = (*watch)->Next();
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ((*created)->kind, StateEvent::Kind::kChanged);
  EXPECT_EQ((*created)->name, "w/a");
  EXPECT_EQ((*created)->revision, 1);
  ASSERT_TRUE(client_->DeleteState("w/a").ok());
  const auto deleted = (*watch)->Next();
  ASSERT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_EQ((*deleted)->kind, StateEvent::Kind::kDeleted);

  std::thread canceller([&watch] { (*watch)->Cancel(); });
  const auto nothing = (*watch)->Next();
  canceller.join();
  ASSERT_TRUE(nothing.ok()) << nothing.status();
  EXPECT_FALSE(nothing->has_value());
}

TEST_F(ClientServerTest, WatchIsRefusedForABadPrefixAndEndsWhenTheServerDrains) {
  auto refused = client_->WatchStates("a b");
  ASSERT_TRUE(refused.ok()) << refused.status();
  const absl::Status status = (*refused)->Next().status();
  EXPECT_EQ(ErrorReason(status), "STATE_NAME_INVALID") << status;

  auto watch = client_->WatchStates();
  ASSERT_TRUE(watch.ok()) << watch.status();
  server_->Signal(SIGTERM);
  const auto end = (*watch)->Next();
  EXPECT_TRUE(absl::IsUnavailable(end.status())) << end.status();
}

TEST_F(ClientServerTest, CallsGoOnAsSoonAsTheServerIsBack) {
  Create("a", 1);
  server_->Kill();
  EXPECT_TRUE(absl::IsUnavailable(client_->GetState("a").status()));
  StartServer();
  const auto state = client_->GetState("a");
  EXPECT_TRUE(state.ok()) << state.status();
}

TEST_F(ClientServerTest, StreamsTrainAndNormalize) {
  Create("a", 1);
  Results<TrainResult> trained;
  TrainStreamOptions train;
  train.on_result = [&trained](TrainResult result) { trained.Add(std::move(result)); };
  train.durability = Durability::kRelaxed;
  auto stream = *client_->OpenTrainStream(train);
  SendOptions send;
  send.return_output = true;
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(stream->Send("a", Batch::Own({2, 1}, {1.0f, 3.0f}), send).ok());
  }
  ASSERT_TRUE(stream->Send("none", MomentsOf(2)).ok());
  const absl::Status closed = stream->Close();
  ASSERT_TRUE(closed.ok()) << closed;
  EXPECT_EQ(trained.Sequences("a"), UpTo(500));
  EXPECT_EQ(ErrorReason(trained.All().back().status), "STATE_NOT_FOUND");
  EXPECT_THAT(trained.All()[0].output->values(),
              ElementsAre(FloatNear(-1, 1e-4), FloatNear(1, 1e-4)));
  EXPECT_EQ(client_->GetState("a")->num_batches_tracked, 500);

  Results<NormalizeResult> normalized;
  NormalizeStreamOptions options;
  options.on_result = [&normalized](NormalizeResult result) { normalized.Add(std::move(result)); };
  auto normalize = *client_->OpenNormalizeStream(options);
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(normalize->Send("a", Batch::Own({1, 1}, {2.0f})).ok());
  }
  ASSERT_TRUE(normalize->Close().ok());
  EXPECT_EQ(normalized.Sequences("a"), UpTo(500));
  for (const NormalizeResult& result : normalized.All()) {
    ASSERT_TRUE(result.status.ok()) << result.status;
    ASSERT_THAT(result.output.values(), ElementsAre(FloatNear(0, 1e-4)));
  }
}

class ClientServerKillTest : public ClientServerTest,
                             public ::testing::WithParamInterface<Durability> {};

TEST_P(ClientServerKillTest, AppliesEveryUpdateOnceThroughKillsOfTheServer) {
  constexpr int64_t kUpdates = 6000;
  SeededRandom random;
  for (const char* name : {"a", "b", "c"}) Create(name, 1);
  Results<TrainResult> results;
  TrainStreamOptions options;
  options.durability = GetParam();
  options.retry = FastRetry();
  options.on_result = [&results](TrainResult result) { results.Add(std::move(result)); };
  auto stream = *client_->OpenTrainStream(options);
  std::thread sender([&stream] {
    for (int64_t i = 1; i <= kUpdates; ++i) {
      for (const char* name : {"a", "b", "c"}) {
        if (!stream->Send(name, MomentsOf(2)).ok()) return;
      }
    }
  });
  for (int kill = 1; kill <= 5; ++kill) {
    EXPECT_TRUE(results.WaitFor(kill * 3 * kUpdates / 8 + random() % 1000));
    server_->Kill();
    StartServer();
    if (HasFatalFailure()) stream->Cancel();
  }
  sender.join();
  const absl::Status closed = stream->Close();
  ASSERT_TRUE(closed.ok()) << closed;
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_EQ(client_->GetState(name)->num_batches_tracked, kUpdates);
    EXPECT_EQ(results.Sequences(name), UpTo(kUpdates));
  }
}

INSTANTIATE_TEST_SUITE_P(Durabilities, ClientServerKillTest,
                         ::testing::Values(Durability::kDurable, Durability::kRelaxed),
                         [](const auto& test) {
                           return test.param == Durability::kDurable ? "Durable" : "Relaxed";
                         });

TEST(ClientConnectTest, SaysWhereNoServerIsAndWhy) {
  ClientOptions options;
  options.address = "unix:/tmp/normd_nobody_listens_here.sock";
  options.connect_timeout = absl::Milliseconds(150);
  const absl::Status status = Client::Connect(options).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(options.address), HasSubstr("150ms"), HasSubstr("No such file")));
}

TEST(ClientConnectTest, WithoutWaitingTheFirstCallSaysThatNoServerIsThere) {
  auto client = ConnectTo("127.0.0.1:1");
  EXPECT_EQ(client->address(), "127.0.0.1:1");
  const absl::Status status = client->GetState("a").status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(ErrorReason(status), "");
  auto watch = client->WatchStates();
  ASSERT_TRUE(watch.ok()) << watch.status();
  EXPECT_TRUE(absl::IsUnavailable((*watch)->Next().status()));
}

TEST(ClientConnectTest, RefusesOptionsOutOfRange) {
  ClientOptions options;
  EXPECT_TRUE(absl::IsInvalidArgument(Client::Connect(options).status()));
  options.address = "127.0.0.1:1";
  options.message_bytes_max = 1;
  EXPECT_TRUE(absl::IsInvalidArgument(Client::Connect(options).status()));
  options = {};
  options.address = "127.0.0.1:1";
  options.call_timeout = absl::ZeroDuration();
  EXPECT_TRUE(absl::IsInvalidArgument(Client::Connect(options).status()));
}

}  // namespace
}  // namespace normd::client
