#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "client/cpp/client.h"
#include "client/cpp/error.h"
#include "client/cpp/train_stream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_normalization_service.h"
#include "tests/client/stream_testing.h"
#include "tests/testing/seeded_random.h"

namespace normd::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Action = FakeNormalizationService::Action;
using Message = FakeNormalizationService::Message;

class TrainStreamFaultTest : public ::testing::Test {
 protected:
  std::unique_ptr<TrainStream> Open(TrainStreamOptions options = {}) {
    options.on_result = [this](TrainResult result) { results_.Add(std::move(result)); };
    return *client_->OpenTrainStream(options);
  }

  FakeNormalizationService server_;
  Results<TrainResult> results_;
  std::unique_ptr<Client> client_ = ConnectTo(server_.address());
};

struct RandomFaults {
  std::string name;
  Durability durability;
  std::vector<Action> actions;
};

class TrainStreamRandomFaultTest : public TrainStreamFaultTest,
                                   public ::testing::WithParamInterface<RandomFaults> {};

TEST_P(TrainStreamRandomFaultTest, AppliesEveryUpdateOnceAndInOrder) {
  constexpr int kStates = 5;
  constexpr int64_t kUpdates = 400;
  SeededRandom random;
  server_.OnMessage([&random](const Message&) {
    if (random() % 40 != 0) return Action::kAnswer;
    const std::vector<Action>& actions = GetParam().actions;
    return actions[random() % actions.size()];
  });
  TrainStreamOptions options;
  options.durability = GetParam().durability;
  options.window = 16;
  options.retry = FastRetry();
  auto stream = Open(options);
  for (int64_t i = 1; i <= kUpdates; ++i) {
    for (int s = 0; s < kStates; ++s) {
      ASSERT_EQ(*stream->Send(absl::StrCat("state", s), MomentsOf(i)), i);
    }
    if (i % 100 == 0) {
      ASSERT_TRUE(stream->Flush().ok());
      for (int s = 0; s < kStates; ++s) {
        ASSERT_EQ(server_.Durable(absl::StrCat("state", s)), UpTo(i));
      }
    }
  }
  const absl::Status closed = stream->Close();
  ASSERT_TRUE(closed.ok()) << closed;
  EXPECT_GT(server_.streams(), 10);
  for (int s = 0; s < kStates; ++s) {
    EXPECT_EQ(server_.Durable(absl::StrCat("state", s)), UpTo(kUpdates));
    EXPECT_EQ(results_.Sequences(absl::StrCat("state", s)), UpTo(kUpdates));
  }
  for (const TrainResult& result : results_.All()) ASSERT_TRUE(result.status.ok());
}

INSTANTIATE_TEST_SUITE_P(
    Faults, TrainStreamRandomFaultTest,
    ::testing::Values(
        RandomFaults{
            "DurableDropped", Durability::kDurable, {Action::kDropBefore, Action::kDropAfter}},
        RandomFaults{
            "RelaxedDropped", Durability::kRelaxed, {Action::kDropBefore, Action::kDropAfter}},
        RandomFaults{
            "DurableCrashed", Durability::kDurable, {Action::kCrashBefore, Action::kCrashAfter}},
        RandomFaults{"RelaxedCrashed",
                     Durability::kRelaxed,
                     {Action::kCrashBefore, Action::kCrashAfter, Action::kDropAfter}}),
    [](const auto& test) { return test.param.name; });

TEST_F(TrainStreamFaultTest, SendsAnUpdateAgainWhenItsAnswerIsLost) {
  server_.OnMessage([](const Message& message) {
    return message.number == 1 ? Action::kDropAfter : Action::kAnswer;
  });
  auto stream = Open();
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  ASSERT_TRUE(stream->Flush().ok());
  ASSERT_THAT(results_.All(), SizeIs(1));
  EXPECT_EQ(results_.All()[0].disposition, Disposition::kDuplicate);
  EXPECT_THAT(server_.Durable("a"), ElementsAre(1));
}

