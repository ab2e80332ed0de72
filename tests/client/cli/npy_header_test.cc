#include "client/cli/npy_header.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normd::cli {
namespace {

using ::normd::client::DataType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string MessageOf(absl::string_view dictionary) {
  return std::string(ParseNpyDictionary(dictionary).status().message());
}

TEST(NpyHeaderTest, ReadsShapesOfEveryRank) {
  const auto scalar = ParseNpyDictionary("{'descr':'<f4','fortran_order':False,'shape':()}\n");
  ASSERT_TRUE(scalar.ok()) << scalar.status();
  EXPECT_THAT(scalar->shape, IsEmpty());
  const auto vector =
      ParseNpyDictionary("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }          \n");
  ASSERT_TRUE(vector.ok()) << vector.status();
  EXPECT_THAT(vector->shape, ElementsAre(3));
  const auto matrix =
      ParseNpyDictionary("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 0)}");
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_THAT(matrix->shape, ElementsAre(3, 0));
  EXPECT_EQ(matrix->dtype, DataType::kFloat64);
  EXPECT_EQ(DataBytes(*matrix), 0);
}

TEST(NpyHeaderTest, ReadsKeysInAnyOrderAndEitherQuote) {
  const auto header =
      ParseNpyDictionary(R"({"shape": (2, 3), "descr": "<f4", "fortran_order": False})");
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_THAT(header->shape, ElementsAre(2, 3));
  EXPECT_EQ(DataBytes(*header), 24);
}

TEST(NpyHeaderTest, KnowsTheDtypesThatNumpyHas) {
  for (const auto& [descr, dtype] :
       {std::pair("<f2", DataType::kFloat16), std::pair("<f4", DataType::kFloat32),
        std::pair("<f8", DataType::kFloat64)}) {
    const auto header = ParseNpyDictionary(
        absl::StrCat("{'descr':'", descr, "','fortran_order':False,'shape':(3,)}"));
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->dtype, dtype);
    EXPECT_EQ(DataBytes(*header), 3 * client::ElementBytes(dtype));
  }
}

TEST(NpyHeaderTest, TakesFortranOrderOfOneAxis) {
  EXPECT_TRUE(ParseNpyDictionary("{'descr':'<f4','fortran_order':True,'shape':(3,)}").ok());
}

TEST(NpyHeaderTest, RefusesFortranOrderAndSaysHowToSave) {
  EXPECT_THAT(MessageOf("{'descr':'<f4','fortran_order':True,'shape':(3,2)}"),
              HasSubstr("numpy.ascontiguousarray"));
}

TEST(NpyHeaderTest, RefusesOtherTypesByName) {
  for (const char* descr : {">f2", ">f4", "<i8", "|b1", "<c8", "|O", "<U7", ""}) {
    EXPECT_THAT(
        MessageOf(absl::StrCat("{'descr':'", descr, "','fortran_order':False,'shape':(3,2)}")),
        HasSubstr(absl::StrCat("dtype '", descr, "'")));
  }
  EXPECT_THAT(MessageOf("{'descr':[('a','<f4')],'fortran_order':False,'shape':(3,)}"),
              HasSubstr("structured"));
}

TEST(NpyHeaderTest, RefusesShapesOf63BitsAndMore) {
  EXPECT_TRUE(
      ParseNpyDictionary("{'descr':'<f4','fortran_order':False,'shape':(2305843009213693951,)}")
          .ok());
  EXPECT_THAT(MessageOf("{'descr':'<f4','fortran_order':False,'shape':(2305843009213693952,)}"),
              HasSubstr("2^63 bytes or more"));
  EXPECT_THAT(MessageOf("{'descr':'<f8','fortran_order':False,'shape':(4294967296,4294967296)}"),
              HasSubstr("2^63 bytes or more"));
  EXPECT_THAT(MessageOf("{'descr':'<f4','fortran_order':False,'shape':(9223372036854775808,)}"),
              HasSubstr("length of an axis"));
}

TEST(NpyHeaderTest, RefusesMoreThan32Axes) {
  std::string shape = "1";
  for (int axis = 1; axis < 32; ++axis) shape += ",1";
  EXPECT_TRUE(ParseNpyDictionary(
                  absl::StrCat("{'descr':'<f4','fortran_order':False,'shape':(", shape, ")}"))
                  .ok());
  EXPECT_THAT(
      MessageOf(absl::StrCat("{'descr':'<f4','fortran_order':False,'shape':(", shape, ",1)}")),
      HasSubstr("more than 32 axes"));
}

TEST(NpyHeaderTest, RefusesMalformedDictionaries) {
  const char* const malformed[] = {
      "",
      "{",
      "}",
      "[]",
      "{'descr'",
      "{'descr':",
      "{'descr':'<f4",
      "{'descr':'<f4'",
      "{'descr':'<f4','fortran_order':Maybe,'shape':(3,)}",
      "{'descr':'<f4','fortran_order':False,'shape':3}",
      "{'descr':'<f4','fortran_order':False,'shape':(3",
      "{'descr':'<f4','fortran_order':False,'shape':(-3,)}",
      "{'descr':'<f4','fortran_order':False,'shape':(3.5,)}",
      "{'descr':'<f4','fortran_order':False,'shape':(,)}",
      "{'descr':'<f4','fortran_order':False,'shape':(3,,4)}",
      "{'descr':'<f4','fortran_order':False,'shape':(3,)} x",
      "{'descr':'<f4','descr':'<f4','fortran_order':False,'shape':(3,)}",
      "{'descr':'<f4' 'fortran_order':False,'shape':(3,)}",
      "{'descr':'<f4','fortran_order':False}",
      "{'descr':'<f4','shape':(3,)}",
      "{'fortran_order':False,'shape':(3,)}",
      "{'descr':'<f4','fortran_order':False,'shape':(3,),'more':'x'}",
  };
  for (const char* dictionary : malformed) {
    EXPECT_THAT(MessageOf(dictionary), HasSubstr("malformed")) << dictionary;
  }
}

TEST(NpyHeaderTest, QuotesBytesThatCannotBePrintedAndCutsThem) {
  const std::string message = MessageOf(std::string(1000, '\x01'));
  EXPECT_THAT(message, HasSubstr("\\x01"));
  EXPECT_LT(message.size(), 400u);
}

TEST(NpyHeaderTest, WritesAHeaderThatReadsBackAndIsAligned) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{7}, {2, 3}, {0, 5}, {1, 2, 3, 4, 123456789}}) {
    for (const DataType dtype : {DataType::kFloat16, DataType::kFloat32, DataType::kFloat64}) {
      const std::string bytes = FormatNpyHeader(shape, dtype);
      EXPECT_EQ(bytes.size() % 64, 0u);
      EXPECT_EQ(bytes.back(), '\n');
      ASSERT_EQ(bytes.substr(0, 8), absl::StrCat(kNpyMagic, absl::string_view("\1\0", 2)));
      const auto header = ParseNpyDictionary(absl::string_view(bytes).substr(10));
      ASSERT_TRUE(header.ok()) << header.status();
      EXPECT_EQ(header->shape, shape);
      EXPECT_EQ(header->dtype, dtype);
    }
  }
}

}  // namespace
}  // namespace normd::cli
