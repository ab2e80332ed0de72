// What every StateStore promises, checked on each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/store/memory_state_store.h"
#include "core/store/rocksdb_state_store.h"
#include "core/store/state_store.h"
#include "tests/core/store/store_test_util.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

class StateStoreContractTest : public testing::TestWithParam<const char*> {
 protected:
  StateStoreContractTest()
      : store_(std::string(GetParam()) == "Memory" ? NewMemoryStateStore()
                                                   : OpenOrDie(folder_.Child("data"))) {}

  // "revision=data" of a record, or the reason why there is none.
  std::string Get(absl::string_view name) const {
    const absl::StatusOr<StoredRecord> record = store_->Load(name);
    if (record.ok()) {
      EXPECT_EQ(record->name, name);
      return absl::StrCat(record->revision, "=", record->data);
    }
    const std::optional<Reason> reason = GetReason(record.status());
    return reason.has_value() ? std::string(GetReasonInfo(*reason).name)
                              : record.status().ToString();
  }

  std::string List(absl::string_view prefix, absl::string_view after, int64_t records_max = 1000,
                   int64_t bytes_max = kNoLimit) const {
    const auto records = store_->List(prefix, after, records_max, bytes_max);
    return records.ok() ? Describe(*records) : records.status().ToString();
  }

  TempFolder folder_;
  const std::unique_ptr<StateStore> store_;
};

INSTANTIATE_TEST_SUITE_P(Stores, StateStoreContractTest, testing::Values("Memory", "Rocksdb"),
                         [](const auto& instance) { return std::string(instance.param); });

TEST_P(StateStoreContractTest, LoadOfAnAbsentNameIsNotFound) {
  EXPECT_EQ(Get("a"), "STATE_NOT_FOUND");
  EXPECT_EQ(GetErrorMetadata(store_->Load("a").status())["name"], "a");
}

TEST_P(StateStoreContractTest, LoadsWhatWasCommitted) {
  ASSERT_TRUE(store_->Commit({Put("a", 0, 1, "one"), Put("b", 0, 7, "two")}).ok());
  EXPECT_EQ(Get("a"), "1=one");
  EXPECT_EQ(Get("b"), "7=two");
}

TEST_P(StateStoreContractTest, AnEmptyCommitIsMade) { EXPECT_TRUE(store_->Commit({}).ok()); }

TEST_P(StateStoreContractTest, OverwritesAtTheExpectedRevision) {
  ASSERT_TRUE(store_->Commit({Put("a", 0, 1, "one")}).ok());
  ASSERT_TRUE(store_->Commit({Put("a", 1, 5, "five")}).ok());
  EXPECT_EQ(Get("a"), "5=five");
}

TEST_P(StateStoreContractTest, KeepsRevisionsOf63Bits) {
  constexpr int64_t kLast = std::numeric_limits<int64_t>::max();
  ASSERT_TRUE(store_->Commit({Put("a", 0, kLast - 1, "x")}).ok());
  ASSERT_TRUE(store_->Commit({Put("a", kLast - 1, kLast, "y")}).ok());
  EXPECT_EQ(Get("a"), absl::StrCat(kLast, "=y"));
}

TEST_P(StateStoreContractTest, AConflictChangesNothingAtAll) {
  ASSERT_TRUE(store_->Commit({Put("a", 0, 1, "one"), Put("d", 0, 1, "dee")}).ok());
  const struct {
    const char* name;
    StoreMutation conflict;
  } cases[] = {
      {"there is a record", Put("a", 0, 2, "x")},
      {"the record is older", Put("a", 2, 3, "x")},
      {"there is no record", Put("absent", 1, 2, "x")},
      {"same revision, other data", Put("a", 0, 1, "other")},
      {"delete of another revision", Delete("a", 2)},
      {"delete of what should be absent", Delete("a", 0)},
  };
  for (const auto& test_case : cases) {
    SCOPED_TRACE(test_case.name);
    for (const bool conflict_first : {true, false}) {
      std::vector<StoreMutation> mutations = {Put("new", 0, 1, "x"), Delete("d", 1)};
      mutations.insert(conflict_first ? mutations.begin() : mutations.end(), test_case.conflict);
      const absl::Status status = store_->Commit(mutations);
      EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
      EXPECT_EQ(GetReason(status), Reason::kRevisionConflict);
      EXPECT_EQ(GetErrorMetadata(status)["name"], test_case.conflict.name);
      EXPECT_EQ(List("", ""), "a@1=one d@1=dee");
    }
  }
}

