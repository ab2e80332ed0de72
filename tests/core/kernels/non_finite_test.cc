#include "core/kernels/non_finite.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "tests/core/kernels/element_type_test.h"
#include "tests/core/kernels/guarded_array.h"

namespace normd {
namespace {

constexpr size_t kSizeMax = 4 * 64 + 3;  // past several steps of the widest vector
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

class FindNonFiniteTest : public ElementTypeTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(FindNonFiniteTest, kElementTypes);

TEST_P(FindNonFiniteTest, FindsEachKindAtEachIndexForEachSize) {
  WithElementType([]<typename T>(ElementType<T>) {
    const T one = FromDouble<T>(1);
    for (size_t size = 0; size <= kSizeMax; ++size) {
      GuardedArray<T> x(size);
      std::fill(x.begin(), x.end(), one);
      EXPECT_EQ(FindNonFinite(x.data(), size), size);
      for (size_t at = 0; at < size; ++at) {
        for (double bad : {kNan, -kNan, kInf, -kInf}) {
          x[at] = FromDouble<T>(bad);
          EXPECT_EQ(FindNonFinite(x.data(), size), at) << "of " << size;
        }
        x[at] = one;
      }
    }
  });
}

TEST_P(FindNonFiniteTest, GivesTheFirstOfSeveral) {
  WithElementType([]<typename T>(ElementType<T>) {
    for (size_t first = 0; first < kSizeMax; ++first) {
      GuardedArray<T> x(kSizeMax);
      std::fill(x.begin(), x.begin() + first, FromDouble<T>(1));
      std::fill(x.begin() + first, x.end(), FromDouble<T>(kInf));
      EXPECT_EQ(FindNonFinite(x.data(), kSizeMax), first);
    }
  });
}

TEST_P(FindNonFiniteTest, TakesExtremeValuesAsFinite) {
  WithElementType([]<typename T>(ElementType<T>) {
    const double largest = LargestOf<T>();
    const double smallest = SmallestOf<T>();
    for (double value : {largest, -largest, smallest, -smallest, 0.0, -0.0}) {
      GuardedArray<T> x(kSizeMax);
      std::fill(x.begin(), x.end(), FromDouble<T>(value));
      ASSERT_EQ(ToDouble(x[0]), value);
      EXPECT_EQ(FindNonFinite(x.data(), kSizeMax), kSizeMax) << value;
    }
  });
}

class FindNonFiniteHalfTest : public ElementTypeTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(FindNonFiniteHalfTest, kHalfTypes);

TEST_P(FindNonFiniteHalfTest, TellsEveryPattern) {
  WithHalfType([]<typename T>(ElementType<T>) {
    GuardedArray<T> x(kSizeMax);
    std::fill(x.begin(), x.end(), T());
    for (int bits = 0; bits <= 0xffff; ++bits) {
      x[1].bits = static_cast<uint16_t>(bits);
      const size_t expected = std::isfinite(ToDouble(x[1])) ? kSizeMax : 1;
      ASSERT_EQ(FindNonFinite(x.data(), kSizeMax), expected) << bits;
    }
  });
}

}  // namespace
}  // namespace normd
