#include "core/store/write_ahead_log.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "tests/core/store/store_test_util.h"

namespace normd {
namespace {

constexpr size_t kBlockBytes = 32768;
// None of its bytes is zero, so no record ends with one.
constexpr int64_t kRevision = 0x0101010101010101;

// A log that RocksDB wrote, one commit for each of the given data sizes.
class Log {
 public:
  explicit Log(const std::vector<size_t>& data_bytes) {
    const std::string directory = folder_.Child("data");
    const std::unique_ptr<StateStore> store = OpenOrDie(directory);
    for (size_t i = 0; i < data_bytes.size(); ++i) {
      // Bytes 1 look like the types of whole records.
      const std::string data(data_bytes[i], '\1');
      EXPECT_TRUE(store->Commit({Put(absl::StrCat("name", i), 0, kRevision, data)}).ok());
      path_ = FilesEndingWith(directory, ".log").back();
      starts_.push_back(bytes_.size());
      bytes_ = ReadLog(path_);
    }
  }

  const std::string& bytes() const { return bytes_; }
  // Where the i-th commit begins in the log.
  size_t start(size_t i) const { return starts_[i]; }
  size_t last_start() const { return starts_.back(); }

  // What the checker says of `bytes` in the place of the log.
  LogCondition Check(const std::string& bytes) const {
    WriteFile(path_, bytes);
    const absl::StatusOr<LogCondition> condition = CheckWriteAheadLog(path_);
    EXPECT_TRUE(condition.ok()) << condition.status();
    return condition.value_or(LogCondition::kWhole);
  }

  LogCondition CheckWithZeros(size_t begin, size_t end) const {
    std::string bytes = bytes_;
    bytes.replace(begin, end - begin, end - begin, '\0');
    return Check(bytes);
  }

 private:
  TempFolder folder_;
  std::string path_;
  std::string bytes_;
  std::vector<size_t> starts_;
};

TEST(WriteAheadLogTest, FindsAnUntouchedLogWhole) {
  const Log log({0, 1, 100, kBlockBytes, 3, 5 * kBlockBytes, 20000, 20000, 7});
  EXPECT_EQ(log.Check(log.bytes()), LogCondition::kWhole);
  EXPECT_EQ(log.Check(""), LogCondition::kWhole);
}

TEST(WriteAheadLogTest, FindsALogWholeWhateverIsLeftOfABlock) {
  // The header of a commit of `name` and its data takes 7 + 12 + 16 bytes, more or less.
  for (size_t left = 0; left < 60; ++left) {
    SCOPED_TRACE(left);
    const Log log({kBlockBytes - left, 10, 10});
    EXPECT_EQ(log.Check(log.bytes()), LogCondition::kWhole);
    EXPECT_EQ(log.CheckWithZeros(100, 120), LogCondition::kRecordLost);
  }
}

TEST(WriteAheadLogTest, FindsEachFlippedBitInOneBlock) {
  const Log log({20, 0, 300, 40, 60});
  for (size_t at = 0; at < log.bytes().size(); ++at) {
    std::string bytes = log.bytes();
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << at % 8));
    EXPECT_EQ(log.Check(bytes),
              at < log.last_start() ? LogCondition::kRecordLost : LogCondition::kTornTail)
        << "bit " << at % 8 << " of byte " << at << ", the last commit begins at "
        << log.last_start();
  }
}

TEST(WriteAheadLogTest, FindsALogWholeWhateverZerosFollowIt) {
  for (const size_t left : {0, 1, 6, 7, 8, 100}) {
    const Log log({20, 300, kBlockBytes - left});
    for (const size_t zeros : {1ul, 6ul, 7ul, 100ul, kBlockBytes, 3 * kBlockBytes + 5}) {
      EXPECT_EQ(log.Check(log.bytes() + std::string(zeros, '\0')), LogCondition::kWhole)
          << left << " and " << zeros;
    }
  }
}

TEST(WriteAheadLogTest, FindsATornCommitBeforeZeros) {
  const Log log({20, 300, 5 * kBlockBytes});
  const std::string zeros(2 * kBlockBytes, '\0');
  for (size_t size = log.last_start() + 5; size < log.bytes().size(); size += 997) {
    EXPECT_EQ(log.Check(log.bytes().substr(0, size) + zeros), LogCondition::kTornTail) << size;
  }
  EXPECT_EQ(log.CheckWithZeros(log.last_start(), log.bytes().size() - 1), LogCondition::kTornTail)
      << "its last byte alone";
}

TEST(WriteAheadLogTest, FindsACommitBehindZeros) {
  const Log log({20, 300, 2 * kBlockBytes, 40});
  for (const size_t zeros : {kBlockBytes, 2 * kBlockBytes}) {
    const std::string lost = log.bytes().substr(0, log.start(1)) + std::string(zeros, '\0') +
                             log.bytes().substr(log.last_start());
    EXPECT_EQ(log.Check(lost), LogCondition::kRecordLost) << zeros;
  }
}

TEST(WriteAheadLogTest, FindsACutInsideTheLastCommit) {
  const Log log({20, 300, 40});
  for (size_t size = log.last_start() + 1; size < log.bytes().size(); ++size) {
    EXPECT_EQ(log.Check(log.bytes().substr(0, size)), LogCondition::kTornTail) << size;
  }
  EXPECT_EQ(log.Check(log.bytes().substr(0, log.last_start())), LogCondition::kWhole)
      << "a cut between two commits cannot be seen";
}

TEST(WriteAheadLogTest, TakesAnyDamageOfALongLastCommitForATornTail) {
  const Log log({20, 300, 5 * kBlockBytes});
  const size_t start = log.last_start();
  for (size_t size = start + 1; size < log.bytes().size(); size += 1000) {
    EXPECT_EQ(log.Check(log.bytes().substr(0, size)), LogCondition::kTornTail) << size;
  }
  EXPECT_EQ(log.Check(log.bytes().substr(0, 2 * kBlockBytes)), LogCondition::kTornTail)
      << "cut between two fragments";
  EXPECT_EQ(log.CheckWithZeros(start, start + 10), LogCondition::kTornTail);
  EXPECT_EQ(log.CheckWithZeros(start + 5000, start + 2 * kBlockBytes), LogCondition::kTornTail)
      << "later pages reached the disk before earlier ones";
}

TEST(WriteAheadLogTest, FindsDamageOfALongCommitBeforeOthers) {
  const Log log({20, 5 * kBlockBytes, 20000, 20000});
  const size_t start = log.start(1);
  for (size_t at = start; at < log.start(2); at += 1234) {
    EXPECT_EQ(log.CheckWithZeros(at, at + 40), LogCondition::kRecordLost) << at;
  }
  EXPECT_EQ(log.CheckWithZeros(start, log.last_start()), LogCondition::kRecordLost);
  EXPECT_EQ(log.CheckWithZeros(0, start), LogCondition::kRecordLost);
}

TEST(WriteAheadLogTest, RefusesAFileThatIsNotThere) {
  TempFolder folder;
  EXPECT_EQ(GetReason(CheckWriteAheadLog(folder.Child("000001.log")).status()),
            Reason::kStoreUnavailable);
}

}  // namespace
}  // namespace normd
