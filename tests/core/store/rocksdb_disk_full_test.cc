// A RocksDB store on a disk that has no space left: a small tmpfs. Needs the right to mount.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/error.h"
#include "core/store/rocksdb_state_store.h"
#include "tests/core/store/store_test_util.h"

namespace normd {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr int kRecordBytes = 50'000;

class RocksdbDiskFullTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, "size=12m"), 0)
        << "this test needs the right to mount a tmpfs: " << std::strerror(errno);
    Open();
  }

  void TearDown() override {
    store_.reset();
    EXPECT_EQ(umount2(folder_.path().c_str(), MNT_DETACH), 0) << std::strerror(errno);
  }

  void Open() {
    RocksdbOptions options = SmallOptions(folder_.Child("data"));
    options.on_event = [this](absl::string_view line) { events_.emplace_back(line); };
    auto store = OpenRocksdbStateStore(std::move(options));
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // Overwrites one of ten names, the next at each call.
  absl::Status CommitNext() {
    const std::string name = absl::StrCat("n", next_ % 10);
    const auto it = acknowledged_.find(name);
    const int64_t revision = it == acknowledged_.end() ? 0 : it->second;
    absl::Status status = store_->Commit({Put(name, revision, revision + 1, DataOf(revision + 1))});
    if (status.ok()) {
      ++acknowledged_[name];
      ++next_;
    }
    return status;
  }

  // Adds new names until the disk is full.
  void FillWithRecords() {
    for (int i = 0; i < 10'000; ++i) {
      const std::string name = absl::StrCat("fill", i);
      const absl::Status status = store_->Commit({Put(name, 0, 1, DataOf(1))});
      if (!status.ok()) {
        EXPECT_EQ(GetReason(status), Reason::kStoreFull) << status;
        EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
        EXPECT_GT(i, 20);
        return;
      }
      acknowledged_[name] = 1;
    }
    FAIL() << "the disk never became full";
  }

  // Takes the space that is left with a file, and commits until that is refused; RocksDB may free
  // some space meanwhile, by removing files that it needs no more.
  absl::Status CommitUntilFull() {
    absl::Status status;
    for (int i = 0; i < 1000 && status.ok(); ++i) {
      std::ofstream filler(folder_.Child("filler"), std::ios::binary | std::ios::app);
      const std::string block(4096, 'x');
      while (filler.write(block.data(), 4096) && filler.flush()) {
      }
      status = CommitNext();
    }
    return status;
  }

  // RocksDB may need some seconds to see that there is space again.
  absl::Status CommitOnceThereIsSpace() {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    absl::Status status = CommitNext();
    while (GetReason(status) == Reason::kStoreFull && absl::Now() < deadline) {
      status = CommitNext();
    }
    return status;
  }

  void Enlarge() {
    ASSERT_EQ(mount("tmpfs", folder_.path().c_str(), "tmpfs", MS_REMOUNT, "size=100m"), 0)
        << std::strerror(errno);
  }

  void ExpectAllThere() {
    for (const auto& [name, revision] : acknowledged_) {
      const auto record = store_->Load(name);
      ASSERT_TRUE(record.ok()) << record.status();
      EXPECT_EQ(record->revision, revision) << name;
      EXPECT_EQ(record->data, DataOf(revision)) << name;
    }
    EXPECT_EQ(ListAll(*store_).size(), acknowledged_.size());
  }

  static std::string DataOf(int64_t revision) {
    return std::string(kRecordBytes, static_cast<char>(revision));
  }

  TempFolder folder_;
  std::vector<std::string> events_;
  std::unique_ptr<StateStore> store_;
  std::map<std::string, int64_t> acknowledged_;
  int64_t next_ = 0;
};

TEST_F(RocksdbDiskFullTest, RefusesWritesServesReadsAndWritesAgainWithSpace) {
  FillWithRecords();
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(GetReason(CommitUntilFull()), Reason::kStoreFull);
    ExpectAllThere();
  }
  EXPECT_THAT(events_, Contains(HasSubstr("event=store_full")));

  Enlarge();
  for (int i = 0; i < 100; ++i) {
    const absl::Status status = CommitOnceThereIsSpace();
    ASSERT_TRUE(status.ok()) << i << ": " << status;
  }
  EXPECT_THAT(events_, Contains(HasSubstr("event=store_writable")));
  ExpectAllThere();
  store_.reset();
  Open();
  ExpectAllThere();
}

TEST_F(RocksdbDiskFullTest, LivesThroughManyTimesWithoutSpace) {
  for (int round = 0; round < 10; ++round) {
    SCOPED_TRACE(round);
    for (int i = 0; i < round * 3; ++i) {
      const absl::Status status = CommitOnceThereIsSpace();
      ASSERT_TRUE(status.ok()) << status;
    }
    EXPECT_EQ(GetReason(CommitUntilFull()), Reason::kStoreFull);
    ExpectAllThere();
    std::filesystem::remove(folder_.Child("filler"));
    const absl::Status status = CommitOnceThereIsSpace();
    ASSERT_TRUE(status.ok()) << status;
    ExpectAllThere();
  }
  store_.reset();
  Open();
  ExpectAllThere();
}

TEST_F(RocksdbDiskFullTest, OpensAgainAfterClosingWithoutSpace) {
  FillWithRecords();
  store_.reset();
  auto refused = OpenRocksdbStateStore(SmallOptions(folder_.Child("data")));
  if (!refused.ok()) {
    EXPECT_EQ(GetReason(refused.status()), Reason::kStoreFull) << refused.status();
  } else {
    refused->reset();
  }
  Enlarge();
  Open();
  ASSERT_TRUE(CommitOnceThereIsSpace().ok());
  // The commit that found no space may have been made: it was not acknowledged, nor was it refused
  // for good.
  EXPECT_GE(ListAll(*store_).size(), acknowledged_.size());
  for (const auto& [name, revision] : acknowledged_) {
    EXPECT_EQ(store_->Load(name)->revision, revision) << name;
  }
}

}  // namespace
}  // namespace normd
