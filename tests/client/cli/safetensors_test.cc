#include "client/cli/safetensors.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/byte_source.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/cli/test_files.h"

namespace normd::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

// The message of the error of a header before `data_bytes` bytes; empty when it is taken.
std::string MessageOf(absl::string_view json, int64_t data_bytes) {
  return std::string(ParseSafetensorsHeader(json, data_bytes).status().message());
}

// A tensor of 8 bytes of a header with the fields `fields`.
std::string WithFields(absl::string_view fields) {
  return MessageOf(absl::StrCat(R"({"t":{)", fields, "}}"), 8);
}

std::string File(absl::string_view json, absl::string_view data) {
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>((json.size() >> (8 * i)) & 0xff);
  return absl::StrCat(length, json, data);
}

TEST(SafetensorsHeaderTest, ReadsTensorsInTheOrderOfTheirBytes) {
  const auto header =
      ParseSafetensorsHeader(R"( {"b":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},)"
                             R"("__metadata__":{"format":"pt","é":"\n"},)"
                             R"("a":{"shape":[],"data_offsets":[0,8],"dtype":"I64"},)"
                             R"("empty":{"dtype":"BF16","shape":[3,0],"data_offsets":[16,16]}}   )",
                             16);
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_THAT(header->entries, SizeIs(3));
  EXPECT_EQ(header->entries[0].name, "a");
  EXPECT_EQ(header->entries[0].dtype, "I64");
  EXPECT_THAT(header->entries[0].shape, IsEmpty());
  EXPECT_EQ(header->entries[1].name, "b");
  EXPECT_THAT(header->entries[1].shape, ElementsAre(1, 2));
  EXPECT_EQ(header->entries[1].begin, 8);
  EXPECT_EQ(header->entries[1].end, 16);
  EXPECT_EQ(header->entries[2].name, "empty");
  EXPECT_THAT(header->metadata, ElementsAre(Pair("format", "pt"), Pair("é", "\n")));
}

TEST(SafetensorsHeaderTest, TakesAFileWithoutTensors) {
  EXPECT_EQ(MessageOf("{}", 0), "");
  EXPECT_EQ(MessageOf(R"({"__metadata__":{}})", 0), "");
  EXPECT_THAT(MessageOf("{}", 1), HasSubstr("have 0 bytes, and 1 bytes follow"));
}

TEST(SafetensorsHeaderTest, RefusesWhatIsNotJson) {
  for (const char* text : {"", "{", "}", "{]", "{\"a\"", "{\"a\":}", "{} x", "\xff",
                           "{\"\xff\":{}}", "{'a':{}}", "{\"__metadata__\":{\"a\":\"b\"}", "nan"}) {
    EXPECT_THAT(MessageOf(text, 0), HasSubstr("not JSON")) << text;
  }
}

TEST(SafetensorsHeaderTest, RefusesDeepNestingInEveryPlace) {
  const std::string deep(3'000'000, '[');
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) absl::StrAppend(&objects, R"({"a":)");
  for (const std::string& value : {deep, objects}) {
    for (const std::string& text :
         {value, absl::StrCat(R"({"t":)", value), absl::StrCat(R"({"__metadata__":)", value),
          absl::StrCat(R"({"__metadata__":{"normd":)", value),
          absl::StrCat(R"({"t":{"dtype":)", value), absl::StrCat(R"({"t":{"shape":)", value),
          absl::StrCat(R"({"t":{"shape":[)", value),
          absl::StrCat(R"({"t":{"data_offsets":)", value),
          absl::StrCat(R"({"t":{"data_offsets":[0,)", value)}) {
      EXPECT_THAT(MessageOf(text, 0), HasSubstr("is malformed")) << text.substr(0, 40);
    }
  }
}

TEST(SafetensorsHeaderTest, RefusesEveryOtherForm) {
  for (const char* text : {"[]",
                           "1",
                           "null",
                           "true",
                           "\"a\"",
                           "1.5",
                           "-1",
                           R"({"t":1})",
                           R"({"t":[]})",
                           R"({"t":"F32"})",
                           R"({"t":null})",
                           R"({"__metadata__":[]})",
                           R"({"__metadata__":"a"})",
                           R"({"__metadata__":{"a":1}})",
                           R"({"__metadata__":{"a":{}}})",
                           R"({"__metadata__":{"a":["b"]}})",
                           R"({"t":{"dtype":1}})",
                           R"({"t":{"dtype":{}}})",
                           R"({"t":{"dtype":["F32"]}})",
                           R"({"t":{"shape":1}})",
                           R"({"t":{"shape":"1"}})",
                           R"({"t":{"shape":{}}})",
                           R"({"t":{"shape":[[1]]}})",
                           R"({"t":{"shape":["1"]}})",
                           R"({"t":{"shape":[-1]}})",
                           R"({"t":{"shape":[1.0]}})",
                           R"({"t":{"shape":[null]}})",
                           R"({"t":{"shape":[true]}})",
                           R"({"t":{"shape":[{}]}})",
                           R"({"t":{"data_offsets":1}})",
                           R"({"t":{"data_offsets":{"begin":0}}})"}) {
    EXPECT_THAT(MessageOf(text, 0), HasSubstr("does not belong")) << text;
  }
}