TEST_F(TrainStreamFaultTest, SendsAgainWhatWasAnsweredAndNotDurableWhenTheServerCrashed) {
  server_.OnMessage([](const Message& message) {
    return message.number == 4 ? Action::kCrashBefore : Action::kAnswer;
  });
  TrainStreamOptions options;
  options.durability = Durability::kRelaxed;
  auto stream = Open(options);
  for (int64_t i = 1; i <= 3; ++i) ASSERT_TRUE(stream->Send("a", MomentsOf(i)).ok());
  ASSERT_TRUE(results_.WaitFor(3));
  ASSERT_TRUE(stream->Send("a", MomentsOf(4)).ok());
  ASSERT_TRUE(stream->Flush().ok());
  EXPECT_EQ(server_.Durable("a"), UpTo(4));
  EXPECT_EQ(results_.Sequences("a"), UpTo(4));
}

TEST_F(TrainStreamFaultTest, ReportsAnAnsweredUpdateOnceMoreWhenItIsRefusedAfterACrash) {
  server_.OnMessage([](const Message& message) {
    if (message.number == 3) return Action::kCrashBefore;
    return message.number > 3 && message.sequence == 1 ? Action::kRefuse : Action::kAnswer;
  });
  TrainStreamOptions options;
  options.durability = Durability::kRelaxed;
  auto stream = Open(options);
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  ASSERT_TRUE(stream->Send("a", MomentsOf(2)).ok());
  ASSERT_TRUE(results_.WaitFor(2));
  ASSERT_TRUE(stream->Flush().ok());
  EXPECT_THAT(results_.Sequences("a"), ElementsAre(1, 2, 1));
  EXPECT_EQ(ErrorReason(results_.All()[2].status), "NON_FINITE_VALUE");
  EXPECT_THAT(server_.Durable("a"), ElementsAre(2));
}

TEST_F(TrainStreamFaultTest, ARefusedFenceGivesUpTheUpdatesBeforeItAndFlushReturns) {
  server_.OnMessage([](const Message& message) {
    return message.durability == v1::DURABLE ? Action::kRefuse : Action::kAnswer;
  });
  TrainStreamOptions options;
  options.durability = Durability::kRelaxed;
  auto stream = Open(options);
  for (int64_t i = 1; i <= 3; ++i) ASSERT_TRUE(stream->Send("a", MomentsOf(i)).ok());
  ASSERT_TRUE(stream->Flush().ok());
  EXPECT_THAT(results_.Sequences("a"), ElementsAre(1, 2, 3, 1, 2, 3));
  EXPECT_EQ(ErrorReason(results_.All()[5].status), "NON_FINITE_VALUE");
  EXPECT_THAT(stream->Pending(), IsEmpty());
}

TEST_F(TrainStreamFaultTest, FlushReturnsWhenTheUpdateSentAsADurableOneIsRefused) {
  server_.OnMessage([](const Message& message) {
    return message.sequence == 4 ? Action::kRefuse : Action::kAnswer;
  });
  TrainStreamOptions options;
  options.durability = Durability::kRelaxed;
  options.window = 4;
  auto stream = Open(options);
  for (int64_t i = 1; i <= 4; ++i) ASSERT_TRUE(stream->Send("a", MomentsOf(i)).ok());
  ASSERT_TRUE(stream->Flush().ok());
  EXPECT_EQ(server_.Durable("a"), UpTo(3));
}

TEST_F(TrainStreamFaultTest, GoesOnWhenTheServerIsStartedAgain) {
  TrainStreamOptions options;
  options.retry = FastRetry();
  auto stream = Open(options);
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  ASSERT_TRUE(stream->Flush().ok());
  server_.Stop();
  ASSERT_TRUE(stream->Send("a", MomentsOf(2)).ok());
  server_.Start();
  ASSERT_TRUE(stream->Send("a", MomentsOf(3)).ok());
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_EQ(server_.Durable("a"), UpTo(3));
}

TEST_F(TrainStreamFaultTest, OutlivesTheClientAndTheServersEnd) {
  auto stream = Open();
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  ASSERT_TRUE(stream->Flush().ok());
  client_.reset();
  server_.Stop();
  EXPECT_TRUE(stream->Flush().ok());
  EXPECT_TRUE(stream->Close().ok());
}

