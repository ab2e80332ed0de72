#include "client/cpp/train_stream.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "client/cpp/client.h"
#include "client/cpp/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_normalization_service.h"
#include "tests/client/stream_testing.h"

namespace normd::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;
using Action = FakeNormalizationService::Action;
using Message = FakeNormalizationService::Message;

class TrainStreamTest : public ::testing::Test {
 protected:
  std::unique_ptr<TrainStream> Open(TrainStreamOptions options = {}) {
    options.retry = FastRetry();
    if (!options.on_result) {
      options.on_result = [this](TrainResult result) { results_.Add(std::move(result)); };
    }
    return *client_->OpenTrainStream(options);
  }

  FakeNormalizationService server_;
  Results<TrainResult> results_;
  std::unique_ptr<Client> client_ = ConnectTo(server_.address());
};

TEST_F(TrainStreamTest, ReportsResultsInTheOrderOfSending) {
  auto stream = Open();
  for (int64_t i = 1; i <= 500; ++i) {
    ASSERT_EQ(*stream->Send(i % 2 == 0 ? "even" : "odd", MomentsOf(i)), (i + 1) / 2);
  }
  ASSERT_TRUE(stream->Close().ok());

  const std::vector<TrainResult> results = results_.All();
  ASSERT_THAT(results, SizeIs(500));
  for (size_t i = 0; i < results.size(); ++i) {
    ASSERT_TRUE(results[i].status.ok()) << results[i].status;
    ASSERT_EQ(results[i].state, i % 2 == 0 ? "odd" : "even");
    ASSERT_EQ(results[i].sequence, static_cast<int64_t>(i / 2 + 1));
    ASSERT_EQ(results[i].disposition, Disposition::kApplied);
    ASSERT_EQ(results[i].durable_sequence, results[i].sequence);
  }
  EXPECT_THAT(server_.Durable("odd"), SizeIs(250));
  EXPECT_EQ(server_.streams(), 1);
}

TEST_F(TrainStreamTest, HasNoMoreThanAWindowOutstanding) {
  server_.HoldAnswers(true);
  TrainStreamOptions options;
  options.window = 4;
  auto stream = Open(options);
  std::thread sender([&stream] {
    for (int64_t i = 1; i <= 100; ++i) ASSERT_TRUE(stream->Send("a", MomentsOf(i)).ok());
  });
  ASSERT_TRUE(server_.WaitForMessages(4));
  server_.HoldAnswers(false);
  sender.join();
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_EQ(server_.outstanding_max(), 4);
  EXPECT_EQ(server_.Durable("a"), UpTo(100));
}

TEST_F(TrainStreamTest, HoldsNoMoreThanTheBytesAllowed) {
  server_.HoldAnswers(true);
  TrainStreamOptions options;
  options.held_bytes_max = 10000;
  auto stream = Open(options);
  const std::vector<float> values(1000);
  std::thread sender([&stream, &values] {
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(stream->Send("a", Batch::Borrow({100, 10}, values)).ok());
    }
  });
  ASSERT_TRUE(server_.WaitForMessages(2));
  server_.HoldAnswers(false);
  sender.join();
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_EQ(server_.outstanding_max(), 2);
}

TEST_F(TrainStreamTest, SendsAnUpdateLargerThanAllThatMayBeHeld) {
  TrainStreamOptions options;
  options.held_bytes_max = 100;
  options.durability = Durability::kRelaxed;
  auto stream = Open(options);
  const std::vector<float> values(1000);
  ASSERT_TRUE(stream->Send("small", MomentsOf(1)).ok());
  ASSERT_TRUE(stream->Send("large", Batch::Borrow({100, 10}, values)).ok());
  ASSERT_TRUE(stream->Send("small", MomentsOf(2)).ok());
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_EQ(server_.Durable("small"), UpTo(2));
}

TEST_F(TrainStreamTest, CountsSequencesFromTheFirstPerState) {
  TrainStreamOptions options;
  options.first_sequence = 41;
  auto stream = Open(options);
  EXPECT_EQ(*stream->Send("a", MomentsOf(1)), 41);
  EXPECT_EQ(*stream->Send("b", MomentsOf(1)), 41);
  EXPECT_EQ(*stream->Send("a", MomentsOf(2)), 42);
  SendOptions send;
  send.sequence = 100;
  EXPECT_EQ(*stream->Send("a", MomentsOf(3), send), 100);
  EXPECT_EQ(*stream->Send("a", MomentsOf(4)), 101);
  send.sequence = 101;
  const absl::Status refused = stream->Send("a", MomentsOf(5), send).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_EQ(ErrorReason(refused), "SEQUENCE_INVALID");
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_THAT(server_.Durable("a"), ElementsAre(1, 2, 3, 4));
}

TEST_F(TrainStreamTest, NamesItselfAtRandomWhenGivenNoProducer) {
  auto one = Open();
  auto other = Open();
  EXPECT_THAT(one->producer_id(), SizeIs(32));
  EXPECT_NE(one->producer_id(), other->producer_id());
}

