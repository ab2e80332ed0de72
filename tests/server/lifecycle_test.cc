// A server's life: its addresses and its end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/clock.h"
#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"
#include "tests/testing/server_process.h"

namespace normd::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

void NeverFatal(const absl::Status& status) { FAIL() << status; }

class LifecycleTest : public ServerTest {
 protected:
  // Whether a server that keeps its states in memory starts on `listen`.
  static absl::StatusOr<std::unique_ptr<normd::Server>> TryStart(
      const std::vector<std::string>& listen, const std::string& port_file = "") {
    normd::ServerOptions options = InMemory();
    options.listen = listen;
    options.port_file = port_file;
    return normd::Server::Start(options, Clock::System(), &NeverFatal);
  }

  static grpc::Status GetOver(const std::string& address, const std::string& name) {
    const auto stub = v1::StateService::NewStub(Connect(address));
    TestContext context;
    v1::GetStateRequest request;
    request.set_name(name);
    v1::State state;
    return stub->GetState(&context, request, &state);
  }
};

TEST_F(LifecycleTest, ServesOnEveryAddressAtOnce) {
  normd::ServerOptions options = InMemory();
  options.listen = {"127.0.0.1:0", absl::StrCat("unix:", folder(), "/a.sock"), "127.0.0.1:0",
                    absl::StrCat("unix:", folder(), "/b.sock")};
  StartServer(options);
  MustCreate("m", 1);
  const std::vector<std::string> addresses = server_->addresses();
  ASSERT_EQ(addresses.size(), 4);
  EXPECT_THAT(addresses[0], StartsWith("127.0.0.1:"));
  EXPECT_NE(addresses[0], "127.0.0.1:0");
  EXPECT_EQ(addresses[1], options.listen[1]);
  EXPECT_NE(addresses[0], addresses[2]);
  for (const std::string& address : addresses) {
    const grpc::Status status = GetOver(address, "m");
    EXPECT_TRUE(status.ok()) << address << " " << ErrorOf(status);
  }
}

TEST_F(LifecycleTest, AnAddressInUseIsAnErrorThatNamesIt) {
  StartServer(InMemory());
  const auto second = TryStart({"127.0.0.1:0", address()});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(address()));
  EXPECT_FALSE(TryStart({address()}).ok());
  MustCreate("m", 1);
  EXPECT_TRUE(GetOver(address(), "m").ok()) << "the first goes on";
}

TEST_F(LifecycleTest, AUnixSocketInUseIsAnErrorAndAStaleOneIsNot) {
  const std::string socket = absl::StrCat("unix:", folder(), "/normd.sock");
  normd::ServerOptions options = InMemory();
  options.listen = {socket};
  StartServer(options);
  MustCreate("m", 1);
  const auto second = TryStart({socket});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(socket));
  EXPECT_TRUE(GetOver(socket, "m").ok()) << "the first goes on";
  StopServer();

  // What a killed server leaves behind.
  ServerOptions process;
  process.listen = {socket};
  auto killed = ServerProcess::Start(process);
  ASSERT_TRUE(killed.ok()) << killed.status();
  (*killed)->Kill();
  ASSERT_TRUE(std::filesystem::exists(folder() + "/normd.sock"));
  const auto third = TryStart({socket});
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_EQ(ErrorOf(GetOver(socket, "m")).reason, "STATE_NOT_FOUND");
}

TEST_F(LifecycleTest, AnAddressThatIsNoneIsAnErrorThatNamesIt) {
  for (const std::string bad :
       {"127.0.0.1:99999", "127.0.0.1", "127.0.0.1:http", "nowhere.invalid:7117",
        "unix:/no/such/folder/s", "203.0.113.1:7117", ""}) {
    const auto server = TryStart({"127.0.0.1:0", bad});
    ASSERT_FALSE(server.ok()) << bad;
    EXPECT_THAT(std::string(server.status().message()), HasSubstr(absl::StrCat("'", bad, "'")));
  }
}

TEST_F(LifecycleTest, WritesThePortFileAndRemovesItAtTheEnd) {
  const std::string port_file = folder() + "/ports";
  normd::ServerOptions options = InMemory();
  options.listen = {"127.0.0.1:0", absl::StrCat("unix:", folder(), "/normd.sock")};
  options.port_file = port_file;
  StartServer(options);
  EXPECT_EQ(ReadFile(port_file), absl::StrCat(absl::StrJoin(server_->addresses(), "\n"), "\n"));
  EXPECT_FALSE(TryStart({address()}, port_file).ok());
  EXPECT_TRUE(std::filesystem::exists(port_file)) << "a server that never served leaves it alone";
  StopServer();
  EXPECT_FALSE(std::filesystem::exists(port_file));
}

TEST_F(LifecycleTest, APortFileThatCannotBeWrittenIsAnErrorThatNamesIt) {
  const auto server = TryStart({"127.0.0.1:0"}, folder() + "/no/such/folder/ports");
  ASSERT_FALSE(server.ok());
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("/no/such/folder/ports"));
}

