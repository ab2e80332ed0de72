// What a RocksDB store keeps, finds and refuses when it is opened again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/error.h"
#include "core/store/rocksdb_state_store.h"
#include "core/store/zeros_ahead.h"
#include "tests/core/store/store_test_util.h"

namespace normd {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

class RocksdbRecoveryTest : public testing::Test {
 protected:
  // Commits n000 .. n<count-1>, one by one, each with its own `data_bytes` bytes, and closes.
  void CommitAndClose(int count, size_t data_bytes) {
    const std::unique_ptr<StateStore> store = OpenOrDie(data_);
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(store->Commit({Put(Name(i), 0, 1, Data(i, data_bytes))}).ok());
      const std::vector<std::string> logs = FilesEndingWith(data_, ".log");
      ASSERT_EQ(logs.size(), 1u);
      log_ = logs.back();
      log_ends_.push_back(ReadLog(log_).size());
    }
  }

  // Moves what the log has to a table, as each opening does.
  void MoveToTable() {
    OpenOrDie(data_);
    ASSERT_EQ(FilesEndingWith(data_, ".sst").size(), 1u);
    table_ = FilesEndingWith(data_, ".sst").back();
  }

  absl::StatusOr<std::unique_ptr<StateStore>> Open(bool accept_data_loss = false) {
    RocksdbOptions options = SmallOptions(data_);
    options.accept_data_loss = accept_data_loss;
    options.on_event = [this](absl::string_view line) { events_.emplace_back(line); };
    return OpenRocksdbStateStore(std::move(options));
  }

  void ExpectRefused(absl::StatusCode code, const std::string& text,
                     bool accept_data_loss = false) {
    const absl::Status status = Open(accept_data_loss).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(data_), HasSubstr(text)));
  }

  static std::string Name(int i) { return absl::StrCat("n", absl::Dec(i, absl::kZeroPad3)); }

  static std::string Data(int i, size_t bytes) {
    std::string data = absl::StrCat("<", i, ">");
    data.resize(bytes, static_cast<char>('a' + i % 26));
    return data;
  }

  // The names that are there, each with the data it was given.
  static std::vector<std::string> Names(const StateStore& store, size_t data_bytes) {
    std::vector<std::string> names;
    for (const StoredRecord& record : ListAll(store)) {
      int number = 0;
      EXPECT_TRUE(absl::SimpleAtoi(record.name.substr(1), &number));
      EXPECT_EQ(record.data, Data(number, data_bytes)) << record.name;
      EXPECT_EQ(record.revision, 1);
      names.push_back(record.name);
    }
    return names;
  }

  TempFolder folder_;
  const std::string data_ = folder_.Child("data");
  std::vector<std::string> events_;
  std::string log_;
  std::string table_;
  std::vector<size_t> log_ends_;  // where the log ends after each commit
};

TEST_F(RocksdbRecoveryTest, KeepsEverythingOverReopening) {
  for (int64_t round = 0; round < 5; ++round) {
    const std::unique_ptr<StateStore> store = OpenOrDie(data_);
    ASSERT_TRUE(store
                    ->Commit({Put("often", round, round + 1, absl::StrCat(round)),
                              Put(absl::StrCat("once", round), 0, 1, "x")})
                    .ok());
    if (round > 0) {
      ASSERT_TRUE(store->Commit({Delete(absl::StrCat("once", round - 1), 1)}).ok());
    }
  }
  EXPECT_EQ(Describe(ListAll(*OpenOrDie(data_))), "often@5=4 once4@1=x");
}

TEST_F(RocksdbRecoveryTest, KeepsMoreThanAllItsBuffersHold) {
  constexpr int kRecords = 40;
  constexpr size_t kBytes = 300'000;
  {
    const std::unique_ptr<StateStore> store = OpenOrDie(data_);
    for (int i = 0; i < kRecords; ++i) {
      ASSERT_TRUE(store->Commit({Put(Name(i), 0, 1, Data(i, kBytes))}).ok());
    }
    EXPECT_EQ(Names(*store, kBytes).size(), kRecords);
  }
  const auto store = Open();
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(Names(**store, kBytes).size(), kRecords);
  EXPECT_TRUE(events_.empty()) << absl::StrJoin(events_, "\n");
}

