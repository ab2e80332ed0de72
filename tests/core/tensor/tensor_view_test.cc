#include "core/tensor/tensor_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor/data_type.h"
#include "tests/core/error_matchers.h"

namespace normd {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

using Shape = std::vector<int64_t>;

constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();
constexpr int64_t kInt64Min = std::numeric_limits<int64_t>::min();

absl::StatusOr<TensorView> View(const Shape& shape, const std::string& data,
                                DataType dtype = DataType::kFloat32) {
  return TensorView::Create(dtype, Layout::kChannelsFirst, shape, data);
}

TEST(DataTypeTest, KnowsSizesAndNames) {
  struct Case {
    DataType dtype;
    int64_t bytes;
    absl::string_view name;
  };
  for (const Case& c :
       {Case{DataType::kFloat32, 4, "FLOAT32"}, Case{DataType::kFloat64, 8, "FLOAT64"},
        Case{DataType::kFloat16, 2, "FLOAT16"}, Case{DataType::kBfloat16, 2, "BFLOAT16"}}) {
    EXPECT_EQ(ElementBytes(c.dtype), c.bytes) << c.name;
    EXPECT_EQ(DataTypeName(c.dtype), c.name);
  }
}

TEST(TensorViewTest, BorrowsWhatItWasMadeOf) {
  const Shape shape = {2, 3};
  const std::string data(48, 'x');
  const auto view = TensorView::Create(DataType::kFloat64, Layout::kChannelsLast, shape, data);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->dtype(), DataType::kFloat64);
  EXPECT_EQ(view->layout(), Layout::kChannelsLast);
  EXPECT_THAT(view->shape(), ElementsAre(2, 3));
  EXPECT_EQ(view->bytes().run(), data.data());
  EXPECT_EQ(view->rank(), 2);
  EXPECT_EQ(view->num_elements(), 6);
}

TEST(TensorViewTest, RankZeroIsOneElement) {
  const std::string four(4, '\0');
  const auto view = View({}, four);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->rank(), 0);
  EXPECT_EQ(view->num_elements(), 1);
  EXPECT_THAT(View({}, ""), IsError(Reason::kDataLengthMismatch,
                                    "tensor of shape [] and dtype FLOAT32 takes 4 bytes of data, "
                                    "0 came"));
}

TEST(TensorViewTest, RefusesANegativeAxisAndNamesIt) {
  const std::vector<std::pair<Shape, std::string>> cases = {
      {{-1}, "axis 0 of shape [-1] is -1, expected >= 0"},
      {{2, -3}, "axis 1 of shape [2,-3] is -3, expected >= 0"},
      {{0, -1}, "axis 1 of shape [0,-1] is -1, expected >= 0"},
      {{-1, -1}, "axis 0 of shape [-1,-1] is -1, expected >= 0"},
      {{kInt64Max, kInt64Max, kInt64Min},
       "axis 2 of shape [9223372036854775807,9223372036854775807,-9223372036854775808] is "
       "-9223372036854775808, expected >= 0"},
  };
  for (const auto& [shape, message] : cases) {
    const auto view = View(shape, "");
    EXPECT_THAT(view, IsError(Reason::kDimensionNegative, message));
    EXPECT_THAT(GetErrorMetadata(view.status()), Contains(Pair("field", "shape")));
  }
  EXPECT_THAT(GetErrorMetadata(View({2, -3}, "").status()), Contains(Pair("axis", "1")));
}

TEST(TensorViewTest, RefusesAShapeThatOverflows) {
  const std::vector<Shape> shapes = {
      {kInt64Max},
      {int64_t{1} << 61},
      {int64_t{1} << 32, int64_t{1} << 32},
      {int64_t{1} << 40, 3, int64_t{1} << 40},
      {2, kInt64Max},
      Shape(63, 2),
  };
  for (const Shape& shape : shapes) {
    EXPECT_THAT(View(shape, ""),
                IsError(Reason::kShapeOverflow,
                        "tensor of shape " + ShapeToString(shape) +
                            " and dtype FLOAT32 has 2^63 bytes or more, expected less"));
  }
}

TEST(TensorViewTest, ZeroAxisMakesAnyShapeEmpty) {
  for (const Shape& shape :
       {Shape{0}, Shape{0, 3}, Shape{3, 0}, Shape{0, kInt64Max}, Shape{kInt64Max, 0},
        Shape{kInt64Max, kInt64Max, 0}, Shape{0, 4, int64_t{1} << 40, int64_t{1} << 40}}) {
    const auto view = View(shape, "");
    ASSERT_TRUE(view.ok()) << view.status();
    EXPECT_EQ(view->num_elements(), 0);
    EXPECT_THAT(View(shape, "abcd"), HasReason(Reason::kDataLengthMismatch));
  }
}

TEST(TensorViewTest, RefusesDataOfAnotherLength) {
  for (const size_t bytes : {0, 1, 4, 20, 23, 25, 28, 48}) {
    const std::string data(bytes, '\0');
    const auto view = View({2, 3}, data);
    EXPECT_THAT(view, IsError(Reason::kDataLengthMismatch,
                              "tensor of shape [2,3] and dtype FLOAT32 takes 24 bytes of data, " +
                                  std::to_string(bytes) + " came"));
    EXPECT_THAT(GetErrorMetadata(view.status()),
                ElementsAre(Pair("actual_bytes", std::to_string(bytes)),
                            Pair("expected_bytes", "24"), Pair("field", "data")));
  }
}

TEST(TensorViewTest, LengthFollowsTheDtype) {
  const std::string data(12, '\0');
  EXPECT_TRUE(View({3}, data).ok());
  EXPECT_TRUE(View({6}, data, DataType::kFloat16).ok());
  EXPECT_TRUE(View({6}, data, DataType::kBfloat16).ok());
  EXPECT_THAT(View({3}, data, DataType::kFloat64),
              IsError(Reason::kDataLengthMismatch, HasSubstr("takes 24 bytes of data, 12 came")));
}

TEST(ShapeBytesTest, CountsUpToTheLastByteBelowTwoToThe63) {
  EXPECT_EQ(*ShapeBytes(DataType::kFloat32, {2, 3, 5}), 120);
  EXPECT_EQ(*ShapeBytes(DataType::kFloat16, {kInt64Max / 2}), kInt64Max - 1);
  EXPECT_THAT(ShapeBytes(DataType::kFloat16, {kInt64Max / 2 + 1}),
              HasReason(Reason::kShapeOverflow));
  EXPECT_EQ(*ShapeBytes(DataType::kFloat64, {(int64_t{1} << 60) - 1}), kInt64Max - 7);
  EXPECT_THAT(ShapeBytes(DataType::kFloat64, {int64_t{1} << 60}),
              HasReason(Reason::kShapeOverflow));
}

TEST(ShapeToStringTest, CutsLongShapes) {
  EXPECT_EQ(ShapeToString({}), "[]");
  EXPECT_EQ(ShapeToString({7}), "[7]");
  EXPECT_EQ(ShapeToString({8, 32, 7}), "[8,32,7]");
  EXPECT_EQ(ShapeToString({1, 2, 3, 4, 5, 6, 7, 8}), "[1,2,3,4,5,6,7,8]");
  EXPECT_EQ(ShapeToString(Shape(100, 1)), "[1,1,1,1,1,1,1,1,... 100 axes]");
}

}  // namespace
}  // namespace normd