TEST(SafetensorsHeaderTest, RefusesFieldsThatAreMissingUnknownOrTwice) {
  EXPECT_EQ(WithFields(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), "");
  EXPECT_THAT(WithFields(R"("shape":[2],"data_offsets":[0,8])"), HasSubstr("'t' has no dtype"));
  EXPECT_THAT(WithFields(R"("dtype":"F32","data_offsets":[0,8])"), HasSubstr("has no shape"));
  EXPECT_THAT(WithFields(R"("dtype":"F32","shape":[2])"), HasSubstr("has no data_offsets"));
  EXPECT_THAT(WithFields(R"("dtype":"F32","strides":[2])"), HasSubstr("the field 'strides'"));
  EXPECT_THAT(WithFields(R"("dtype":"F32","dtype":"F32")"), HasSubstr("'dtype' comes twice"));
  EXPECT_THAT(WithFields(R"("shape":[2],"shape":[2])"), HasSubstr("'shape' comes twice"));
  EXPECT_THAT(WithFields(R"("data_offsets":[0,8],"data_offsets":[0,8])"), HasSubstr("twice"));
  EXPECT_THAT(MessageOf(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("t":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                        8),
              HasSubstr("the tensor 't' comes twice"));
  EXPECT_THAT(MessageOf(R"({"__metadata__":{},"__metadata__":{}})", 0), HasSubstr("twice"));
  EXPECT_THAT(MessageOf(R"({"__metadata__":{"a":"1","a":"2"}})", 0), HasSubstr("'a' comes twice"));
}

TEST(SafetensorsHeaderTest, RefusesUnknownDtypesByName) {
  for (const char* dtype : {"", "f32", "F80", "FLOAT32"}) {
    EXPECT_THAT(
        WithFields(absl::StrCat(R"("dtype":")", dtype, R"(","shape":[2],"data_offsets":[0,8])")),
        HasSubstr(absl::StrCat("dtype '", dtype, "', which is not known")));
  }
}

TEST(SafetensorsHeaderTest, RefusesShapesThatDoNotAgreeWithTheOffsets) {
  const auto with_shape = [](absl::string_view shape) {
    return WithFields(absl::StrCat(R"("dtype":"F32","shape":)", shape, R"(,"data_offsets":[0,8])"));
  };
  EXPECT_THAT(with_shape("[3]"), HasSubstr("shape (3,) of F32 needs 12 bytes"));
  EXPECT_THAT(with_shape("[]"), HasSubstr("needs 4 bytes"));
  EXPECT_THAT(with_shape("[0,9223372036854775807]"), HasSubstr("needs 0 bytes"));
  EXPECT_THAT(with_shape("[4294967296,2147483648]"), HasSubstr("needs 2^63 or more bytes"));
  EXPECT_THAT(with_shape("[9223372036854775808]"), HasSubstr("expected one below 2^63"));
  EXPECT_THAT(with_shape("[18446744073709551617]"), HasSubstr("does not belong"));
  std::string many = "1";
  for (int axis = 0; axis < 64; ++axis) absl::StrAppend(&many, ",1");
  EXPECT_THAT(with_shape(absl::StrCat("[", many, "]")), HasSubstr("more than 64 axes"));
}

TEST(SafetensorsHeaderTest, RefusesOffsetsOutOfRangeOverlapsAndHoles) {
  const auto with_offsets = [](absl::string_view offsets) {
    return WithFields(absl::StrCat(R"("dtype":"U8","shape":[8],"data_offsets":)", offsets));
  };
  EXPECT_THAT(with_offsets("[0]"), HasSubstr("has 1 data_offsets"));
  EXPECT_THAT(with_offsets("[0,4,8]"), HasSubstr("has 3 data_offsets"));
  EXPECT_THAT(with_offsets("[8,0]"), HasSubstr("expected them in order"));
  EXPECT_THAT(with_offsets("[1,9]"), HasSubstr("within the 8 bytes of data"));
  EXPECT_THAT(with_offsets("[9223372036854775799,9223372036854775807]"), HasSubstr("within the 8"));
  const auto two = [](absl::string_view first, absl::string_view second, int64_t data_bytes) {
    return MessageOf(
        absl::StrCat(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)", first,
                     R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)", second, "}}"),
        data_bytes);
  };
  EXPECT_EQ(two("[4,8]", "[0,4]", 8), "");
  EXPECT_THAT(two("[0,4]", "[3,7]", 8), HasSubstr("overlaps"));
  EXPECT_THAT(two("[0,4]", "[0,4]", 8), HasSubstr("overlaps"));
  EXPECT_THAT(two("[0,4]", "[5,9]", 9), HasSubstr("leaves a hole"));
  EXPECT_THAT(two("[1,5]", "[5,9]", 9), HasSubstr("leaves a hole"));
  EXPECT_THAT(two("[0,4]", "[4,8]", 9), HasSubstr("8 bytes, and 9 bytes follow"));
}