TEST_P(StateStoreContractTest, ADeletedNameIsAbsentAndCanBeMadeAgain) {
  ASSERT_TRUE(store_->Commit({Put("a", 0, 3, "one")}).ok());
  ASSERT_TRUE(store_->Commit({Delete("a", 3)}).ok());
  EXPECT_EQ(Get("a"), "STATE_NOT_FOUND");
  EXPECT_EQ(List("", ""), "");
  EXPECT_EQ(GetReason(store_->Commit({Put("a", 3, 4, "x")})), Reason::kRevisionConflict);
  ASSERT_TRUE(store_->Commit({Put("a", 0, 1, "again")}).ok());
  EXPECT_EQ(Get("a"), "1=again");
}

TEST_P(StateStoreContractTest, ARetriedCommitCountsAsMade) {
  ASSERT_TRUE(store_->Commit({Put("gone", 0, 1, "x"), Put("b", 0, 1, "x")}).ok());
  const std::vector<StoreMutation> mutations = {Put("a", 0, 1, "one"), Put("b", 1, 2, "two"),
                                                Delete("gone", 1)};
  ASSERT_TRUE(store_->Commit(mutations).ok());
  EXPECT_TRUE(store_->Commit(mutations).ok());
  EXPECT_EQ(List("", ""), "a@1=one b@2=two");
}

TEST_P(StateStoreContractTest, ARetryAfterALaterCommitConflicts) {
  ASSERT_TRUE(store_->Commit({Put("a", 0, 1, "one")}).ok());
  ASSERT_TRUE(store_->Commit({Put("a", 1, 2, "two")}).ok());
  EXPECT_EQ(GetReason(store_->Commit({Put("a", 0, 1, "one")})), Reason::kRevisionConflict);
  EXPECT_EQ(Get("a"), "2=two");
}

TEST_P(StateStoreContractTest, ListsByPrefixInBytewiseOrder) {
  std::vector<StoreMutation> mutations;
  for (const char* name : {"a", "a-", "a.b", "a/", "a/b", "a/c/d", "a0", "aa", "b", "A", "_"}) {
    mutations.push_back(Put(name, 0, 1, ""));
  }
  ASSERT_TRUE(store_->Commit(mutations).ok());
  EXPECT_EQ(List("", ""), "A@1= _@1= a@1= a-@1= a.b@1= a/@1= a/b@1= a/c/d@1= a0@1= aa@1= b@1=");
  EXPECT_EQ(List("a/", ""), "a/@1= a/b@1= a/c/d@1=");
  EXPECT_EQ(List("a/b", ""), "a/b@1=");
  EXPECT_EQ(List("a0", ""), "a0@1=");
  EXPECT_EQ(List("a1", ""), "");
  EXPECT_EQ(List("c", ""), "");
}

TEST_P(StateStoreContractTest, ListsAPrefixThatEndsWithTheLastByte) {
  ASSERT_TRUE(store_
                  ->Commit({Put("a\xff", 0, 1, ""), Put("a\xff\xff", 0, 1, ""), Put("b", 0, 1, ""),
                            Put("\xff\xff", 0, 1, "")})
                  .ok());
  EXPECT_EQ(List("a\xff", ""), "a\xff@1= a\xff\xff@1=");
  EXPECT_EQ(List("\xff", ""), "\xff\xff@1=");
}

TEST_P(StateStoreContractTest, ListsBehindAName) {
  ASSERT_TRUE(store_
                  ->Commit({Put("a", 0, 1, ""), Put("b/1", 0, 1, ""), Put("b/2", 0, 1, ""),
                            Put("b/3", 0, 1, ""), Put("c", 0, 1, "")})
                  .ok());
  EXPECT_EQ(List("", "a"), "b/1@1= b/2@1= b/3@1= c@1=");
  EXPECT_EQ(List("b/", "b/1"), "b/2@1= b/3@1=");
  EXPECT_EQ(List("b/", "b/11"), "b/2@1= b/3@1=");  // `after` need not be there
  EXPECT_EQ(List("b/", "a"), "b/1@1= b/2@1= b/3@1=");
  EXPECT_EQ(List("b/", "b/3"), "");
  EXPECT_EQ(List("b/", "c"), "");
  EXPECT_EQ(List("", "c"), "");
}