TEST_F(TrainStreamFaultTest, FailsWithTheAddressAndTheLastErrorWhenTheServerStaysAway) {
  server_.Stop();
  TrainStreamOptions options;
  options.window = 2;
  options.retry = FastRetry();
  options.retry.retry_timeout = absl::Milliseconds(200);
  auto stream = Open(options);
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  ASSERT_TRUE(stream->Send("b", MomentsOf(1)).ok());
  const absl::Status blocked = stream->Send("a", MomentsOf(2)).status();
  EXPECT_TRUE(absl::IsUnavailable(blocked)) << blocked;
  EXPECT_THAT(std::string(blocked.message()), HasSubstr(server_.address()));
  EXPECT_THAT(std::string(blocked.message()), HasSubstr("200ms"));
  EXPECT_THAT(std::string(blocked.message()), HasSubstr("last error: UNAVAILABLE: "));
  EXPECT_EQ(stream->Flush(), blocked);
  EXPECT_EQ(stream->Close(), blocked);
  const std::vector<PendingUpdate> pending = stream->Pending();
  ASSERT_THAT(pending, SizeIs(2));
  EXPECT_EQ(pending[0].state, "a");
  EXPECT_EQ(pending[1].state, "b");
  EXPECT_EQ(pending[1].sequence, 1);
  EXPECT_FALSE(pending[1].answered);
  EXPECT_THAT(results_.All(), IsEmpty());
}

TEST_F(TrainStreamFaultTest, AnAnswerBeginsTheRetryTimeoutAnew) {
  // Every stream ends at its third message: always some progress, never in time for all.
  std::atomic<int64_t> stream_number{0};
  std::atomic<int64_t> in_stream{0};
  server_.OnMessage([&](const Message& message) {
    if (stream_number.exchange(message.stream) != message.stream) in_stream = 0;
    return ++in_stream == 3 ? Action::kDropBefore : Action::kAnswer;
  });
  TrainStreamOptions options;
  options.retry.backoff_initial = options.retry.backoff_max = absl::Milliseconds(40);
  options.retry.retry_timeout = absl::Milliseconds(300);
  auto stream = Open(options);
  for (int64_t i = 1; i <= 40; ++i) ASSERT_TRUE(stream->Send("a", MomentsOf(i)).ok());
  const absl::Status status = stream->Close();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(server_.Durable("a"), UpTo(40));
}

TEST_F(TrainStreamFaultTest, ConnectsAgainWhenAMessageIsNotAnsweredInTime) {
  server_.OnMessage([](const Message& message) {
    return message.stream == 1 ? Action::kSwallow : Action::kAnswer;
  });
  TrainStreamOptions options;
  options.retry = FastRetry();
  options.retry.message_timeout = absl::Milliseconds(100);
  auto stream = Open(options);
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  ASSERT_TRUE(stream->Flush().ok());
  EXPECT_EQ(server_.streams(), 2);
  EXPECT_THAT(server_.Durable("a"), ElementsAre(1));
}

TEST_F(TrainStreamFaultTest, FailsWithDeadlineExceededWhenNothingIsEverAnswered) {
  server_.OnMessage([](const Message&) { return Action::kSwallow; });
  TrainStreamOptions options;
  options.retry = FastRetry();
  options.retry.message_timeout = absl::Milliseconds(50);
  options.retry.retry_timeout = absl::Milliseconds(200);
  auto stream = Open(options);
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  const absl::Status status = stream->Flush();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("no answer within 50ms"));
}

struct Refusal {
  std::string name;
  grpc::Status status;
  absl::StatusCode expected;
};

class TrainStreamRefusalTest : public TrainStreamFaultTest,
                               public ::testing::WithParamInterface<Refusal> {};

TEST_P(TrainStreamRefusalTest, FailsAtOnce) {
  server_.RefuseStreams(GetParam().status);
  auto stream = Open();  // retries for a minute if it does
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  const absl::Status status = stream->Flush();
  EXPECT_EQ(status.code(), GetParam().expected) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(server_.address()));
  EXPECT_THAT(std::string(status.message()), HasSubstr("go away"));
  EXPECT_EQ(server_.streams(), 1);
}