TEST_F(LifecycleTest, ADrainedServerTakesNoMoreCallsAndDrainsOnce) {
  StartServer(InMemory());
  server_->Drain();
  server_->Drain();
  v1::State state;
  EXPECT_EQ(Get("m", &state).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(LifecycleTest, TwoServersCannotOpenOneFolder) {
  StartServer(OnDisk());
  normd::ServerOptions options = OnDisk();
  const auto second = normd::Server::Start(options, Clock::System(), &NeverFatal);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(options.data_dir));
}

// What one client of the drain test sent and was told.
struct Ledger {
  std::vector<v1::TrainRequest> sent;
  size_t acknowledged = 0;  // of `sent`, from the front
  grpc::Status end;
};

v1::TrainRequest LedgerUpdate(int client, int64_t sequence) {
  const auto k = static_cast<float>(sequence % 100);
  v1::TrainRequest request = PairBatch(absl::StrCat("m", client % 2), k - 1, k + 1);
  request.set_producer_id(absl::StrCat("p", client));
  request.set_sequence(sequence);
  return request;
}

TEST_F(LifecycleTest, ADrainLosesNothingAcknowledgedAndWhatIsResentIsAppliedOnce) {
  StartServer(OnDisk());
  MustCreate("m0", 1);
  MustCreate("m1", 1);
  constexpr int kClients = 4;
  std::vector<Ledger> ledgers(kClients);
  std::vector<std::thread> clients;
  absl::Mutex mutex;
  int busy = 0;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([&, c] {
      Ledger& ledger = ledgers[c];
      const auto stub = v1::NormalizationService::NewStub(Connect(address()));
      TestContext context;
      const std::unique_ptr<TrainStream> stream = stub->StreamTrain(&context);
      std::thread reader([&] {
        v1::TrainResponse response;
        while (stream->Read(&response)) {
          ASSERT_FALSE(response.has_error()) << ErrorOf(response.error());
          ASSERT_EQ(response.sequence(), static_cast<int64_t>(++ledger.acknowledged));
          if (ledger.acknowledged == 200) {
            absl::MutexLock lock(&mutex);
            ++busy;
          }
        }
      });
      do {
        ledger.sent.push_back(LedgerUpdate(c, static_cast<int64_t>(ledger.sent.size()) + 1));
      } while (stream->Write(ledger.sent.back()));
      reader.join();
      ledger.end = stream->Finish();
    });
  }
  {
    const auto all_busy = [&] { return busy == kClients; };
    absl::MutexLock lock(&mutex);
    mutex.Await(absl::Condition(&all_busy));
  }
  server_->Drain();
  for (std::thread& client : clients) client.join();

  StartServer(OnDisk());
  int64_t total = 0;
  for (int c = 0; c < kClients; ++c) {
    SCOPED_TRACE(c);
    Ledger& ledger = ledgers[c];
    const WireError end = ErrorOf(ledger.end);
    EXPECT_EQ(end.code, grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(end.reason, "SHUTTING_DOWN") << end;
    EXPECT_TRUE(end.has_retry_info);
    total += static_cast<int64_t>(ledger.sent.size());
    // Everything is sent again: what was acknowledged is known, the rest is applied at most once.
    TestContext context;
    const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&context);
    std::thread writer([&] {
      for (const v1::TrainRequest& request : ledger.sent) {
        if (!stream->Write(request)) break;
      }
      stream->WritesDone();
    });
    v1::TrainResponse response;
    size_t answered = 0;
    while (stream->Read(&response)) {
      EXPECT_FALSE(response.has_error()) << ErrorOf(response.error());
      if (answered++ < ledger.acknowledged) {
        EXPECT_EQ(response.disposition(), v1::DUPLICATE) << "an acknowledged update is lost";
      }
    }
    writer.join();
    EXPECT_EQ(answered, ledger.sent.size());
    EXPECT_TRUE(stream->Finish().ok());
  }
  EXPECT_EQ(MustGet("m0").running_stats().num_batches_tracked() +
                MustGet("m1").running_stats().num_batches_tracked(),
            total);
}

TEST_F(LifecycleTest, ADrainDoesNotWaitForeverForAClientThatNeverReads) {
  constexpr int kFeatures = 100'000;
  normd::ServerOptions options = InMemory();
  options.drain_timeout = absl::Milliseconds(200);
  StartServer(options);
  MustCreate("m", kFeatures);
  TestContext context;
  const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&context);
  v1::TrainRequest request;
  request.set_state("m");
  *request.mutable_moments() =
      MakeMoments(2, std::vector<double>(kFeatures, 1.0), std::vector<double>(kFeatures, 1.0));
  request.set_return_moments(true);
  ASSERT_TRUE(stream->Write(request));
  v1::State state;
  do {
    ASSERT_TRUE(Get("m", &state, v1::BASIC).ok());
  } while (state.running_stats().num_batches_tracked() == 0);
  const absl::Time start = absl::Now();
  server_->Drain();
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
  v1::TrainResponse response;
  while (stream->Read(&response)) {
  }
  EXPECT_FALSE(stream->Finish().ok());
}

}  // namespace
}  // namespace normd::testing
