#include "client/cpp/backward_stream.h"

#include <memory>
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
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Action = FakeNormalizationService::Action;
using Message = FakeNormalizationService::Message;

class BackwardStreamTest : public ::testing::Test {
 protected:
  std::unique_ptr<BackwardStream> Open(BackwardStreamOptions options = {}) {
    options.retry = FastRetry();
    options.on_result = [this](BackwardResult result) { results_.Add(std::move(result)); };
    return *client_->OpenBackwardStream(options);
  }

  // Sends a gradient that the server knows again by `number`.
  static absl::StatusOr<int64_t> Send(BackwardStream& stream, int64_t number,
                                      const BackwardSendOptions& options) {
    return stream.Send("a", Batch::Own({1, 1}, {0.0f}),
                       Batch::Own({1, 1}, {static_cast<float>(number)}), options);
  }

  FakeNormalizationService server_;
  Results<BackwardResult> results_;
  std::unique_ptr<Client> client_ = ConnectTo(server_.address());
};

BackwardSendOptions Applying() {
  BackwardSendOptions options;
  options.apply = true;
  return options;
}

TEST_F(BackwardStreamTest, ReportsGradientsInTheOrderOfSending) {
  auto stream = Open();
  for (int64_t i = 1; i <= 300; ++i) ASSERT_EQ(*Send(*stream, i, {}), i);
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_EQ(results_.Sequences("a"), UpTo(300));
  for (const BackwardResult& result : results_.All()) {
    ASSERT_TRUE(result.status.ok()) << result.status;
    ASSERT_THAT(result.grad_input->values(), ElementsAre(static_cast<float>(result.sequence)));
    ASSERT_THAT(result.grad_weight, ElementsAre(static_cast<double>(result.sequence)));
  }
  EXPECT_THAT(server_.Durable("a"), IsEmpty());
  EXPECT_THAT(stream->Pending(), IsEmpty());
}

TEST_F(BackwardStreamTest, LeavesOutGradInputWhenAsked) {
  auto stream = Open();
  BackwardSendOptions options;
  options.return_grad_input = false;
  ASSERT_TRUE(Send(*stream, 1, options).ok());
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_FALSE(results_.All()[0].grad_input.has_value());
}

TEST_F(BackwardStreamTest, AppliesEveryGradientOnceThroughRandomDropsAndCrashes) {
  SeededRandom random;
  server_.OnMessage([&random](const Message&) {
    switch (random() % 80) {
      case 0:
        return Action::kDropBefore;
      case 1:
        return Action::kDropAfter;
      case 2:
        return Action::kCrashBefore;
      case 3:
        return Action::kCrashAfter;
      default:
        return Action::kAnswer;
    }
  });
  BackwardStreamOptions options;
  options.window = 16;
  auto stream = Open(options);
  for (int64_t i = 1; i <= 2000; ++i) ASSERT_EQ(*Send(*stream, i, Applying()), i);
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_GT(server_.streams(), 5);
  EXPECT_EQ(server_.Durable("a"), UpTo(2000));
  EXPECT_EQ(results_.Sequences("a"), UpTo(2000));
}

TEST_F(BackwardStreamTest, AStepWhoseAnswerWasLostComesBackAsADuplicateWithoutGradients) {
  server_.OnMessage([](const Message& message) {
    return message.number == 2 ? Action::kDropAfter : Action::kAnswer;
  });
  BackwardStreamOptions options;
  options.window = 1;
  auto stream = Open(options);
  for (int64_t i = 1; i <= 3; ++i) ASSERT_TRUE(Send(*stream, i, Applying()).ok());
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_THAT(server_.Durable("a"), ElementsAre(1, 2, 3));
  const std::vector<BackwardResult> results = results_.All();
  ASSERT_THAT(results, SizeIs(3));
  EXPECT_EQ(results[0].disposition, Disposition::kApplied);
  EXPECT_TRUE(results[0].grad_input.has_value());
  ASSERT_TRUE(results[1].status.ok()) << results[1].status;
  EXPECT_EQ(results[1].disposition, Disposition::kDuplicate);
  EXPECT_FALSE(results[1].grad_input.has_value());
  EXPECT_THAT(results[1].grad_weight, IsEmpty());
  EXPECT_EQ(results[2].disposition, Disposition::kApplied);
}

TEST_F(BackwardStreamTest, CountsSequencesFromTheFirst) {
  BackwardStreamOptions options;
  options.first_sequence = 41;
  options.producer_id = "p";
  auto stream = Open(options);
  EXPECT_EQ(stream->producer_id(), "p");
  EXPECT_EQ(*Send(*stream, 1, Applying()), 41);
  BackwardSendOptions send = Applying();
  send.sequence = 50;
  EXPECT_EQ(*Send(*stream, 2, send), 50);
  EXPECT_EQ(ErrorReason(Send(*stream, 3, send).status()), "SEQUENCE_INVALID");
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_THAT(server_.Durable("a"), ElementsAre(1, 2));
  EXPECT_EQ(results_.All()[1].optimizer_step, 2);
}

TEST_F(BackwardStreamTest, ReportsARefusedGradientAndGoesOn) {
  server_.OnMessage([](const Message& message) {
    return message.sequence == 2 ? Action::kRefuse : Action::kAnswer;
  });
  auto stream = Open();
  for (int64_t i = 1; i <= 3; ++i) ASSERT_TRUE(Send(*stream, i, Applying()).ok());
  ASSERT_TRUE(stream->Close().ok());
  const std::vector<BackwardResult> results = results_.All();
  ASSERT_THAT(results, SizeIs(3));
  EXPECT_EQ(ErrorReason(results[1].status), "NON_FINITE_VALUE");
  EXPECT_EQ(results[1].disposition, Disposition::kRefused);
  EXPECT_THAT(server_.Durable("a"), ElementsAre(1, 3));
}

TEST_F(BackwardStreamTest, CancelFreesABlockedSend) {
  server_.HoldAnswers(true);
  BackwardStreamOptions options;
  options.window = 1;
  auto stream = Open(options);
  ASSERT_TRUE(Send(*stream, 1, {}).ok());
  absl::Status blocked;
  std::thread sender([&] { blocked = Send(*stream, 2, {}).status(); });
  ASSERT_TRUE(server_.WaitForMessages(1));
  stream->Cancel();
  sender.join();
  server_.HoldAnswers(false);
  EXPECT_TRUE(absl::IsCancelled(blocked)) << blocked;
  EXPECT_TRUE(absl::IsCancelled(stream->Close()));
  EXPECT_THAT(stream->Pending(), SizeIs(1));
}

TEST(BackwardStreamOptionsTest, RefusesOptionsOutOfRange) {
  auto client = ConnectTo("127.0.0.1:1");
  BackwardStreamOptions options;
  options.window = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(client->OpenBackwardStream(options).status()));
  options = {};
  options.first_sequence = 0;
  EXPECT_EQ(ErrorReason(client->OpenBackwardStream(options).status()), "SEQUENCE_INVALID");
}

}  // namespace
}  // namespace normd::client
