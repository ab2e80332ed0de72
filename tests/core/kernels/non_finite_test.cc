#include "core/kernels/non_finite.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "tests/core/kernels/guarded_array.h"
#include "tests/core/kernels/simd_target_test.h"

namespace normd {
namespace {

constexpr size_t kSizeMax = 4 * 64 + 3;  // past several steps of the widest vector

class FindNonFiniteTest : public SimdTargetTest {};

NORMD_INSTANTIATE_FOR_TARGETS(FindNonFiniteTest);

TEST_P(FindNonFiniteTest, FindsEachKindAtEachIndexForEachSize) {
  using Limits = std::numeric_limits<float>;
  for (size_t size = 0; size <= kSizeMax; ++size) {
    GuardedArray<float> x(size);
    std::fill(x.begin(), x.end(), 1.0f);
    EXPECT_EQ(FindNonFinite(x.data(), size), size);
    for (size_t at = 0; at < size; ++at) {
      for (float bad :
           {Limits::quiet_NaN(), -Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()}) {
        x[at] = bad;
        EXPECT_EQ(FindNonFinite(x.data(), size), at) << "of " << size;
      }
      x[at] = 1.0f;
    }
  }
}

TEST_P(FindNonFiniteTest, GivesTheFirstOfSeveral) {
  for (size_t first = 0; first < kSizeMax; ++first) {
    GuardedArray<float> x(kSizeMax);
    std::fill(x.begin(), x.begin() + first, 1.0f);
    std::fill(x.begin() + first, x.end(), std::numeric_limits<float>::infinity());
    EXPECT_EQ(FindNonFinite(x.data(), kSizeMax), first);
  }
}

TEST_P(FindNonFiniteTest, TakesExtremeValuesAsFinite) {
  using Limits = std::numeric_limits<float>;
  for (float value : {Limits::max(), Limits::lowest(), Limits::min(), Limits::denorm_min(),
                      -Limits::denorm_min(), 0.0f, -0.0f}) {
    GuardedArray<float> x(kSizeMax);
    std::fill(x.begin(), x.end(), value);
    EXPECT_EQ(FindNonFinite(x.data(), kSizeMax), kSizeMax) << value;
  }
}

}  // namespace
}  // namespace normd
