// Which folders a RocksDB store opens, and what it says of the others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/store/data_folder.h"
#include "core/store/rocksdb_state_store.h"
#include "tests/core/store/store_test_util.h"

namespace normd {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr absl::StatusCode kPrecondition = absl::StatusCode::kFailedPrecondition;

class RocksdbFolderTest : public testing::Test {
 protected:
  absl::Status Open() const { return OpenRocksdbStateStore(SmallOptions(data_)).status(); }

  // Expects that the store is refused with `code`, the folder's name and `text`.
  void ExpectRefused(absl::StatusCode code, const std::string& text) const {
    const absl::Status status = Open();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(data_), HasSubstr(text)));
  }

  std::string FormatFile() const { return absl::StrCat(data_, "/NORMD_FORMAT"); }

  TempFolder folder_;
  std::string data_ = folder_.Child("data");
};

TEST_F(RocksdbFolderTest, MakesTheFolderAndNamesItsFormat) {
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(ReadFile(FormatFile()), "normd data folder, format 1\n");
}

TEST_F(RocksdbFolderTest, OpensTheRootOfAFileSystem) {
  std::filesystem::create_directory(data_);
  std::filesystem::create_directory(data_ + "/lost+found");
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(Open().ok());
}

TEST_F(RocksdbFolderTest, OpensAFolderWhoseMakingWasCutShort) {
  for (const char* format : {"", "normd data fol"}) {
    SCOPED_TRACE(format);
    std::filesystem::remove_all(data_);
    std::filesystem::create_directory(data_);
    WriteFile(FormatFile(), format);
    ASSERT_TRUE(Open().ok());
    EXPECT_EQ(ReadFile(FormatFile()), "normd data folder, format 1\n");
  }
}

TEST_F(RocksdbFolderTest, OpensByARelativePathAndByOneThatEndsWithASlash) {
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder_.path());
  EXPECT_TRUE(OpenRocksdbStateStore(SmallOptions("relative")).ok());
  EXPECT_TRUE(OpenRocksdbStateStore(SmallOptions("slashes//")).ok());
  std::filesystem::current_path(before);
  EXPECT_TRUE(std::filesystem::exists(folder_.Child("relative/NORMD_FORMAT")));
  EXPECT_TRUE(std::filesystem::exists(folder_.Child("slashes/NORMD_FORMAT")));
}

TEST_F(RocksdbFolderTest, RefusesAFolderInUse) {
  std::unique_ptr<StateStore> first = OpenOrDie(data_);
  ExpectRefused(kPrecondition, "in use by another process");
  first.reset();
  EXPECT_TRUE(Open().ok());
}

TEST_F(RocksdbFolderTest, RefusesAFolderInUseByAnotherProcess) {
  const std::string command = absl::StrCat(NORMD_STORE_WRITER, " ", data_, " 1");
  FILE* writer = popen(command.c_str(), "r");
  ASSERT_NE(writer, nullptr);
  char line[200];
  ASSERT_NE(fgets(line, sizeof(line), writer), nullptr) << "the writer has opened and committed";
  ExpectRefused(kPrecondition, "in use by another process");
  pclose(writer);  // ends the writer, whose lines nobody reads any more
}

TEST_F(RocksdbFolderTest, RefusesANewerFormatAndTouchesNothing) {
  {
    const std::unique_ptr<StateStore> store = OpenOrDie(data_);
    ASSERT_TRUE(store->Commit({Put("a", 0, 1, "one")}).ok());
  }
  WriteFile(FormatFile(), "normd data folder, format 2\n");
  const std::string log = FilesEndingWith(data_, ".log").back();
  const std::string log_before = ReadFile(log);
  ExpectRefused(kPrecondition,
                "has format 2, made by a newer normd; this one reads formats up to 1");
  EXPECT_EQ(ReadFile(log), log_before);
  EXPECT_EQ(ReadFile(FormatFile()), "normd data folder, format 2\n");
}

TEST_F(RocksdbFolderTest, RefusesAFormatFileThatSaysSomethingElse) {
  ASSERT_TRUE(Open().ok());
  for (const char* text : {"", "normd data fol", "hello", "normd data folder, format x\n",
                           "normd data folder, format 0\n"}) {
    SCOPED_TRACE(text);
    WriteFile(FormatFile(), text);
    ExpectRefused(kPrecondition, "does not name a format");
  }
}

TEST_F(RocksdbFolderTest, RefusesADatabaseThatIsNotNormds) {
  ASSERT_TRUE(Open().ok());
  std::filesystem::remove(FormatFile());
  ExpectRefused(kPrecondition, "it is not normd's");
  EXPECT_FALSE(std::filesystem::exists(FormatFile()));
}

TEST_F(RocksdbFolderTest, RefusesAFolderOfSomethingElse) {
  std::filesystem::create_directory(data_);
  WriteFile(data_ + "/notes.txt", "mine");
  ExpectRefused(kPrecondition, "holds 'notes.txt' and no file NORMD_FORMAT");
  std::filesystem::remove(data_ + "/notes.txt");
  EXPECT_TRUE(Open().ok());
}

TEST_F(RocksdbFolderTest, RefusesAMissingParent) {
  data_ = folder_.Child("missing/data");
  ExpectRefused(kPrecondition, "parent folder is not there");
  EXPECT_FALSE(std::filesystem::exists(folder_.Child("missing")));
}

TEST_F(RocksdbFolderTest, RefusesAFileInTheWay) {
  WriteFile(data_, "a file");
  ExpectRefused(kPrecondition, "a file is in the way");
  EXPECT_EQ(ReadFile(data_), "a file");
}

TEST_F(RocksdbFolderTest, RefusesAFileInTheWayOfTheParent) {
  WriteFile(data_, "a file");
  data_ += "/data";
  ExpectRefused(kPrecondition, "Not a directory");
}

TEST_F(RocksdbFolderTest, RefusesAnEmptyPath) {
  data_ = "";
  ExpectRefused(kPrecondition, "the data folder has no name");
}

TEST_F(RocksdbFolderTest, RefusesAFolderItMayNotWrite) {
  constexpr uid_t kNobody = 65534;
  const bool is_root = geteuid() == 0;
  for (const bool is_there : {false, true}) {
    SCOPED_TRACE(is_there);
    if (is_there) {
      ASSERT_TRUE(Open().ok());
      ASSERT_EQ(chmod(data_.c_str(), 0555), 0);
      ASSERT_EQ(chmod(FormatFile().c_str(), 0444), 0);
    }
    ASSERT_EQ(chmod(folder_.path().c_str(), 0555), 0);
    if (is_root) {
      ASSERT_EQ(seteuid(kNobody), 0);
    }
    ExpectRefused(kPrecondition, "Permission denied");
    if (is_root) {
      ASSERT_EQ(seteuid(0), 0);
    }
    ASSERT_EQ(chmod(folder_.path().c_str(), 0755), 0);
  }
  ASSERT_EQ(chmod(data_.c_str(), 0755), 0);
}

}  // namespace
}  // namespace normd
