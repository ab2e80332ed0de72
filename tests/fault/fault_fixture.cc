#include "tests/fault/fault_fixture.h"

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace normd::testing {
namespace {

std::unique_ptr<client::Client> ConnectTo(const std::string& address,
                                          absl::Duration call_timeout = absl::Seconds(30)) {
  client::ClientOptions options;
  options.address = address;
  options.call_timeout = call_timeout;
  auto client = client::Client::Connect(options);
  if (!client.ok()) {
    ADD_FAILURE() << client.status();
    return nullptr;
  }
  return *std::move(client);
}

void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected,
                double relative, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t c = 0; c < actual.size(); ++c) {
    EXPECT_NEAR(actual[c], expected[c], relative * std::abs(expected[c])) << what << " of " << c;
  }
}

void ExpectStats(const client::State& state, const ExpectedStats& expected, double relative) {
  ExpectNear(state.running_mean, expected.mean, relative, state.name + " running_mean");
  ExpectNear(state.running_var, expected.var, relative, state.name + " running_var");
}

}  // namespace

void FaultTest::StartServer(ServerOptions options) {
  options.data_dir = data_.path() + "/states";
  if (!address_.empty()) options.listen = {address_};
  auto server = ServerProcess::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  address_ = server_->address();
}

void FaultTest::StartLoad(int clients) {
  auto load = TrainLoad::Start(address_, clients, random_.seed());
  ASSERT_TRUE(load.ok()) << load.status();
  load_ = *std::move(load);
}

void FaultTest::CheckNothingAcknowledgedIsLost() {
  ServerOptions options;
  options.data_dir = data_.path() + "/states";
  options.listen = {absl::StrCat("unix:", data_.path(), "/check", ++checks_)};
  auto server = ServerProcess::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  const std::unique_ptr<client::Client> client = ConnectTo((*server)->address());
  ASSERT_NE(client, nullptr);
  // Taken now, when every answer of the lost server has arrived.
  const std::vector<LoadProgress> progress = load_->Progress();
  for (size_t i = 0; i < progress.size(); ++i) {
    const auto state = client->GetState(TrainLoad::OwnState(static_cast<int>(i)));
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_GE(state->num_batches_tracked, progress[i].acknowledged) << state->name;
    EXPECT_LE(state->num_batches_tracked, progress[i].sent) << state->name;
    ExpectStats(*state, load_->ExpectedOwn(static_cast<int>(i), state->num_batches_tracked), 1e-12);
  }
}

void FaultTest::FinishLoadAndCheckEveryUpdateOnce() {
  const absl::Status finished = load_->Finish();
  ASSERT_TRUE(finished.ok()) << finished << "\n" << server_->Log();
  std::vector<int64_t> sent;
  int64_t total = 0;
  const std::unique_ptr<client::Client> client = Connect();
  ASSERT_NE(client, nullptr);
  for (const LoadProgress& progress : load_->Progress()) {
    const int number = static_cast<int>(sent.size());
    sent.push_back(progress.sent);
    total += progress.sent;
    const auto state = client->GetState(TrainLoad::OwnState(number));
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_EQ(state->num_batches_tracked, progress.sent) << state->name;
    ExpectStats(*state, load_->ExpectedOwn(number, progress.sent), 1e-12);
  }
  const auto shared = client->GetState(TrainLoad::SharedState());
  ASSERT_TRUE(shared.ok()) << shared.status();
  EXPECT_EQ(shared->num_batches_tracked, total);
  ExpectStats(*shared, load_->ExpectedShared(sent), 1e-9);
  std::cout << total << " updates of " << sent.size() << " clients, " << load_->duplicates()
            << " sent again and recognized" << std::endl;
}

std::unique_ptr<client::Client> FaultTest::Connect(absl::Duration call_timeout) {
  return ConnectTo(address_, call_timeout);
}

}  // namespace normd::testing
