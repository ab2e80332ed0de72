#include "core/store/zeros_ahead.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "tests/core/store/store_test_util.h"

namespace normd {
namespace {

// A file that is appended to as a log is.
class AppendedFile {
 public:
  AppendedFile() : path_(folder_.Child("file")), file_(path_, std::ios::binary), zeros_(path_) {}

  void Append(const std::string& bytes) {
    zeros_.BeforeAppend(appended_.size(), bytes.size());
    file_ << bytes << std::flush;
    EXPECT_TRUE(file_);
    appended_ += bytes;
  }

  // How many zeros follow what was appended, which is checked.
  size_t ZerosBehind() const {
    const std::string all = ReadFile(path_);
    EXPECT_EQ(all.substr(0, appended_.size()), appended_);
    EXPECT_EQ(all.find_first_not_of('\0', appended_.size()), std::string::npos);
    return all.size() - appended_.size();
  }

 private:
  const TempFolder folder_;
  const std::string path_;
  std::ofstream file_;
  ZerosAhead zeros_;
  std::string appended_;
};

TEST(ZerosAheadTest, ShortAppendsTakeThePlaceOfZeros) {
  AppendedFile file;
  file.Append("a");
  EXPECT_EQ(file.ZerosBehind(), ZerosAhead::kZeroBytes);
  for (size_t i = 1; i <= 100; ++i) {
    file.Append(std::string(100, 'b'));
    ASSERT_EQ(file.ZerosBehind(), ZerosAhead::kZeroBytes - i * 100);
  }
}

TEST(ZerosAheadTest, WritesMoreWhereAnAppendReachesBehindThem) {
  AppendedFile file;
  const std::string bytes(ZerosAhead::kShortBytes, 'x');
  constexpr size_t kFit = ZerosAhead::kZeroBytes / ZerosAhead::kShortBytes;
  file.Append(bytes);
  for (size_t i = 0; i < kFit; ++i) file.Append(bytes);
  EXPECT_EQ(file.ZerosBehind(), 0u);
  file.Append("y");
  EXPECT_EQ(file.ZerosBehind(), ZerosAhead::kZeroBytes);
  file.Append(bytes.substr(1));
  for (size_t i = 1; i < kFit; ++i) file.Append(bytes);
  EXPECT_EQ(file.ZerosBehind(), 1u);
  file.Append("yz");
  EXPECT_EQ(file.ZerosBehind(), ZerosAhead::kZeroBytes);
}

TEST(ZerosAheadTest, LongAppendsGoWithout) {
  AppendedFile file;
  const std::string bytes(ZerosAhead::kShortBytes + 1, 'x');
  for (int i = 0; i < 3; ++i) file.Append(bytes);
  EXPECT_EQ(file.ZerosBehind(), 0u);
  file.Append("a");
  EXPECT_EQ(file.ZerosBehind(), ZerosAhead::kZeroBytes);
  for (int i = 0; i < 20; ++i) file.Append(bytes);
  EXPECT_EQ(file.ZerosBehind(), 0u);
}

TEST(ZerosAheadTest, AFileThatCannotBeOpenedGetsNone) {
  const TempFolder folder;
  ZerosAhead zeros(folder.Child("gone"));
  zeros.BeforeAppend(0, 1);
  EXPECT_FALSE(std::ifstream(folder.Child("gone")));
}

}  // namespace
}  // namespace normd
