#include "core/store/known_revisions.h"

#include <gtest/gtest.h>
#include <rocksdb/perf_context.h>
#include <rocksdb/perf_level.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/store/state_store.h"
#include "tests/core/store/store_test_util.h"

namespace normd {
namespace {

constexpr size_t kPlaces = 256;

TEST(KnownRevisionsTest, KnowsWhatWasReadOrWritten) {
  KnownRevisions known(kPlaces);
  EXPECT_FALSE(known.IsAt("a", 0)) << "nothing is known, not even that it is not there";
  known.EndRead("a", known.BeginRead("a"), 3);
  EXPECT_TRUE(known.IsAt("a", 3));
  EXPECT_FALSE(known.IsAt("a", 2));
  known.BeginWrite("a");
  EXPECT_FALSE(known.IsAt("a", 3)) << "while it is written";
  known.EndWrite("a", 4);
  EXPECT_TRUE(known.IsAt("a", 4));
  known.EndRead("b", known.BeginRead("b"), 0);
  EXPECT_TRUE(known.IsAt("b", 0));
}

TEST(KnownRevisionsTest, ForgetsAReadThatAWriteMayHaveOvertaken) {
  KnownRevisions known(kPlaces);
  const uint64_t before = known.BeginRead("a");
  known.BeginWrite("a");
  const uint64_t meanwhile = known.BeginRead("a");
  known.EndRead("a", before, 3);
  EXPECT_FALSE(known.IsAt("a", 3));
  known.EndWrite("a", 4);
  known.EndRead("a", meanwhile, 3);
  EXPECT_FALSE(known.IsAt("a", 3));
  EXPECT_TRUE(known.IsAt("a", 4));
}

TEST(KnownRevisionsTest, KnowsNothingAfterAWriteThatFailed) {
  KnownRevisions known(kPlaces);
  known.BeginWrite("a");
  known.EndWrite("a", 1);
  known.BeginWrite("a");
  EXPECT_FALSE(known.IsAt("a", 1));
  EXPECT_FALSE(known.IsAt("a", 2));
  known.EndRead("a", known.BeginRead("a"), 1);
  EXPECT_TRUE(known.IsAt("a", 1)) << "until it is read";
}

TEST(KnownRevisionsTest, NeverTakesOneNameForAnother) {
  KnownRevisions known(kPlaces);
  constexpr int kNames = 1000;
  for (int i = 0; i < kNames; ++i) {
    known.BeginWrite(absl::StrCat("n", i));
    known.EndWrite(absl::StrCat("n", i), 7);
  }
  int right = 0;
  for (int i = 0; i < kNames; ++i) {
    if (known.IsAt(absl::StrCat("n", i), 7)) ++right;
    EXPECT_FALSE(known.IsAt(absl::StrCat("m", i), 7));
  }
  EXPECT_GT(right, 0);
  EXPECT_LE(right, static_cast<int>(kPlaces));
}

TEST(KnownRevisionsTest, KnowsMostNamesWhileTheyAreFew) {
  KnownRevisions known(kPlaces);
  constexpr int kNames = kPlaces / 2;
  for (int round = 1; round <= 2; ++round) {
    for (int i = 0; i < kNames; ++i) {
      known.BeginWrite(absl::StrCat("n", i));
      known.EndWrite(absl::StrCat("n", i), round);
    }
  }
  int right = 0;
  for (int i = 0; i < kNames; ++i) {
    EXPECT_FALSE(known.IsAt(absl::StrCat("n", i), 1));
    if (known.IsAt(absl::StrCat("n", i), 2)) ++right;
  }
  // The hash has another seed in each process: about 5 are lost. With one place for a hash it would
  // be about 27.
  EXPECT_GE(right, kNames - 16);
}

// How many bytes of records RocksDB reads for a commit on this thread.
uint64_t BytesReadFor(StateStore& store, const StoreMutation& mutation) {
  rocksdb::SetPerfLevel(rocksdb::kEnableCount);
  rocksdb::get_perf_context()->Reset();
  const absl::Status status = store.Commit({&mutation, 1});
  EXPECT_TRUE(status.ok()) << status;
  return rocksdb::get_perf_context()->get_read_bytes;
}

TEST(KnownRevisionsTest, SpareACommitTheReadOfWhatWasReadOrWrittenBefore) {
  const TempFolder folder;
  auto store = OpenOrDie(folder.Child("data"));
  const std::string data(1000, 'x');
  StoreMutation mutation = {.name = "a", .expected_revision = 0, .revision = 1, .data = data};
  ASSERT_TRUE(store->Commit({&mutation, 1}).ok());
  mutation.expected_revision = 1;
  mutation.revision = 2;
  EXPECT_EQ(BytesReadFor(*store, mutation), 0) << "after a write";
  store.reset();
  store = OpenOrDie(folder.Child("data"));
  mutation.expected_revision = 2;
  mutation.revision = 3;
  EXPECT_GE(BytesReadFor(*store, mutation), data.size()) << "when nothing is known";
  store.reset();
  store = OpenOrDie(folder.Child("data"));
  ASSERT_TRUE(store->Load("a").ok());
  mutation.expected_revision = 3;
  mutation.revision = 4;
  EXPECT_EQ(BytesReadFor(*store, mutation), 0) << "after a read";
  mutation.expected_revision = 3;
  mutation.revision = 5;
  EXPECT_EQ(GetReason(store->Commit({&mutation, 1})), Reason::kRevisionConflict);
}

}  // namespace
}  // namespace normd
