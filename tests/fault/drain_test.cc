// SIGTERM under load: promise 4 of the design.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "normd/v1/normalization_service.grpc.pb.h"
#include "normd/v1/state_service.grpc.pb.h"
#include "tests/fault/fault_fixture.h"
#include "tests/testing/health_watch.h"

namespace normd::testing {
namespace {

using ::testing::HasSubstr;

v1::NormalizeRequest PairRequest() {
  v1::NormalizeRequest request;
  request.set_state("m");
  request.mutable_input()->set_dtype(v1::FLOAT32);
  request.mutable_input()->add_shape(2);
  request.mutable_input()->add_shape(1);
  request.mutable_input()->set_data(std::string(8, '\0'));
  return request;
}

// Clients that call over one connection, each anew as soon as it is answered, until a call of
// theirs fails: most calls of the unary ones wait for their turn at the server.
class CallLoad {
 public:
  CallLoad(const std::string& address, int unary_clients, int stream_clients)
      : channel_(grpc::CreateChannel(address, grpc::InsecureChannelCredentials())),
        data_(v1::NormalizationService::NewStub(channel_)),
        states_(v1::StateService::NewStub(channel_)) {
    v1::CreateStateRequest create;
    create.mutable_state()->set_name("m");
    create.mutable_state()->mutable_config()->set_kind(v1::NormConfig::BATCH_NORM);
    create.mutable_state()->mutable_config()->set_num_features(1);
    grpc::ClientContext context;
    v1::State state;
    const grpc::Status status = states_->CreateState(&context, create, &state);
    EXPECT_TRUE(status.ok()) << status.error_message();
    threads_.emplace_back([this, unary_clients] { CallUnary(unary_clients); });
    for (int i = 0; i < stream_clients; ++i) threads_.emplace_back([this] { CallStreams(); });
  }

  // Waits until so many calls were answered; false when a call failed instead.
  bool AwaitAnswers(int64_t count) {
    const auto enough = [this, count] {
      mutex_.AssertReaderHeld();
      return answers_ >= count || !failures_.empty();
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&enough));
    return failures_.empty();
  }

  // From Hold to Release the unary clients take no answer and send no call.
  void Hold() { SetHeld(true); }
  void Release() { SetHeld(false); }

  // How each client's last call failed, once all have.
  std::vector<grpc::Status> AwaitFailures() {
    for (std::thread& thread : threads_) thread.join();
    absl::MutexLock lock(&mutex_);
    return failures_;
  }

 private:
  struct UnaryClient {
    std::unique_ptr<grpc::ClientContext> context;
    std::unique_ptr<grpc::ClientAsyncResponseReader<v1::NormalizeResponse>> reader;
    v1::NormalizeResponse response;
    grpc::Status status;
  };

  void SetHeld(bool held) {
    absl::MutexLock lock(&mutex_);
    held_ = held;
  }

  void AwaitRelease() {
    const auto released = [this] {
      mutex_.AssertReaderHeld();
      return !held_;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&released));
  }

  // Whether the client goes on.
  bool Record(const grpc::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (status.ok()) {
      ++answers_;
    } else {
      failures_.push_back(status);
    }
    return status.ok();
  }

  void CallUnary(int clients) {
    const v1::NormalizeRequest request = PairRequest();
    grpc::CompletionQueue queue;
    const auto start = [&](UnaryClient& client) {
      client.context = std::make_unique<grpc::ClientContext>();
      client.reader = data_->AsyncNormalize(client.context.get(), request, &queue);
      client.reader->Finish(&client.response, &client.status, &client);
    };
    std::vector<UnaryClient> all(static_cast<size_t>(clients));
    for (UnaryClient& client : all) start(client);
    void* tag = nullptr;
    bool ok = false;
    for (int open = clients; open > 0 && queue.Next(&tag, &ok);) {
      AwaitRelease();
      auto* const client = static_cast<UnaryClient*>(tag);
      if (Record(client->status)) {
        start(*client);
      } else {
        --open;
      }
    }
  }

  void CallStreams() {
    const v1::NormalizeRequest request = PairRequest();
    grpc::Status status;
    do {
      grpc::ClientContext context;
      const auto stream = data_->StreamNormalize(&context);
      v1::NormalizeResponse response;
      for (int i = 0; i < 20 && stream->Write(request) && stream->Read(&response); ++i) {
      }
      stream->WritesDone();
      status = stream->Finish();
    } while (Record(status));
  }

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::NormalizationService::Stub> data_;
  const std::unique_ptr<v1::StateService::Stub> states_;
  std::vector<std::thread> threads_;

  absl::Mutex mutex_;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t answers_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<grpc::Status> failures_ ABSL_GUARDED_BY(mutex_);
};