TEST_F(RocksdbRecoveryTest, DropsATornTailAndNothingElse) {
  constexpr int kRecords = 10;
  CommitAndClose(kRecords, 500);
  const std::string whole = ReadFile(log_);
  const TempFolder saved;
  std::filesystem::copy(data_, saved.Child("data"));
  const size_t begin = log_ends_[kRecords - 2];
  for (const size_t size : {begin + 1, begin + 6, begin + 7, begin + 100, whole.size() - 1}) {
    SCOPED_TRACE(size);
    for (const size_t zeros : {size_t{0}, whole.size() - size, size_t{1} << 20}) {
      SCOPED_TRACE(zeros);
      std::filesystem::remove_all(data_);
      std::filesystem::copy(saved.Child("data"), data_);
      WriteFile(log_, whole.substr(0, size) + std::string(zeros, '\0'));
      events_.clear();
      const auto store = Open();
      ASSERT_TRUE(store.ok()) << store.status();
      EXPECT_EQ(Names(**store, 500).size(), kRecords - 1);
      EXPECT_THAT(events_, testing::ElementsAre(HasSubstr("event=torn_tail_dropped")));
      EXPECT_TRUE((*store)->Commit({Put(Name(9), 0, 1, Data(9, 500))}).ok());
    }
  }
}

TEST_F(RocksdbRecoveryTest, FindsAllOfALogThatWasNotClosed) {
  const std::unique_ptr<StateStore> store = OpenOrDie(data_);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(store->Commit({Put(Name(i), 0, 1, Data(i, 500))}).ok());
  }
  // What a crash leaves.
  const TempFolder saved;
  std::filesystem::copy(data_, saved.Child("data"));
  const std::string log = FilesEndingWith(saved.Child("data"), ".log").back();
  EXPECT_GT(ReadFile(log).size(), ReadLog(log).size() + ZerosAhead::kZeroBytes / 2);

  RocksdbOptions options = SmallOptions(saved.Child("data"));
  options.on_event = [this](absl::string_view line) { events_.emplace_back(line); };
  const auto reopened = OpenRocksdbStateStore(std::move(options));
  ASSERT_TRUE(reopened.ok()) << reopened.status();
  EXPECT_EQ(Names(**reopened, 500).size(), 10u);
  EXPECT_TRUE(events_.empty()) << absl::StrJoin(events_, "\n");
}

TEST_F(RocksdbRecoveryTest, DropsALastCommitWithAWrongChecksumAsTorn) {
  CommitAndClose(10, 500);
  FlipBit(log_, log_ends_.back() - 10);
  const auto store = Open();
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(Names(**store, 500).size(), 9u);
  EXPECT_THAT(events_, testing::ElementsAre(HasSubstr("event=torn_tail_dropped")));
}

TEST_F(RocksdbRecoveryTest, RefusesRotInTheMiddleOfTheLog) {
  constexpr int kRecords = 200;
  CommitAndClose(kRecords, 1000);
  const std::string whole = ReadFile(log_);
  const TempFolder saved;
  std::filesystem::copy(data_, saved.Child("data"));
  const struct {
    const char* name;
    size_t at;
    size_t kept_min;  // records that must be there when the loss is accepted
  } cases[] = {
      {"first record", 50, 160},
      {"payload in the middle", log_ends_[100] + 300, 160},
      {"checksum in the middle", log_ends_[100], 160},
      {"length in the middle", log_ends_[100] + 4, 160},
      {"payload in the last block", log_ends_[190] + 300, 191},
      {"length in the last block", log_ends_[190] + 5, 191},
      {"the last commit but one", log_ends_[197] + 300, 198},
  };
  for (const auto& test_case : cases) {
    SCOPED_TRACE(test_case.name);
    std::filesystem::remove_all(data_);
    std::filesystem::copy(saved.Child("data"), data_);
    FlipBit(log_, test_case.at);
    const std::string damaged = ReadFile(log_);
    ExpectRefused(absl::StatusCode::kDataLoss, "--accept-data-loss");
    EXPECT_TRUE(ReadFile(log_) == damaged) << "a refusal changes nothing";
    ExpectRefused(absl::StatusCode::kDataLoss, "--accept-data-loss");

    events_.clear();
    const auto store = Open(/*accept_data_loss=*/true);
    ASSERT_TRUE(store.ok()) << store.status();
    const size_t kept = Names(**store, 1000).size();
    EXPECT_GE(kept, test_case.kept_min);
    EXPECT_LT(kept, static_cast<size_t>(kRecords));
    EXPECT_THAT(events_, testing::ElementsAre(HasSubstr("event=data_loss_accepted")));
    ASSERT_TRUE((*store)->Commit({Put("after", 0, 1, "x")}).ok());
  }
  ASSERT_TRUE(Open().ok()) << "once accepted, the folder is in order";
}

