#include "core/registry/state_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/state/state_codec.h"
#include "tests/core/registry/registry_fixture.h"
#include "tests/core/registry/registry_testing.h"

namespace normd {
namespace {

using ::normd::testing::Create;
using ::normd::testing::Fold;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class StateRegistryTest : public ::normd::testing::RegistryTest {
 protected:
  absl::StatusOr<StatePage> List(const std::string& prefix, const std::string& after, int max) {
    absl::StatusOr<StatePage> result = absl::UnknownError("not answered");
    absl::Notification done;
    registry_->List(prefix, after, max, [&](absl::StatusOr<StatePage> page) {
      result = std::move(page);
      done.Notify();
    });
    done.WaitForNotification();
    return result;
  }

  static std::vector<std::string> Names(const StatePage& page) {
    std::vector<std::string> names;
    for (const auto& state : page.states) names.push_back(state->name);
    return names;
  }

  void DamageRecord(const std::string& name) {
    StoredRecord record = store_.Load(name).value();
    record.data.back() = static_cast<char>(record.data.back() ^ 1);
    ASSERT_TRUE(store_
                    .Commit({{.name = name,
                              .expected_revision = record.revision,
                              .revision = record.revision + 1,
                              .data = record.data}})
                    .ok());
  }
};

TEST_F(StateRegistryTest, GivesAHoldOnANameWithoutState) {
  Start();
  const absl::StatusOr<StateHandle> handle = Acquire("a");
  ASSERT_TRUE(handle.ok());
  EXPECT_EQ(handle->Get(), nullptr);
  EXPECT_EQ(handle->name(), "a");
}

TEST_F(StateRegistryTest, RefusesABadName) {
  Start();
  EXPECT_EQ(GetReason(Acquire("a//b").status()), Reason::kStateNameInvalid);
  EXPECT_EQ(store_.loads(), 0);
}

TEST_F(StateRegistryTest, LoadsAStateOnFirstUseOnly) {
  Start();
  ASSERT_TRUE(Submit("a", Create("a")).ok());
  ASSERT_TRUE(Submit("a", Fold(10)).ok());
  Start();
  const int64_t loads = store_.loads();
  for (int i = 0; i < 3; ++i) {
    EXPECT_DOUBLE_EQ(Acquire("a")->Get()->running_stats->mean[0], 1.0);
  }
  EXPECT_EQ(store_.loads(), loads + 1);
}

TEST_F(StateRegistryTest, PrefetchingLoadsNothing) {
  Start();
  ASSERT_TRUE(Submit("cold", Create("cold")).ok());
  Start();
  ASSERT_TRUE(Submit("warm", Create("warm")).ok());
  ASSERT_EQ(Acquire("none")->Get(), nullptr);
  const int64_t loads = store_.loads();
  const int64_t bytes = registry_->cache_bytes();
  registry_->PrefetchStates({"warm", "none", "cold", "warm", "", "a//b"}, StateUse::kUpdate);
  registry_->PrefetchStates({}, StateUse::kRead);
  EXPECT_EQ(store_.loads(), loads);
  EXPECT_EQ(registry_->cache_bytes(), bytes);
  EXPECT_FALSE(registry_->TryAcquire("cold").has_value());
  EXPECT_TRUE(registry_->TryAcquire("warm").has_value());
}

TEST_F(StateRegistryTest, PublishedValueNeverChanges) {
  Start();
  ASSERT_TRUE(Submit("a", Create("a")).ok());
  const absl::StatusOr<StateHandle> handle = Acquire("a");
  const std::shared_ptr<const NormState> before = handle->Get();
  ASSERT_TRUE(Submit("a", Fold(10)).ok());
  EXPECT_DOUBLE_EQ(before->running_stats->mean[0], 0.0);
  EXPECT_DOUBLE_EQ(handle->Get()->running_stats->mean[0], 1.0);
}

TEST_F(StateRegistryTest, RefusesADamagedRecordAndServesTheOthers) {
  Start();
  ASSERT_TRUE(Submit("bad", Create("bad")).ok());
  ASSERT_TRUE(Submit("good", Create("good")).ok());
  DamageRecord("bad");
  Start();
  const absl::Status status = Acquire("bad").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(GetReason(status), Reason::kRecordDamaged);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'bad'"));
  EXPECT_NE(Acquire("good")->Get(), nullptr);
  const absl::StatusOr<StatePage> page = List("", "", 10);
  EXPECT_THAT(Names(*page), ElementsAre("good"));
  EXPECT_THAT(page->damaged, ElementsAre("bad"));
}

TEST_F(StateRegistryTest, KeepsTheCacheWithinItsBudget) {
  constexpr int64_t kCacheBytes = kCacheBytesMin;
  constexpr int kStates = 3000;
  Start(kCacheBytes);
  for (int i = 0; i < kStates; ++i) {
    const std::string name = absl::StrCat("s", i);
    ASSERT_TRUE(Submit(name, Create(name, 64)).ok());
    ASSERT_TRUE(Submit(name, Fold(i)).ok());
    // One state is in use outside of the cache's count at a time.
    EXPECT_LE(registry_->cache_bytes(), kCacheBytes + 8192) << "after state " << i;
  }
  for (int i = 0; i < kStates; i += 7) {
    EXPECT_DOUBLE_EQ(Acquire(absl::StrCat("s", i))->Get()->running_stats->mean[63], 0.1 * i);
  }
}

TEST_F(StateRegistryTest, NeverEvictsWhatSomebodyHolds) {
  Start(kCacheBytesMin);
  ASSERT_TRUE(Submit("held", Create("held", 64)).ok());
  const absl::StatusOr<StateHandle> held = Acquire("held");
  for (int i = 0; i < 2000; ++i) {
    const std::string name = absl::StrCat("s", i);
    ASSERT_TRUE(Submit(name, Create(name, 64)).ok());
  }
  const int64_t loads = store_.loads();
  EXPECT_EQ(Acquire("held")->Get(), held->Get()) << "the same object";
  EXPECT_EQ(store_.loads(), loads);
}

TEST_F(StateRegistryTest, EvictsTheLeastRecentlyUsedFirst) {
  Start(kCacheBytesMin);
  ASSERT_TRUE(Submit("hot", Create("hot", 64)).ok());
  for (int i = 0; i < 2000; ++i) {
    const std::string name = absl::StrCat("s", i);
    ASSERT_TRUE(Submit(name, Create(name, 64)).ok());
    ASSERT_TRUE(Acquire("hot").ok());
  }
  const int64_t loads = store_.loads();
  ASSERT_TRUE(Acquire("hot").ok());
  EXPECT_EQ(store_.loads(), loads);
  ASSERT_TRUE(Acquire("s0").ok());
  EXPECT_EQ(store_.loads(), loads + 1);
}

TEST_F(StateRegistryTest, ListsByPagesInTheOrderOfNames) {
  Start();
  for (const std::string name : {"b", "a/2", "a/1", "a/3", "ab"}) {
    ASSERT_TRUE(Submit(name, Create(name)).ok());
  }
  const absl::StatusOr<StatePage> first = List("a/", "", 2);
  EXPECT_THAT(Names(*first), ElementsAre("a/1", "a/2"));
  EXPECT_EQ(first->next_after, "a/2");
  const absl::StatusOr<StatePage> second = List("a/", first->next_after, 2);
  EXPECT_THAT(Names(*second), ElementsAre("a/3"));
  EXPECT_EQ(second->next_after, "");
  EXPECT_THAT(Names(*List("a/", "", 3)), ElementsAre("a/1", "a/2", "a/3"));
  EXPECT_EQ(List("a/", "", 3)->next_after, "");
  EXPECT_THAT(Names(*List("none", "", 3)), IsEmpty());
}

TEST_F(StateRegistryTest, SettingsMoveTheEtagAndFoldsDoNot) {
  Start();
  ASSERT_TRUE(Submit("a", Create("a")).ok());
  const std::string etag = Acquire("a")->Get()->Etag();
  ASSERT_TRUE(Submit("a", Fold(1)).ok());
  EXPECT_EQ(Acquire("a")->Get()->Etag(), etag);
  clock_.Advance(absl::Seconds(5));
  ASSERT_TRUE(Submit("a", [](StateDraft& draft, absl::Time) {
                return draft.MutableSettings().SetParameters({.weight = std::vector<double>{2}});
              }).ok());
  const std::shared_ptr<const NormState> state = Acquire("a")->Get();
  EXPECT_NE(state->Etag(), etag);
  EXPECT_EQ(state->revision, 3);
  EXPECT_EQ(state->update_time - state->create_time, absl::Seconds(5));
  Start();
  EXPECT_EQ(Acquire("a")->Get()->Etag(), state->Etag()) << "also after a restart";
}

}  // namespace
}  // namespace normd