class DrainTest : public FaultTest {
 protected:
  static constexpr int kUnaryClients = 1000;
  static constexpr int kStreamClients = 4;

  // Ends a server under load by `end`, which sends SIGTERM, and checks that its clients are told.
  void CheckClientsAreTold(const std::function<void(ServerProcess&, CallLoad&)>& end) {
    auto server = ServerProcess::Start({});
    ASSERT_TRUE(server.ok()) << server.status();
    CallLoad load((*server)->address(), kUnaryClients, kStreamClients);
    EXPECT_TRUE(load.AwaitAnswers(3 * kUnaryClients));
    end(**server, load);
    const std::vector<grpc::Status> failures = load.AwaitFailures();
    EXPECT_EQ(failures.size(), kUnaryClients + kStreamClients);
    // On a busy machine a few clients are late: their next call comes when the server closes its
    // connections, or is gone. Without the gate only the streams are told.
    int told = 0;
    for (const grpc::Status& status : failures) {
      if (status.error_code() == grpc::StatusCode::CANCELLED ||
          absl::StrContains(status.error_message(), "failed to connect")) {
        continue;
      }
      ASSERT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
      ASSERT_THAT(status.error_details(), HasSubstr("SHUTTING_DOWN")) << status.error_message();
      ++told;
    }
    EXPECT_GT(told, (kUnaryClients + kStreamClients) * 3 / 4);
    const auto ended = (*server)->Wait(absl::Seconds(40));
    ASSERT_TRUE(ended.has_value()) << (*server)->Log();
    EXPECT_EQ(ended->code, 0) << (*server)->Log();
  }
};

TEST_F(DrainTest, LosesNothingAcknowledgedAndExitsWithZero) {
  StartServer();
  StartLoad(4);
  const absl::Status flowing = load_->WaitForResults(500);
  ASSERT_TRUE(flowing.ok()) << flowing;
  server_->Signal(SIGTERM);
  const auto ended = server_->Wait(absl::Seconds(40));
  ASSERT_TRUE(ended.has_value()) << "still running 40 s after SIGTERM\n" << server_->Log();
  EXPECT_EQ(ended->signal, 0) << server_->Log();
  EXPECT_EQ(ended->code, 0) << server_->Log();
  CheckNothingAcknowledgedIsLost();
  StartServer();
  FinishLoadAndCheckEveryUpdateOnce();
}

TEST_F(DrainTest, TurnsHealthToNotServing) {
  StartServer();
  StartLoad(1);
  HealthWatch health(address_, "normd.v1.NormalizationService");
  ASSERT_EQ(health.Next(), HealthStatus::kServing);
  server_->Signal(SIGTERM);
  EXPECT_EQ(health.Next(), HealthStatus::kNotServing);
  const auto ended = server_->Wait(absl::Seconds(40));
  ASSERT_TRUE(ended.has_value()) << server_->Log();
  EXPECT_EQ(ended->code, 0) << server_->Log();
}

TEST_F(DrainTest, TellsCallsThatItShutsDown) {
  for (int round = 0; round < 3; ++round) {
    CheckClientsAreTold([](ServerProcess& server, CallLoad&) { server.Signal(SIGTERM); });
  }
}

TEST_F(DrainTest, TellsCallsOfClientsThatPause) {
  for (int round = 0; round < 3; ++round) {
    CheckClientsAreTold([](ServerProcess& server, CallLoad& load) {
      // They have all their answers when SIGTERM comes, and send their next calls after it.
      load.Hold();
      EXPECT_FALSE(server.Wait(absl::Milliseconds(50)).has_value());
      server.Signal(SIGTERM);
      EXPECT_FALSE(server.Wait(absl::Milliseconds(100)).has_value());
      load.Release();
    });
  }
}

TEST_F(DrainTest, TellsCallsWhenItPauses) {
  for (const int milliseconds : {0, 1, 3, 10, 50}) {
    SCOPED_TRACE(milliseconds);
    CheckClientsAreTold([milliseconds](ServerProcess& server, CallLoad& load) {
      // All its time for them is over when it goes on, and they have come meanwhile.
      load.Hold();
      server.Signal(SIGTERM);
      EXPECT_FALSE(server.Wait(absl::Milliseconds(milliseconds)).has_value());
      server.Signal(SIGSTOP);
      load.Release();
      EXPECT_FALSE(server.Wait(absl::Milliseconds(1500)).has_value());
      server.Signal(SIGCONT);
    });
  }
}

TEST_F(DrainTest, EndsAtOnceWithoutClients) {
  StartServer();
  server_->Signal(SIGTERM);
  const auto ended = server_->Wait(absl::Seconds(10));
  ASSERT_TRUE(ended.has_value()) << server_->Log();
  EXPECT_EQ(ended->code, 0) << server_->Log();
}

}  // namespace
}  // namespace normd::testing