TEST_F(TrainStreamTest, ReportsARefusedUpdateAndGoesOn) {
  server_.OnMessage([](const Message& message) {
    return message.sequence == 2 ? Action::kRefuse : Action::kAnswer;
  });
  auto stream = Open();
  for (int64_t i = 1; i <= 3; ++i) ASSERT_TRUE(stream->Send("a", MomentsOf(i)).ok());
  ASSERT_TRUE(stream->Close().ok());

  const std::vector<TrainResult> results = results_.All();
  ASSERT_THAT(results, SizeIs(3));
  EXPECT_TRUE(results[0].status.ok());
  EXPECT_TRUE(results[2].status.ok());
  EXPECT_EQ(results[1].disposition, Disposition::kRefused);
  EXPECT_TRUE(absl::IsInvalidArgument(results[1].status));
  EXPECT_EQ(results[1].status.message(), "state 'a': value 7 is nan");
  EXPECT_EQ(ErrorReason(results[1].status), "NON_FINITE_VALUE");
  EXPECT_THAT(ErrorMetadata(results[1].status), ElementsAre(Pair("index", "7")));
  EXPECT_THAT(server_.Durable("a"), ElementsAre(1, 3));
}

TEST_F(TrainStreamTest, HoldsAnsweredRelaxedUpdatesUntilTheyAreDurable) {
  TrainStreamOptions options;
  options.durability = Durability::kRelaxed;
  auto stream = Open(options);
  for (int64_t i = 1; i <= 3; ++i) ASSERT_TRUE(stream->Send("a", MomentsOf(i)).ok());
  ASSERT_TRUE(results_.WaitFor(3));
  EXPECT_THAT(server_.Durable("a"), IsEmpty());
  EXPECT_THAT(stream->Pending(), SizeIs(3));
}

TEST_F(TrainStreamTest, FlushMakesRelaxedUpdatesDurableByOneFenceAState) {
  TrainStreamOptions options;
  options.durability = Durability::kRelaxed;
  auto stream = Open(options);
  for (int64_t i = 1; i <= 5; ++i) {
    ASSERT_TRUE(stream->Send("a", MomentsOf(i)).ok());
    ASSERT_TRUE(stream->Send("b", MomentsOf(i)).ok());
  }
  ASSERT_TRUE(stream->Flush().ok());
  EXPECT_EQ(server_.Durable("a"), UpTo(5));
  EXPECT_EQ(server_.Durable("b"), UpTo(5));
  EXPECT_THAT(stream->Pending(), IsEmpty());
  EXPECT_EQ(server_.duplicates(), 2);
  EXPECT_THAT(results_.All(), SizeIs(10));
}

TEST_F(TrainStreamTest, HoldsAtMostFourWindowsOfRelaxedUpdates) {
  TrainStreamOptions options;
  options.durability = Durability::kRelaxed;
  options.window = 4;
  auto stream = Open(options);
  for (int64_t i = 0; i < 600; ++i) {
    ASSERT_TRUE(stream->Send(absl::StrCat("state", i % 100), MomentsOf(i / 100 + 1)).ok());
    ASSERT_LE(stream->Pending().size(), 16u);
  }
  ASSERT_TRUE(stream->Close().ok());
  for (int i = 0; i < 100; ++i) ASSERT_EQ(server_.Durable(absl::StrCat("state", i)), UpTo(6));
}

TEST_F(TrainStreamTest, SendsEveryWindowthRelaxedUpdateAsADurableOne) {
  std::atomic<int> durable{0};
  server_.OnMessage([&durable](const Message& message) {
    durable += message.durability == v1::DURABLE;
    return Action::kAnswer;
  });
  TrainStreamOptions options;
  options.durability = Durability::kRelaxed;
  options.window = 10;
  auto stream = Open(options);
  for (int64_t i = 1; i <= 100; ++i) ASSERT_TRUE(stream->Send("a", MomentsOf(i)).ok());
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_EQ(durable, 10);
  EXPECT_EQ(server_.duplicates(), 0);
}

