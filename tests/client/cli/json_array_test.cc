#include "client/cli/json_array.h"

#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normd::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string MessageOf(absl::string_view text) {
  return std::string(ParseJsonArray(text).status().message());
}

TEST(JsonArrayTest, ReadsShapesAndValues) {
  const auto array = ParseJsonArray("[[[1], [2.5]], [[-3], [4e1]], [[0], [7]]]");
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_THAT(array->shape, ElementsAre(3, 2, 1));
  EXPECT_THAT(array->values, ElementsAre(1, 2.5, -3, 40, 0, 7));
}

TEST(JsonArrayTest, ReadsEmptyArrays) {
  EXPECT_THAT(ParseJsonArray("[]")->shape, ElementsAre(0));
  EXPECT_THAT(ParseJsonArray("[[], []]")->shape, ElementsAre(2, 0));
}

TEST(JsonArrayTest, RefusesRaggedArraysWithThePlace) {
  EXPECT_THAT(MessageOf("[[1, 2], [3]]"), HasSubstr("expected 2 elements, got 1 at [1]"));
  EXPECT_THAT(MessageOf("[[1], [3, 4]]"), HasSubstr("expected 1 elements, got 2 at [1]"));
  EXPECT_THAT(MessageOf("[[], [1]]"), HasSubstr("expected 0 elements, got 1 at [1]"));
  EXPECT_THAT(MessageOf("[[1], []]"), HasSubstr("expected 1 elements, got 0 at [1]"));
  EXPECT_THAT(MessageOf("[1, [2]]"), HasSubstr("array stands where a number was expected at [1]"));
  EXPECT_THAT(MessageOf("[[1], 2]"), HasSubstr("number stands where an array was expected at [1]"));
}

TEST(JsonArrayTest, RefusesOtherValuesWithThePlace) {
  EXPECT_THAT(MessageOf("[[1, null]]"), HasSubstr("got null at [0][1]"));
  EXPECT_THAT(MessageOf("[true]"), HasSubstr("got a boolean at [0]"));
  EXPECT_THAT(MessageOf("[\"nan\"]"), HasSubstr("got a string at [0]"));
  EXPECT_THAT(MessageOf("[{}]"), HasSubstr("got an object at [0]"));
  EXPECT_THAT(MessageOf("1"), HasSubstr("got one number"));
}

TEST(JsonArrayTest, RefusesTextThatIsNotJson) {
  for (const char* text : {"", "[", "[1", "[1,", "[1]]", "[1] 2", "[01]", "[1e999]", "[NaN]"}) {
    EXPECT_THAT(MessageOf(text), HasSubstr("not JSON")) << text;
  }
}

TEST(JsonArrayTest, RefusesDeepNestingWithoutDeepRecursion) {
  EXPECT_THAT(MessageOf(std::string(1000000, '[')), HasSubstr("more than 32 deep"));
}

TEST(JsonArrayTest, WritesNumbersThatReadBackToTheSameFloat) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(FormatJsonArray(MakeArray({2, 2}, std::vector<float>{0.1f, -2, 3e20f, 16777216})),
            "[[0.1,-2],[3e+20,16777216]]");
  EXPECT_EQ(FormatJsonArray(MakeArray({3}, std::vector<float>{nan, inf, -inf})),
            "[\"NaN\",\"Infinity\",\"-Infinity\"]");
  EXPECT_EQ(FormatJsonArray(MakeArray({int64_t{1} << 40, 0}, std::vector<float>{})), "[]");
  const auto read = ParseJsonArray("[\"Infinity\", \"-Infinity\"]");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(read->values, ElementsAre(inf, -inf));
}

TEST(JsonArrayTest, WritesEachDtypeWithTheDigitsThatItNeeds) {
  const Array doubles = MakeArray({2}, std::vector<double>{0.1, 1e300});
  EXPECT_EQ(FormatJsonArray(doubles), "[0.1,1e+300]");
  const Array floats = MakeArray({1}, std::vector<float>{0.1f});
  EXPECT_EQ(FormatJsonArray(*Convert(floats, client::DataType::kFloat64)), "[0.10000000149011612]");
  EXPECT_EQ(FormatJsonArray(*Convert(floats, client::DataType::kFloat16)), "[0.099975586]");
  EXPECT_EQ(FormatJsonArray(*Convert(floats, client::DataType::kBfloat16)), "[0.100097656]");
}

}  // namespace
}  // namespace normd::cli
