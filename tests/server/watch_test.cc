// WatchStates and the queues behind it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "core/base/memory_budget.h"
#include "server/watch_hub.h"
#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

using ::testing::ElementsAre;

StateEvent EventOf(const std::string& name, int64_t revision) {
  StateEvent event;
  event.name = name;
  event.revision = revision;
  return event;
}

// What waits, as "name@revision"; "missed" for what was dropped.
std::vector<std::string> TakeAll(PendingEvents& pending) {
  std::vector<std::string> taken;
  StateEvent event;
  bool missed = false;
  while (pending.Take(event, &missed)) {
    taken.push_back(missed ? "missed" : absl::StrCat(event.name, "@", event.revision));
  }
  return taken;
}

TEST(PendingEventsTest, KeepsTheNewestOfEachStateInTheOrderOfTheirFirstChange) {
  PendingEvents pending(10, MemoryBudget::Unlimited());
  pending.Put(EventOf("b", 1));
  pending.Put(EventOf("a", 1));
  pending.Put(EventOf("b", 2));
  EXPECT_THAT(TakeAll(pending), ElementsAre("b@2", "a@1"));
  pending.Put(EventOf("b", 3));
  EXPECT_THAT(TakeAll(pending), ElementsAre("b@3"));
  EXPECT_THAT(TakeAll(pending), ElementsAre());
}

TEST(PendingEventsTest, TellsThatItMissedOnlyBeyondItsLimit) {
  PendingEvents pending(2, MemoryBudget::Unlimited());
  pending.Put(EventOf("a", 1));
  pending.Put(EventOf("b", 1));
  pending.Put(EventOf("a", 2));
  EXPECT_THAT(TakeAll(pending), ElementsAre("a@2", "b@1")) << "two states are not too many";
  pending.Put(EventOf("a", 3));
  pending.Put(EventOf("b", 2));
  pending.Put(EventOf("c", 1));
  EXPECT_THAT(TakeAll(pending), ElementsAre("missed", "c@1"));
  EXPECT_THAT(TakeAll(pending), ElementsAre()) << "told once";
}

TEST(PendingEventsTest, TellsThatItMissedWhenTheWatchesHaveNoMemory) {
  MemoryBudget memory(32 * kKiB);
  ASSERT_EQ(memory.share(MemoryUse::kWatches), kKiB);
  PendingEvents pending(1000, &memory);
  int events = 0;
  for (; memory.HasRoom(MemoryUse::kWatches); ++events) {
    pending.Put(EventOf(absl::StrCat("s", events), 1));
  }
  EXPECT_GT(events, 1);
  EXPECT_LE(events, 4) << "an event takes some hundred bytes";
  pending.Put(EventOf("s0", 2));
  EXPECT_FALSE(memory.HasRoom(MemoryUse::kWatches)) << "a state that waits takes nothing more";
  pending.Put(EventOf("new", 1));
  EXPECT_THAT(TakeAll(pending), ElementsAre("missed", "new@1"));
  EXPECT_EQ(memory.used(MemoryUse::kWatches), 0) << "nothing waits any more";
}

TEST(PendingEventsTest, KeepsNothingWhileOtherWatchersHaveAllTheMemory) {
  MemoryBudget memory(32 * kKiB);
  MemoryReservation others(&memory, MemoryUse::kWatches);
  PendingEvents pending(1000, &memory);
  pending.Put(EventOf("a", 1));
  others.Resize(kKiB);
  pending.Put(EventOf("b", 1));
  EXPECT_EQ(memory.used(MemoryUse::kWatches), kKiB);
  EXPECT_THAT(TakeAll(pending), ElementsAre("missed"));
  pending.Put(EventOf("c", 1));
  EXPECT_THAT(TakeAll(pending), ElementsAre("missed")) << "c was missed too";
  others.Resize(0);
  pending.Put(EventOf("d", 1));
  EXPECT_THAT(TakeAll(pending), ElementsAre("d@1"));
}