TEST_F(TrainStreamTest, CloseEndsTheStreamAndSendFailsAfterIt) {
  auto stream = Open();
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  EXPECT_TRUE(stream->Close().ok());
  EXPECT_TRUE(stream->Close().ok());
  const absl::Status status = stream->Send("a", MomentsOf(2)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

TEST_F(TrainStreamTest, CancelFreesABlockedSendAndNoCallbackRunsAfterIt) {
  server_.HoldAnswers(true);
  TrainStreamOptions options;
  options.window = 1;
  std::atomic<int> results{0};
  options.on_result = [&results](const TrainResult&) { ++results; };
  auto stream = Open(options);
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  absl::Status blocked;
  std::thread sender([&] { blocked = stream->Send("a", MomentsOf(2)).status(); });
  ASSERT_TRUE(server_.WaitForMessages(1));
  stream->Cancel();
  const int results_at_cancel = results;
  sender.join();
  server_.HoldAnswers(false);
  EXPECT_TRUE(absl::IsCancelled(blocked)) << blocked;
  EXPECT_TRUE(absl::IsCancelled(stream->Flush()));
  EXPECT_TRUE(absl::IsCancelled(stream->Close()));
  EXPECT_THAT(stream->Pending(), SizeIs(1));
  stream.reset();
  EXPECT_EQ(results, results_at_cancel);
}

TEST_F(TrainStreamTest, CancelWaitsForACallbackThatRuns) {
  absl::Notification entered;
  absl::Notification leave;
  std::atomic<bool> left{false};
  TrainStreamOptions options;
  options.on_result = [&](const TrainResult&) {
    entered.Notify();
    leave.WaitForNotification();
    left = true;
  };
  auto stream = Open(options);
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  entered.WaitForNotification();
  std::thread canceller([&] {
    stream->Cancel();
    EXPECT_TRUE(left);
  });
  // Flush() returns only when Cancel() has begun.
  EXPECT_TRUE(absl::IsCancelled(stream->Flush()));
  leave.Notify();
  canceller.join();
}

TEST_F(TrainStreamTest, CanBeCancelledFromItsCallback) {
  TrainStreamOptions options;
  TrainStream* self = nullptr;
  std::atomic<int> results{0};
  options.on_result = [&](const TrainResult&) {
    ++results;
    self->Cancel();
  };
  auto stream = Open(options);
  self = stream.get();
  server_.HoldAnswers(true);
  for (int64_t i = 1; i <= 3; ++i) ASSERT_TRUE(stream->Send("a", MomentsOf(i)).ok());
  server_.HoldAnswers(false);
  EXPECT_TRUE(absl::IsCancelled(stream->Flush()));
  stream.reset();
  EXPECT_EQ(results, 1);
}

TEST_F(TrainStreamTest, FailsWhenTheServerAnswersWhatWasNotAsked) {
  server_.OnMessage([](const Message&) { return Action::kMisnumber; });
  auto stream = Open();
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  const absl::Status status = stream->Flush();
  EXPECT_TRUE(absl::IsInternal(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("expected the answer to sequence 1"));
}

TEST_F(TrainStreamTest, RefusesAMessageAboveTheClientsLimitAndGoesOn) {
  ClientOptions options;
  options.address = server_.address();
  options.message_bytes_max = 64 << 10;
  auto client = *Client::Connect(options);
  auto stream = *client->OpenTrainStream({});
  const std::vector<float> values(20000);
  const absl::Status status = stream->Send("a", Batch::Borrow({2000, 10}, values)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(ErrorReason(status), "MESSAGE_TOO_LARGE");
  ASSERT_EQ(*stream->Send("a", MomentsOf(1)), 1);
  EXPECT_TRUE(stream->Close().ok());
}

TEST_F(TrainStreamTest, ManyThreadsEachWithAStreamLoseNothing) {
  constexpr int kThreads = 8;
  constexpr int64_t kUpdates = 300;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t] {
      auto stream = Open();
      for (int64_t i = 1; i <= kUpdates; ++i) {
        ASSERT_TRUE(stream->Send(absl::StrCat("state", t), MomentsOf(i)).ok());
      }
      ASSERT_TRUE(stream->Close().ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < kThreads; ++t) {
    ASSERT_EQ(server_.Durable(absl::StrCat("state", t)), UpTo(kUpdates));
    ASSERT_EQ(results_.Sequences(absl::StrCat("state", t)), UpTo(kUpdates));
  }
}

TEST_F(TrainStreamTest, ManyThreadsShareAStream) {
  constexpr int kThreads = 8;
  auto stream = Open();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&stream] {
      for (int i = 0; i < 100; ++i) {
        ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
        if (i % 25 == 0) {
          ASSERT_TRUE(stream->Flush().ok());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_THAT(server_.Durable("a"), SizeIs(kThreads * 100));
  EXPECT_EQ(results_.Sequences("a"), UpTo(kThreads * 100));
}

TEST(TrainStreamOptionsTest, RefusesOptionsOutOfRange) {
  auto client = ConnectTo("127.0.0.1:1");
  TrainStreamOptions options;
  options.window = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(client->OpenTrainStream(options).status()));
  options = {};
  options.first_sequence = 0;
  EXPECT_EQ(ErrorReason(client->OpenTrainStream(options).status()), "SEQUENCE_INVALID");
  options = {};
  options.producer_id = std::string(129, 'x');
  EXPECT_EQ(ErrorReason(client->OpenTrainStream(options).status()), "PRODUCER_ID_INVALID");
  options = {};
  options.retry.message_timeout = absl::ZeroDuration();
  EXPECT_TRUE(absl::IsInvalidArgument(client->OpenTrainStream(options).status()));
}

}  // namespace
}  // namespace normd::client