TEST(SafetensorsHeaderTest, RefusesDeepNestingWithoutDeepRecursion) {
  EXPECT_THAT(MessageOf(std::string(1000000, '['), 0), HasSubstr("does not belong"));
  std::string objects;
  for (int depth = 0; depth < 100000; ++depth) objects += R"({"a":)";
  EXPECT_THAT(MessageOf(objects, 0), HasSubstr("the field 'a'"));
}

TEST(SafetensorsHeaderTest, QuotesALongNameInPart) {
  const std::string name(100000, 'n');
  EXPECT_LT(MessageOf(absl::StrCat("{\"", name, "\":1}"), 0).size(), 400u);
}

class SafetensorsFileTest : public testing::Test {
 protected:
  std::string ErrorOf(absl::string_view bytes) {
    return std::string(SafetensorsReader::Open(folder_.Write("f", bytes)).status().message());
  }

  TestFolder folder_;
};

TEST_F(SafetensorsFileTest, RefusesTruncationAtEveryByte) {
  const std::string whole =
      File(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "12345678");
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THAT(ErrorOf(whole.substr(0, size)), HasSubstr("f': ")) << size;
  }
  EXPECT_EQ(ErrorOf(whole), "");
  EXPECT_THAT(ErrorOf(whole + "9"), HasSubstr("8 bytes, and 9 bytes follow"));
}

TEST_F(SafetensorsFileTest, RefusesHugeHeadersWithoutAllocatingThem) {
  EXPECT_THAT(ErrorOf(std::string(7, '\xff')), HasSubstr("7 bytes"));
  EXPECT_THAT(ErrorOf(std::string(16, '\xff')),
              HasSubstr("a header of 18446744073709551615 bytes"));
  EXPECT_THAT(ErrorOf(std::string("\x00\xe1\xf5\x05\x00\x00\x00\x00{}", 10)),
              HasSubstr("a header of 100000000 bytes, and 2 bytes follow"));
  EXPECT_THAT(ErrorOf("PK\3\4 a zip file, as torch.save writes"), HasSubstr("safetensors file"));
  EXPECT_THAT(std::string(SafetensorsReader::Open(folder_.Path("none")).status().message()),
              HasSubstr("No such file"));
}

TEST_F(SafetensorsFileTest, WritesWhatItReadsWithEveryTensorAligned) {
  const std::string path = folder_.Path("out");
  ASSERT_TRUE(WriteSafetensors(path,
                               {{"b", "F32", {3}, "123456789012"},
                                {"half", "F16", {1}, "ab"},
                                {"a.\"quoted\"", "F32", {1, 1}, "abcd"},
                                {"count", "I64", {}, "ABCDEFGH"},
                                {"none", "F64", {0}, ""}},
                               {{"normd", "{\"a\": \"ü\"}"}})
                  .ok());
  const auto reader = SafetensorsReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_THAT((*reader)->header().metadata, ElementsAre(Pair("normd", "{\"a\": \"ü\"}")));
  std::vector<std::string> names;
  std::string data;
  for (const SafetensorsEntry& entry : (*reader)->header().entries) {
    names.push_back(entry.name);
    const auto bytes = (*reader)->Read(entry);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    data += *bytes;
  }
  EXPECT_THAT(names, ElementsAre("count", "none", "a.\"quoted\"", "b", "half"));
  EXPECT_EQ(data, "ABCDEFGHabcd123456789012ab");
  EXPECT_EQ(folder_.Read("out").find("ABCDEFGH") % 8, 0u);
}

TEST_F(SafetensorsFileTest, ReadsSomeTensorsAndSkipsTheOthers) {
  const auto reader = SafetensorsReader::Open(
      folder_.Write("f", File(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                              R"("b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]},)"
                              R"("c":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}})",
                              "aaabbc")));
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(*(*reader)->Read((*reader)->header().entries[1]), "bb");
  EXPECT_EQ(*(*reader)->Read((*reader)->header().entries[2]), "c");
  EXPECT_EQ(*(*reader)->Read((*reader)->header().entries[1]), "bb");
}

}  // namespace
}  // namespace normd::cli