TEST_P(StateStoreContractTest, ListKeepsItsLimits) {
  ASSERT_TRUE(
      store_->Commit({Put("a", 0, 1, "1234"), Put("b", 0, 1, "1234"), Put("c", 0, 1, "1234567890")})
          .ok());
  EXPECT_EQ(List("", "", 1), "a@1=1234");
  EXPECT_EQ(List("", "", 2), "a@1=1234 b@1=1234");
  EXPECT_EQ(List("", "", 9, 8), "a@1=1234 b@1=1234");
  EXPECT_EQ(List("", "", 9, 7), "a@1=1234");
  EXPECT_EQ(List("", "", 9, 17), "a@1=1234 b@1=1234");
  EXPECT_EQ(List("", "b", 9, 0), "c@1=1234567890") << "one record whatever its size";
}

TEST_P(StateStoreContractTest, KeepsAnyBytesOfAnyLength) {
  std::string all_bytes;
  for (int i = 0; i < 512; ++i) all_bytes.push_back(static_cast<char>(i));
  std::string large(kMiB, '\0');
  SeededRandom generator;
  for (char& byte : large) byte = static_cast<char>(generator());
  const std::string long_name(kStateNameBytesMax, 'n');
  ASSERT_TRUE(store_
                  ->Commit({Put("empty", 0, 1, ""), Put("bytes", 0, 1, all_bytes),
                            Put("large", 0, 1, large), Put(long_name, 0, 1, "x")})
                  .ok());
  EXPECT_EQ(Get("empty"), "1=");
  EXPECT_EQ(Get("bytes"), absl::StrCat("1=", all_bytes));
  EXPECT_TRUE(Get("large") == absl::StrCat("1=", large));
  EXPECT_EQ(Get(long_name), "1=x");
  EXPECT_EQ(List(long_name, ""), absl::StrCat(long_name, "@1=x"));
  ASSERT_TRUE(store_->Commit({Put("large", 1, 2, "")}).ok());
  EXPECT_EQ(Get("large"), "2=");
}

