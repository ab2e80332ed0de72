#include "core/base/names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/base/limits.h"
#include "tests/core/error_matchers.h"

namespace normd {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Pair;

constexpr absl::string_view kAllowed =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";

TEST(StateNameTest, TakesGoodNames) {
  const std::vector<std::string> names = {"a",        "resnet50/layer1.0/bn1",
                                          "m/bn1",    "a/b/c/d/e/f/g",
                                          "0",        "-",
                                          "_",        "...",
                                          "a.",       ".a",
                                          "a..b",     "-/_",
                                          "..a",      "a../b",
                                          "..../bn1", std::string(kAllowed),
                                          "A-Z.a_z"};
  for (const std::string& name : names) {
    EXPECT_TRUE(CheckStateName(name).ok()) << name << ": " << CheckStateName(name);
  }
}

TEST(StateNameTest, RefusesEmptyAndDotSegments) {
  struct Case {
    absl::string_view name;
    absl::string_view message;
  };
  const std::vector<Case> cases = {
      {"", "state name '' is empty, expected 1 to 255 bytes"},
      {"/", "has the segment ''"},
      {"/a", "has the segment ''"},
      {"a/", "has the segment ''"},
      {"a//b", "has the segment ''"},
      {".", "has the segment '.'"},
      {"..", "has the segment '..'"},
      {"a/.", "has the segment '.'"},
      {"./a", "has the segment '.'"},
      {"a/../b", "has the segment '..'"},
      {"../a", "has the segment '..'"},
      {"a/..", "has the segment '..'"},
  };
  for (const Case& c : cases) {
    const absl::Status status = CheckStateName(c.name);
    EXPECT_THAT(status, IsError(Reason::kStateNameInvalid, HasSubstr(std::string(c.message))))
        << c.name;
    EXPECT_THAT(GetErrorMetadata(status), Contains(Pair("field", "name")));
  }
}

TEST(StateNameTest, TakesExactlyTheAllowedBytes) {
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const bool allowed = kAllowed.find(c) != absl::string_view::npos || c == '/';
    for (const std::string& name : {std::string{'a', c, 'b'}, std::string{'a', '/', 'a', c, 'b'}}) {
      EXPECT_EQ(CheckStateName(name).ok(), allowed) << "byte " << byte;
      EXPECT_EQ(CheckStateNamePrefix(name).ok(), allowed) << "byte " << byte;
    }
  }
}

TEST(StateNameTest, NamesTheForbiddenByteAndItsPlace) {
  EXPECT_THAT(CheckStateName("m/bn 1"),
              IsError(Reason::kStateNameInvalid,
                      "state name 'm/bn 1' has the byte ' ' at offset 4, expected segments of "
                      "[A-Za-z0-9_.-] joined by '/'"));
  EXPECT_THAT(CheckStateName("b\xc3\xa4\n"),
              IsError(Reason::kStateNameInvalid,
                      HasSubstr("state name 'b\\xc3\\xa4\\n' has the byte '\\xc3' at offset 1")));
  EXPECT_THAT(CheckStateName(absl::string_view("a\0b", 3)),
              IsError(Reason::kStateNameInvalid, HasSubstr("the byte '\\x00' at offset 1")));
}

TEST(StateNameTest, TakesAtMost255Bytes) {
  EXPECT_EQ(kStateNameBytesMax, 255);
  EXPECT_TRUE(CheckStateName(std::string(254, 'a') + "b").ok());
  EXPECT_THAT(
      CheckStateName(std::string(256, 'a')),
      IsError(Reason::kStateNameInvalid, "state name '" + std::string(64, 'a') +
                                             "...' is 256 bytes long, at most 255 are allowed"));
  EXPECT_TRUE(CheckStateNamePrefix(std::string(255, 'a')).ok());
  EXPECT_THAT(CheckStateNamePrefix(std::string(256, 'a')), HasReason(Reason::kStateNameInvalid));
}

TEST(StateNameTest, MessageStaysShortWhateverCame) {
  EXPECT_LT(CheckStateName(std::string(10 * kMiB, '\xff')).message().size(), 1024U);
  EXPECT_LT(CheckStateName(std::string(255, '\xff')).message().size(), 1024U);
}

TEST(StateNamePrefixTest, TakesWhatCanBeginAName) {
  for (const char* prefix : {"", "a", "a/", "resnet50/layer1.", "a/.", "a/..", "-"}) {
    EXPECT_TRUE(CheckStateNamePrefix(prefix).ok()) << prefix;
  }
}

TEST(StateNamePrefixTest, ErrorNamesThePrefix) {
  const absl::Status status = CheckStateNamePrefix("a*");
  EXPECT_THAT(status, IsError(Reason::kStateNameInvalid,
                              HasSubstr("prefix 'a*' has the byte '*' at offset 1")));
  EXPECT_THAT(GetErrorMetadata(status), Contains(Pair("field", "prefix")));
}

}  // namespace
}  // namespace normd