TEST_F(RocksdbRecoveryTest, ServesAllButADamagedRecord) {
  constexpr size_t kBytes = 8000;
  CommitAndClose(20, kBytes);
  MoveToTable();
  const size_t at = ReadFile(table_).find(Data(7, kBytes));
  ASSERT_NE(at, std::string::npos);
  FlipBit(table_, at + 4000);

  const auto opened = Open();
  ASSERT_TRUE(opened.ok()) << opened.status();
  StateStore& store = **opened;
  for (int i = 0; i < 20; ++i) {
    const auto record = store.Load(Name(i));
    if (i != 7) {
      ASSERT_TRUE(record.ok()) << record.status();
      EXPECT_EQ(record->data, Data(i, kBytes));
      continue;
    }
    EXPECT_EQ(record.status().code(), absl::StatusCode::kDataLoss) << record.status();
    EXPECT_EQ(GetReason(record.status()), Reason::kRecordDamaged);
    EXPECT_EQ(GetErrorMetadata(record.status())["name"], "n007");
    EXPECT_THAT(std::string(record.status().message()), HasSubstr("n007"));
  }

  const auto before = store.List("", "", 100, kNoLimit);
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_EQ(before->size(), 7u) << "the list ends before the damage";
  const absl::Status at_damage = store.List("", "n006", 100, kNoLimit).status();
  EXPECT_EQ(GetReason(at_damage), Reason::kRecordDamaged) << at_damage;
  EXPECT_EQ(GetErrorMetadata(at_damage)["after"], "n006");
  EXPECT_EQ(store.List("n01", "", 100, kNoLimit)->size(), 10u);

  const absl::Status create = store.Commit({Put("n007", 0, 1, "x"), Put("new", 0, 1, "x")});
  EXPECT_EQ(GetReason(create), Reason::kRecordDamaged) << create;
  EXPECT_EQ(GetErrorMetadata(create)["name"], "n007");
  EXPECT_EQ(GetReason(store.Load("new").status()), Reason::kStateNotFound);
  ASSERT_TRUE(store.Commit({Put("n008", 1, 2, "x")}).ok());

  ASSERT_TRUE(store.Commit({Delete("n007", 0)}).ok());
  EXPECT_EQ(GetReason(store.Load("n007").status()), Reason::kStateNotFound);
  ASSERT_TRUE(store.Commit({Put("n007", 0, 1, "anew")}).ok());
  EXPECT_EQ(store.Load("n007")->data, "anew");
}

TEST_F(RocksdbRecoveryTest, ReplacesADamagedRecordForWhoKnowsWhatItHeld) {
  constexpr size_t kBytes = 8000;
  CommitAndClose(20, kBytes);
  MoveToTable();
  FlipBit(table_, ReadFile(table_).find(Data(7, kBytes)) + 4000);
  events_.clear();
  {
    const auto store = Open();
    ASSERT_TRUE(store.ok()) << store.status();
    const absl::Status replaced =
        (*store)->Commit({Put("n007", 1, 2, "x"), Put("n008", 1, 2, "y")});
    ASSERT_TRUE(replaced.ok()) << replaced;
    EXPECT_EQ((*store)->Load("n007")->data, "x");
    EXPECT_THAT(events_,
                testing::Contains(HasSubstr("event=damaged_record_replaced name=\"n007\"")));
  }
  const auto store = Open();
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ((*store)->Load("n007")->revision, 2);
  EXPECT_EQ((*store)->Load("n008")->data, "y");
}

