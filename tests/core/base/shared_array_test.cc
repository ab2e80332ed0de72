#include "core/base/shared_array.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

namespace normd {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;

TEST(SharedArrayTest, HoldsItsValues) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(SharedArray(), IsEmpty());
  EXPECT_EQ(SharedArray().MemoryBytes(), 0);
  EXPECT_EQ(SharedArray().data(), nullptr);
  EXPECT_THAT(SharedArray(absl::Span<const double>()), IsEmpty());
  const SharedArray listed = {1, -0.5, kNan};
  EXPECT_THAT(listed, ElementsAre(1, -0.5, testing::NanSensitiveDoubleEq(kNan)));
  EXPECT_EQ(listed[1], -0.5);

  const std::vector<double> values(1000, 0.25);
  const SharedArray array(values);
  EXPECT_THAT(array, ElementsAreArray(values));
  EXPECT_GT(array.MemoryBytes(), static_cast<int64_t>(1000 * sizeof(double)));
}

TEST(SharedArrayTest, CopiesShareTheMemoryUntilTheyAreReplaced) {
  SharedArray first = {1, 2};
  const double* const data = first.data();
  SharedArray second = first;
  EXPECT_EQ(second.data(), data);
  first = {3};
  EXPECT_THAT(first, ElementsAre(3));
  EXPECT_THAT(second, ElementsAre(1, 2));
  EXPECT_EQ(second.data(), data);
  first = second;
  EXPECT_EQ(first.data(), data);
  second = {};
  EXPECT_THAT(second, IsEmpty());
  EXPECT_THAT(first, ElementsAre(1, 2));
}

TEST(SharedArrayTest, WhatIsMovedFromIsEmpty) {
  std::vector<SharedArray> from = {{1, 2}, {3}};
  SharedArray to = std::move(from[0]);
  EXPECT_THAT(to, ElementsAre(1, 2));
  EXPECT_THAT(from[0], IsEmpty());
  to = std::move(from[1]);
  EXPECT_THAT(to, ElementsAre(3));
  EXPECT_THAT(from[1], IsEmpty());
}

TEST(SharedArrayTest, EqualWhenTheValuesAre) {
  const SharedArray array = {1, 2};
  EXPECT_EQ(array, (SharedArray{1, 2}));
  EXPECT_NE(array, (SharedArray{1, 3}));
  EXPECT_NE(array, (SharedArray{1}));
  EXPECT_NE(array, SharedArray());
  EXPECT_EQ(SharedArray(), SharedArray());
}

}  // namespace
}  // namespace normd