TEST(WatchHubTest, IsSilentOfAStateMadeAndDeletedInOneCommit) {
  WatchHub hub(16, MemoryBudget::Unlimited());
  absl::Mutex mutex;
  std::vector<std::string> names;
  const int64_t subscription = hub.Subscribe("", [&](const StateEvent* event) {
    absl::MutexLock lock(&mutex);
    names.push_back(event->name);
  });
  const auto state = std::make_shared<const NormState>();
  hub.Publish("nothing", nullptr, nullptr);
  hub.Publish("something", nullptr, state);
  {
    const auto told = [&names] { return !names.empty(); };
    absl::MutexLock lock(&mutex);
    mutex.Await(absl::Condition(&told));
    EXPECT_THAT(names, ElementsAre("something"));
  }
  hub.Unsubscribe(subscription);
}

// A watcher on a connection of its own, so that it can be slow without slowing others.
class Watcher {
 public:
  Watcher(const std::string& address, const std::string& prefix)
      : stub_(v1::StateService::NewStub(Connect(address))) {
    v1::WatchStatesRequest request;
    request.set_prefix(prefix);
    reader_ = stub_->WatchStates(&context_, request);
    reader_->WaitForInitialMetadata();
  }

  ~Watcher() {
    context_.TryCancel();
    if (reader_ != nullptr) Finish();
  }

  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  // The next event; empty when the call has ended.
  v1::WatchStatesResponse Next() {
    v1::WatchStatesResponse response;
    reader_->Read(&response);
    return response;
  }

  grpc::Status Finish() {
    v1::WatchStatesResponse response;
    while (reader_->Read(&response)) {
    }
    return std::exchange(reader_, nullptr)->Finish();
  }

 private:
  std::unique_ptr<v1::StateService::Stub> stub_;
  TestContext context_;
  std::unique_ptr<grpc::ClientReader<v1::WatchStatesResponse>> reader_;
};

class WatchTest : public ServerTest {
 protected:
  void SetUp() override { StartServer(InMemory()); }
};

TEST_F(WatchTest, ReportsEveryKindOfChangeAfterTheInitialMetadata) {
  MustCreate("before", 1);
  Watcher watcher(address(), "");
  const v1::State created = MustCreate("m", 1);
  v1::WatchStatesResponse event = watcher.Next();
  EXPECT_EQ(event.event(), v1::WatchStatesResponse::CHANGED);
  EXPECT_EQ(event.name(), "m");
  EXPECT_EQ(event.revision(), 1);
  EXPECT_EQ(event.num_batches_tracked(), 0);
  EXPECT_EQ(event.etag(), created.etag());

  ASSERT_TRUE(Train(PairBatch("m", 0, 2)).ok());
  event = watcher.Next();
  EXPECT_EQ(event.event(), v1::WatchStatesResponse::CHANGED);
  EXPECT_EQ(event.revision(), 2);
  EXPECT_EQ(event.num_batches_tracked(), 1);
  EXPECT_EQ(event.etag(), created.etag());

  v1::State frozen;
  ASSERT_TRUE(Freeze("m", &frozen).ok());
  event = watcher.Next();
  EXPECT_EQ(event.revision(), 3);
  EXPECT_EQ(event.etag(), frozen.etag());
  ASSERT_TRUE(Freeze("m").ok());  // changes nothing, so nothing is told

  ASSERT_TRUE(Delete("m").ok());
  event = watcher.Next();
  EXPECT_EQ(event.event(), v1::WatchStatesResponse::DELETED);
  EXPECT_EQ(event.name(), "m");
  EXPECT_EQ(event.revision(), 3);
  EXPECT_EQ(event.num_batches_tracked(), 1);
}

TEST_F(WatchTest, ReportsOnlyNamesWithThePrefix) {
  Watcher watcher(address(), "a/");
  Watcher everything(address(), "");
  for (const char* name : {"a", "b/a/x", "a/x", "ab", "a/y"}) MustCreate(name, 1);
  EXPECT_EQ(watcher.Next().name(), "a/x");
  EXPECT_EQ(watcher.Next().name(), "a/y");
  for (const char* name : {"a", "b/a/x", "a/x", "ab", "a/y"}) {
    EXPECT_EQ(everything.Next().name(), name);
  }
}

TEST_F(WatchTest, RefusesABadPrefix) {
  Watcher watcher(address(), "a b");
  const WireError error = ErrorOf(watcher.Finish());
  EXPECT_EQ(error.reason, "STATE_NAME_INVALID") << error;
  EXPECT_THAT(error.fields, ElementsAre("prefix"));
}