INSTANTIATE_TEST_SUITE_P(
    Statuses, TrainStreamRefusalTest,
    ::testing::Values(
        Refusal{"Unimplemented", grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "go away"),
                absl::StatusCode::kUnimplemented},
        Refusal{"Unauthenticated", grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "go away"),
                absl::StatusCode::kUnauthenticated},
        Refusal{"MessageTooLarge",
                FakeNormalizationService::MakeStatus(grpc::StatusCode::RESOURCE_EXHAUSTED,
                                                     v1::MESSAGE_TOO_LARGE, "go away"),
                absl::StatusCode::kResourceExhausted},
        Refusal{"InternalWithAReason",
                FakeNormalizationService::MakeStatus(grpc::StatusCode::INTERNAL, v1::INTERNAL_ERROR,
                                                     "go away"),
                absl::StatusCode::kInternal}),
    [](const auto& test) { return test.param.name; });

TEST_F(TrainStreamFaultTest, WaitsForAFullStoreAndNamesItWhenItStaysFull) {
  server_.RefuseStreams(FakeNormalizationService::MakeStatus(grpc::StatusCode::RESOURCE_EXHAUSTED,
                                                             v1::STORE_FULL, "the store is full"));
  TrainStreamOptions options;
  options.retry = FastRetry();
  options.retry.retry_timeout = absl::Milliseconds(100);
  auto stream = Open(options);
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  const absl::Status status = stream->Flush();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(ErrorReason(status), "STORE_FULL");
  EXPECT_GT(server_.streams(), 2);
}

TEST_F(TrainStreamFaultTest, ANewStreamOfTheSameProducerGoesOnWhereOneFailed) {
  server_.OnMessage([](const Message& message) {
    return message.stream == 1 && message.sequence == 3 ? Action::kDropAfter : Action::kAnswer;
  });
  TrainStreamOptions options;
  options.producer_id = "ledger";
  options.retry.retry_timeout = absl::ZeroDuration();
  auto stream = Open(options);
  for (int64_t i = 1; i <= 3; ++i) ASSERT_TRUE(stream->Send("a", MomentsOf(i)).ok());
  ASSERT_FALSE(stream->Flush().ok());
  const std::vector<PendingUpdate> pending = stream->Pending();
  ASSERT_THAT(pending, SizeIs(1));

  options.first_sequence = pending[0].sequence;
  auto next = Open(options);
  for (int64_t i = pending[0].sequence; i <= 5; ++i) {
    ASSERT_EQ(*next->Send("a", MomentsOf(i)), i);
  }
  ASSERT_TRUE(next->Close().ok());
  EXPECT_EQ(server_.Durable("a"), UpTo(5));
}

TEST_F(TrainStreamFaultTest, CanBeDestroyedWhileTheServerIsAway) {
  server_.Stop();
  auto stream = Open();
  ASSERT_TRUE(stream->Send("a", MomentsOf(1)).ok());
  stream.reset();
  EXPECT_THAT(results_.All(), IsEmpty());
}

TEST_F(TrainStreamFaultTest, CancelledAtRandomMomentsItNeverHangs) {
  SeededRandom random;
  server_.OnMessage([&random](const Message&) {
    return random() % 10 == 0 ? Action::kDropAfter : Action::kAnswer;
  });
  for (int round = 0; round < 100; ++round) {
    TrainStreamOptions options;
    options.retry = FastRetry();
    options.window = 4;
    options.durability = round % 2 == 0 ? Durability::kDurable : Durability::kRelaxed;
    auto stream = Open(options);
    absl::Notification reached;
    const int cancel_at = round % 50;
    std::thread sender([&] {
      for (int i = 0; stream->Send("a", MomentsOf(1)).ok(); ++i) {
        if (i == cancel_at) reached.Notify();
      }
    });
    reached.WaitForNotification();
    stream->Cancel();
    sender.join();
  }
}

}  // namespace
}  // namespace normd::client