TEST_P(StateStoreContractTest, TakesCommitsOnDisjointNamesFromManyThreads) {
  constexpr int kThreads = 6;
  constexpr int kCommits = 100;
  std::vector<std::thread> threads;
  std::atomic<int> failures = 0;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([this, thread, &failures] {
      for (int i = 0; i < kCommits; ++i) {
        const std::string data = absl::StrCat(i);
        if (!store_
                 ->Commit({Put(absl::StrCat("left", thread), i, i + 1, data),
                           Put(absl::StrCat("right", thread), i, i + 1, data)})
                 .ok()) {
          ++failures;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  for (int thread = 0; thread < kThreads; ++thread) {
    EXPECT_EQ(Get(absl::StrCat("left", thread)), absl::StrCat(kCommits, "=", kCommits - 1));
    EXPECT_EQ(Get(absl::StrCat("right", thread)), absl::StrCat(kCommits, "=", kCommits - 1));
  }
}

TEST_P(StateStoreContractTest, OneOfManyThreadsWinsEachRevision) {
  constexpr int kThreads = 4;
  constexpr int kRevisions = 100;
  std::atomic<int> won = 0;
  std::atomic<int> other_errors = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([this, thread, &won, &other_errors] {
      const std::string mine = absl::StrCat("thread", thread);
      for (int i = 0; i < kRevisions; ++i) {
        const absl::Status status = store_->Commit(
            {Put("shared", i, i + 1, mine), Put(absl::StrCat(mine, "/", i), 0, 1, "")});
        if (status.ok()) {
          ++won;
        } else if (GetReason(status) != Reason::kRevisionConflict) {
          ++other_errors;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(other_errors, 0);
  EXPECT_GT(won, 0);
  EXPECT_LE(won, kRevisions);
  EXPECT_EQ(ListAll(*store_).size(), static_cast<size_t>(won) + 1);
}

TEST_P(StateStoreContractTest, ReadersSeeWholeRecordsWhileAWriterCommits) {
  constexpr int kRevisions = 200;
  const auto data_of = [](int64_t revision) {
    return std::string(static_cast<size_t>(revision % 7 * 500), static_cast<char>(revision));
  };
  ASSERT_TRUE(store_->Commit({Put("a", 0, 1, data_of(1))}).ok());
  std::atomic<bool> done = false;
  std::atomic<int> torn = 0;
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&] {
      int64_t last = 0;
      while (!done) {
        const auto loaded = store_->Load("a");
        const auto listed = store_->List("", "", 10, kNoLimit);
        if (!loaded.ok() || loaded->data != data_of(loaded->revision) || loaded->revision < last ||
            !listed.ok() || listed->size() != 1 ||
            listed->front().data != data_of(listed->front().revision) ||
            listed->front().revision < loaded->revision) {
          ++torn;
        }
        if (loaded.ok()) last = loaded->revision;
      }
    });
  }
  for (int revision = 1; revision < kRevisions; ++revision) {
    EXPECT_TRUE(store_->Commit({Put("a", revision, revision + 1, data_of(revision + 1))}).ok());
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(torn, 0);
}

// Random commits, right and wrong, beside a std::map that does what the contract says.
TEST_P(StateStoreContractTest, DoesWhatAMapDoes) {
  SeededRandom generator;
  const auto below = [&generator](uint64_t n) { return static_cast<int64_t>(generator() % n); };
  std::map<std::string, std::pair<int64_t, std::string>> model;

  for (int step = 0; step < 1500; ++step) {
    SCOPED_TRACE(absl::StrCat("step ", step));
    auto next = model;
    bool conflict = false;
    std::vector<StoreMutation> mutations;
    for (int64_t at = below(3), i = 0; at < 30; at += 1 + below(20), ++i) {
      const std::string name = absl::StrCat(at % 3 == 0 ? "x/" : "y", at);
      const auto it = model.find(name);
      const int64_t found = it == model.end() ? 0 : it->second.first;
      const int64_t expected = below(40) == 0 ? found + 1 : found;
      if (below(4) == 0) {
        mutations.push_back(Delete(name, expected));
        conflict |= found != 0 && expected != found;
        next.erase(name);
      } else {
        const std::string data(static_cast<size_t>(below(200)), static_cast<char>(below(256)));
        mutations.push_back(Put(name, expected, expected + 1 + below(3), data));
        conflict |= expected != found;
        next[name] = {mutations.back().revision, data};
      }
    }
    const absl::Status status = store_->Commit(mutations);
    ASSERT_EQ(status.ok(), !conflict) << status;
    if (!conflict) {
      model = std::move(next);
      ASSERT_TRUE(store_->Commit(mutations).ok()) << "tried again";
    }
    if (step % 100 != 99) continue;

    const std::string prefix = below(2) == 0 ? "" : "x/";
    const std::string after = below(2) == 0 ? "" : absl::StrCat("x/", below(30));
    const int64_t records_max = 1 + below(20);
    const int64_t bytes_max = below(1000);
    std::vector<StoredRecord> expected;
    int64_t bytes = 0;
    for (const auto& [name, value] : model) {
      if (!absl::StartsWith(name, prefix) || name <= after) continue;
      bytes += static_cast<int64_t>(value.second.size());
      const bool fits = static_cast<int64_t>(expected.size()) < records_max && bytes <= bytes_max;
      if (!expected.empty() && !fits) break;
      expected.push_back({name, value.first, value.second});
    }
    ASSERT_EQ(List(prefix, after, records_max, bytes_max), Describe(expected));
    for (int at = 0; at < 30; ++at) {
      const std::string name = absl::StrCat(at % 3 == 0 ? "x/" : "y", at);
      const auto it = model.find(name);
      ASSERT_EQ(Get(name), it == model.end()
                               ? "STATE_NOT_FOUND"
                               : absl::StrCat(it->second.first, "=", it->second.second));
    }
  }
}

}  // namespace
}  // namespace normd