// The names are long so that few events fill what the connection holds for a watcher that does
// not read.
std::string LongName(int i) { return absl::StrCat(std::string(200, 'n'), "/", i); }

TEST_F(WatchTest, ASlowWatcherGetsTheNewestRevisionAndNotEveryOne) {
  constexpr int kStates = 20;
  constexpr int kRounds = 150;
  for (int i = 0; i < kStates; ++i) MustCreate(LongName(i), 1);
  Watcher watcher(address(), "");
  // 3000 events of more than 200 bytes: far more than the 64 KiB that a connection holds.
  TestContext context;
  const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&context);
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kStates; ++i) ASSERT_TRUE(stream->Write(PairBatch(LongName(i), 0, 2)));
    for (int i = 0; i < kStates; ++i) {
      v1::TrainResponse response;
      ASSERT_TRUE(stream->Read(&response));
      ASSERT_FALSE(response.has_error()) << ErrorOf(response.error());
    }
  }
  int events = 0;
  int complete = 0;
  std::vector<int64_t> newest(kStates, 0);
  while (complete < kStates) {
    const v1::WatchStatesResponse event = watcher.Next();
    ASSERT_EQ(event.event(), v1::WatchStatesResponse::CHANGED);
    ++events;
    const int i = std::stoi(event.name().substr(201));
    ASSERT_GT(event.revision(), newest[i]) << "revisions of a state only grow";
    newest[i] = event.revision();
    if (newest[i] == kRounds + 1) ++complete;
  }
  EXPECT_LT(events, kStates * kRounds);
}

TEST_F(WatchTest, AVerySlowWatcherIsToldThatItMissedSome) {
  normd::ServerOptions options = InMemory();
  options.watch_pending_states_max = 8;
  StartServer(options);
  Watcher watcher(address(), "");
  constexpr int kStates = 1500;
  for (int i = 0; i < kStates; ++i) MustCreate(LongName(i), 1);
  bool missed = false;
  std::string last;
  while (last != LongName(kStates - 1)) {
    const v1::WatchStatesResponse event = watcher.Next();
    ASSERT_NE(event.event(), v1::WatchStatesResponse::EVENT_UNSPECIFIED) << "the watch has ended";
    if (event.event() == v1::WatchStatesResponse::MISSED) {
      missed = true;
      v1::WatchStatesResponse rest = event;
      rest.clear_event();
      EXPECT_EQ(rest.ByteSizeLong(), 0) << "only `event` is set";
    } else {
      last = event.name();
    }
  }
  EXPECT_TRUE(missed);
}

TEST_F(WatchTest, ADrainEndsItWithUnavailable) {
  Watcher watcher(address(), "");
  StopServer();
  const WireError error = ErrorOf(watcher.Finish());
  EXPECT_EQ(error.code, grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(error.reason, "SHUTTING_DOWN") << error;
  EXPECT_TRUE(error.has_retry_info);
}

TEST_F(WatchTest, OneWatcherTooManyIsRefusedAndALeavingOneMakesRoom) {
  normd::ServerOptions options = InMemory();
  options.watches_max = 2;
  StartServer(options);
  Watcher first(address(), "");
  auto second = std::make_unique<Watcher>(address(), "");
  Watcher third(address(), "");
  const WireError error = ErrorOf(third.Finish());
  EXPECT_EQ(error.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(error.reason, "LIMIT_REACHED") << error;
  EXPECT_EQ(error.metadata.at("limit"), "2");
  second.reset();
  // The server learns of it a little later.
  for (bool admitted = false; !admitted;) {
    Watcher again(address(), "");
    MustCreate("m", 1);
    ASSERT_TRUE(Delete("m").ok());
    admitted = again.Next().event() != v1::WatchStatesResponse::EVENT_UNSPECIFIED;
  }
}

TEST_F(WatchTest, SurvivesStatesMadeAndDeletedAtOnce) {
  Watcher watcher(address(), "");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      const std::string name = absl::StrCat("m", t % 2);
      for (int i = 0; i < 300; ++i) {
        if (t < 2) {
          Create(BatchNormState(name, 1));
        } else {
          Delete(name);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  MustCreate("last", 1);
  while (watcher.Next().name() != "last") {
  }
}

}  // namespace
}  // namespace normd::testing