TEST_F(RocksdbRecoveryTest, TellsAValueThatIsTooShortToBeARecord) {
  CommitAndClose(1, 10);
  {
    rocksdb::DB* opened = nullptr;
    const rocksdb::Status status = rocksdb::DB::Open(rocksdb::Options(), data_, &opened);
    ASSERT_TRUE(status.ok()) << status.ToString();
    const std::unique_ptr<rocksdb::DB> db(opened);
    ASSERT_TRUE(db->Put(rocksdb::WriteOptions(), "short", "12345").ok());
    ASSERT_TRUE(db->Put(rocksdb::WriteOptions(), "shorter", "").ok());
  }
  const auto store = Open();
  ASSERT_TRUE(store.ok()) << store.status();
  for (const absl::Status& status :
       {(*store)->Load("short").status(), (*store)->Commit({Put("short", 0, 1, "x")})}) {
    EXPECT_EQ(GetReason(status), Reason::kRecordDamaged) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("no revision in 5 bytes"));
  }
  ASSERT_TRUE((*store)->Commit({Put("short", 1, 2, "x")}).ok());
  EXPECT_EQ((*store)->Load("short")->data, "x");
  ASSERT_TRUE((*store)->Commit({Delete("shorter", 0)}).ok());
  EXPECT_EQ(GetReason((*store)->Load("shorter").status()), Reason::kStateNotFound);
}

TEST_F(RocksdbRecoveryTest, TakesCommitsForEverBesideADamagedRecord) {
  constexpr int64_t kRounds = 300;
  constexpr size_t kBytes = 8000;
  CommitAndClose(20, kBytes);
  MoveToTable();
  FlipBit(table_, ReadFile(table_).find(Data(7, kBytes)) + 4000);
  for (int reopened = 0; reopened < 2; ++reopened) {
    SCOPED_TRACE(reopened);
    const auto opened = Open();
    ASSERT_TRUE(opened.ok()) << opened.status();
    StateStore& store = **opened;
    // Far more than the buffers hold, over the range of the damaged table, so that it is compacted.
    const std::string large(100'000, 'x');
    for (int64_t round = 0; round < kRounds; ++round) {
      const int64_t revision = reopened * kRounds + round;
      const absl::Status status = store.Commit({Put("n0065", revision, revision + 1, large),
                                                Put("n0085", revision, revision + 1, large)});
      ASSERT_TRUE(status.ok()) << round << ": " << status;
    }
    EXPECT_EQ(GetReason(store.Load(Name(7)).status()), Reason::kRecordDamaged);
    EXPECT_EQ(store.Load(Name(8))->data, Data(8, kBytes));
  }
}

TEST_F(RocksdbRecoveryTest, RefusesDamageOutsideTheLog) {
  CommitAndClose(20, 100);
  MoveToTable();
  const TempFolder saved;
  std::filesystem::copy(data_, saved.Child("data"));
  const auto manifest = [this] {
    std::string name = ReadFile(data_ + "/CURRENT");
    name.pop_back();
    return absl::StrCat(data_, "/", name);
  };
  const struct {
    const char* name;
    std::function<void()> damage;
  } cases[] = {
      {"CURRENT missing", [&] { std::filesystem::remove(data_ + "/CURRENT"); }},
      {"CURRENT empty", [&] { WriteFile(data_ + "/CURRENT", ""); }},
      {"CURRENT cut", [&] { WriteFile(data_ + "/CURRENT", "MANIF"); }},
      {"CURRENT flipped", [&] { FlipBit(data_ + "/CURRENT", 12); }},
      {"CURRENT of zeros", [&] { WriteFile(data_ + "/CURRENT", std::string(16, '\0')); }},
      {"MANIFEST missing", [&] { std::filesystem::remove(manifest()); }},
      {"MANIFEST empty", [&] { WriteFile(manifest(), ""); }},
      {"MANIFEST flipped", [&] { FlipBit(manifest(), 20); }},
      {"MANIFEST flipped near its end",
       [&] { FlipBit(manifest(), std::filesystem::file_size(manifest()) - 20); }},
      {"table missing", [&] { std::filesystem::remove(table_); }},
      {"table cut", [&] { WriteFile(table_, ReadFile(table_).substr(0, 1000)); }},
      {"table footer flipped", [&] { FlipBit(table_, std::filesystem::file_size(table_) - 3); }},
  };
  for (const auto& test_case : cases) {
    SCOPED_TRACE(test_case.name);
    std::filesystem::remove_all(data_);
    std::filesystem::copy(saved.Child("data"), data_);
    test_case.damage();
    ExpectRefused(absl::StatusCode::kDataLoss, "restore it from a backup");
    ExpectRefused(absl::StatusCode::kDataLoss, "restore it from a backup",
                  /*accept_data_loss=*/true);
  }
}

}  // namespace
}  // namespace normd
