// What --memory-bytes-max keeps clients from making the server hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/base/limits.h"
#include "tests/server/raw_stream.h"
#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kCallsShare = kMemoryBytesMin / kMemoryParts * kCallsMemoryParts;

// 12 MB on the wire, three times kCallsShare.
constexpr int64_t kNumFeatures = 500'000;

// Calls of one method whose answers are not read, over a connection that takes in next to nothing
// of them.
class UnreadCalls {
 public:
  UnreadCalls(const std::string& address, const std::string& method, const std::string& request,
              int64_t count) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 5);
    channel_ = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    for (int64_t i = 0; i < count; ++i) {
      calls_.push_back(std::make_unique<RawStream>(channel_, method));
      EXPECT_TRUE(calls_.back()->Write(request));
      EXPECT_TRUE(calls_.back()->WritesDone());
    }
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::vector<std::unique_ptr<RawStream>> calls_;
};

class MemoryTest : public ServerTest {
 protected:
  void SetUp() override {
    normd::ServerOptions options = InMemory();
    options.memory_bytes_max = kMemoryBytesMin;
    StartServer(options);
    MustCreate("large", kNumFeatures);
  }

  // Asks for little until the call is answered, or until it is refused, and returns how.
  grpc::Status AskUntil(bool answered) {
    const auto deadline = TestDeadline();
    grpc::Status status;
    do {
      v1::State state;
      status = Get("large", &state, v1::BASIC);
    } while (status.ok() != answered && std::chrono::system_clock::now() < deadline);
    return status;
  }
};

TEST_F(MemoryTest, AnswersThatNobodyReadsKeepOthersFromBeingMade) {
  ASSERT_TRUE(AskUntil(true).ok()) << "the answer of the creation is sent";
  // A client that asks for much and does not read. Alone it may have more than the share.
  v1::GetStateRequest request;
  request.set_name("large");
  request.set_view(v1::FULL);
  grpc::CompletionQueue queue;
  TestContext context;
  const auto unread = states_->AsyncGetState(&context, request, &queue);
  void* tag = nullptr;
  bool ok = false;
  unread->ReadInitialMetadata(nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok));
  ASSERT_TRUE(ok);
  const WireError error = ErrorOf(AskUntil(false));
  EXPECT_EQ(error.code, grpc::StatusCode::RESOURCE_EXHAUSTED) << error;
  EXPECT_EQ(error.reason, "LIMIT_REACHED") << error;
  EXPECT_THAT(error.message, HasSubstr("--memory-bytes-max"));
  v1::ListStatesRequest list;
  list.set_view(v1::FULL);
  v1::ListStatesResponse page;
  EXPECT_EQ(ErrorOf(List(list, &page)).reason, "LIMIT_REACHED");
  EXPECT_EQ(ErrorOf(Create(BatchNormState("new", 1))).reason, "LIMIT_REACHED");

  // Streams have a share of their own.
  TestContext stream_context;
  const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&stream_context);
  ASSERT_TRUE(stream->Write(PairBatch("none", 0, 2)));
  v1::TrainResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(ErrorOf(response.error()).reason, "STATE_NOT_FOUND");
  ASSERT_TRUE(stream->WritesDone());
  EXPECT_TRUE(stream->Finish().ok());

  v1::State state;
  grpc::Status status;
  unread->Finish(&state, &status, nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(state.running_stats().running_var().data().size(), 8 * kNumFeatures);
  EXPECT_TRUE(AskUntil(true).ok());
  EXPECT_TRUE(Create(BatchNormState("new", 1)).ok());
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
}

TEST_F(MemoryTest, CallsThatNobodyReadsAreCountedHoweverSmall) {
  ASSERT_TRUE(AskUntil(true).ok());
  v1::GetStateRequest request;
  request.set_name("large");
  request.set_view(v1::BASIC);
  auto unread =
      std::make_unique<UnreadCalls>(address(), "/normd.v1.StateService/GetState",
                                    request.SerializeAsString(), kCallsShare / kUnaryCallBytes);
  EXPECT_EQ(ErrorOf(AskUntil(false)).reason, "LIMIT_REACHED");
  unread = nullptr;
  EXPECT_TRUE(AskUntil(true).ok()) << "what they held is given back";
}

TEST_F(MemoryTest, HealthChecksThatNobodyReadsHaveALimitOfTheirOwn) {
  constexpr char kCheck[] = "/grpc.health.v1.Health/Check";
  const auto check_until = [&](bool answered) {
    const auto deadline = TestDeadline();
    grpc::Status status;
    do {
      RawStream call(channel_, kCheck);
      call.Write("");
      call.WritesDone();
      call.ReadBytes();
      status = call.Finish();
    } while (status.ok() != answered && std::chrono::system_clock::now() < deadline);
    return status;
  };
  auto unread = std::make_unique<UnreadCalls>(address(), kCheck, "", kStandardCallsMax);
  EXPECT_EQ(ErrorOf(check_until(false)).reason, "LIMIT_REACHED");
  EXPECT_TRUE(AskUntil(true).ok()) << "others are served";
  unread = nullptr;
  EXPECT_TRUE(check_until(true).ok());
}

}  // namespace
}  // namespace normd::testing
