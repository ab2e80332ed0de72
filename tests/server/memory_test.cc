// What --memory-bytes-max keeps clients from making the server hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "core/base/limits.h"
#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

using ::testing::HasSubstr;

// 12 MB on the wire, three times the calls' share of kMemoryBytesMin.
constexpr int64_t kNumFeatures = 500'000;

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

}  // namespace
}  // namespace normd::testing
