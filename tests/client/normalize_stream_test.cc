#include "client/cpp/normalize_stream.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/cpp/client.h"
#include "client/cpp/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_normalization_service.h"
#include "tests/client/stream_testing.h"
#include "tests/testing/seeded_random.h"

namespace normd::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using Action = FakeNormalizationService::Action;
using Message = FakeNormalizationService::Message;

class NormalizeStreamTest : public ::testing::Test {
 protected:
  std::unique_ptr<NormalizeStream> Open(NormalizeStreamOptions options = {}) {
    if (options.retry.retry_timeout == RetryOptions().retry_timeout) options.retry = FastRetry();
    options.on_result = [this](NormalizeResult result) { results_.Add(std::move(result)); };
    return *client_->OpenNormalizeStream(options);
  }

  FakeNormalizationService server_;
  Results<NormalizeResult> results_;
  std::unique_ptr<Client> client_ = ConnectTo(server_.address());
};

Batch BatchOf(int64_t value) { return Batch::Own({1, 1}, {static_cast<float>(value)}); }

TEST_F(NormalizeStreamTest, ReportsEveryResultOnceInTheOrderOfSendingThroughRandomDrops) {
  SeededRandom random;
  server_.OnMessage([&random](const Message&) {
    const uint64_t draw = random() % 60;
    return draw == 0 ? Action::kDropBefore : draw == 1 ? Action::kDropAfter : Action::kAnswer;
  });
  NormalizeStreamOptions options;
  options.window = 16;
  auto stream = Open(options);
  for (int64_t i = 1; i <= 2000; ++i) ASSERT_EQ(*stream->Send("a", BatchOf(i)), i);
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_GT(server_.streams(), 5);
  EXPECT_EQ(results_.Sequences("a"), UpTo(2000));
  for (const NormalizeResult& result : results_.All()) {
    ASSERT_TRUE(result.status.ok()) << result.status;
    ASSERT_THAT(result.output.values(), ElementsAre(static_cast<float>(result.sequence)));
    ASSERT_EQ(result.revision, 1);
  }
}

TEST_F(NormalizeStreamTest, KeepsShapeAndLayout) {
  auto stream = Open();
  ASSERT_TRUE(
      stream->Send("a", Batch::Own({1, 3, 2}, {1, 2, 3, 4, 5, 6}, Layout::kChannelsLast)).ok());
  ASSERT_TRUE(stream->Flush().ok());
  const Batch output = results_.All()[0].output;
  EXPECT_THAT(output.shape(), ElementsAre(1, 3, 2));
  EXPECT_EQ(output.layout(), Layout::kChannelsLast);
  EXPECT_THAT(output.values(), ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST_F(NormalizeStreamTest, HasNoMoreThanAWindowOutstanding) {
  server_.HoldAnswers(true);
  NormalizeStreamOptions options;
  options.window = 4;
  auto stream = Open(options);
  std::thread sender([&stream] {
    for (int64_t i = 1; i <= 100; ++i) ASSERT_TRUE(stream->Send("a", BatchOf(i)).ok());
  });
  ASSERT_TRUE(server_.WaitForMessages(4));
  server_.HoldAnswers(false);
  sender.join();
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_EQ(server_.outstanding_max(), 4);
}

TEST_F(NormalizeStreamTest, ReportsARefusedBatchAndGoesOn) {
  server_.OnMessage([](const Message& message) {
    return message.sequence == 1 ? Action::kRefuse : Action::kAnswer;
  });
  auto stream = Open();
  ASSERT_TRUE(stream->Send("a", BatchOf(1)).ok());
  ASSERT_TRUE(stream->Send("a", BatchOf(2)).ok());
  ASSERT_TRUE(stream->Close().ok());
  const std::vector<NormalizeResult> results = results_.All();
  ASSERT_THAT(results, SizeIs(2));
  EXPECT_EQ(ErrorReason(results[0].status), "NON_FINITE_VALUE");
  EXPECT_TRUE(results[1].status.ok());
}

TEST_F(NormalizeStreamTest, FailsWithTheAddressWhenTheServerStaysAway) {
  server_.Stop();
  NormalizeStreamOptions options;
  options.window = 1;
  options.retry.retry_timeout = absl::Milliseconds(100);
  auto stream = Open(options);
  ASSERT_TRUE(stream->Send("a", BatchOf(1)).ok());
  const absl::Status status = stream->Send("a", BatchOf(2)).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(server_.address()));
}

TEST_F(NormalizeStreamTest, CancelFreesABlockedSend) {
  server_.HoldAnswers(true);
  NormalizeStreamOptions options;
  options.window = 1;
  auto stream = Open(options);
  ASSERT_TRUE(stream->Send("a", BatchOf(1)).ok());
  absl::Status blocked;
  std::thread sender([&] { blocked = stream->Send("a", BatchOf(2)).status(); });
  ASSERT_TRUE(server_.WaitForMessages(1));
  stream->Cancel();
  sender.join();
  server_.HoldAnswers(false);
  EXPECT_TRUE(absl::IsCancelled(blocked)) << blocked;
  EXPECT_TRUE(absl::IsCancelled(stream->Close()));
}

}  // namespace
}  // namespace normd::client
