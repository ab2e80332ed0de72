#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/kernels/normalize.h"
#include "core/kernels/normalize_plan.h"
#include "tests/core/kernels/element_type_test.h"
#include "tests/core/kernels/guarded_array.h"
#include "tests/core/kernels/sizes.h"

namespace normd {
namespace {

constexpr uint32_t kSeed = 20240609;
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Coefficients of all rows and columns; `has_weight` and `has_bias` tell which are given.
template <typename T>
struct Rows {
  Rows(size_t rows, size_t columns, bool has_weight, bool has_bias)
      : center(rows), scale(rows), offset(rows), weight(columns), bias(columns) {
    std::mt19937 random(kSeed);
    std::normal_distribution<ComputeType<T>> normal(0, 1);
    for (size_t r = 0; r < rows; ++r) {
      center[r] = 100 * normal(random);
      scale[r] = normal(random);
      offset[r] = normal(random);
    }
    for (size_t i = 0; i < columns; ++i) {
      weight[i] = 1 + normal(random);
      bias[i] = 10 * normal(random);
    }
    coefficients = {center.data(), scale.data(), offset.data(),
                    has_weight ? weight.data() : nullptr, has_bias ? bias.data() : nullptr};
  }
  GuardedArray<ComputeType<T>> center;
  GuardedArray<ComputeType<T>> scale;
  GuardedArray<ComputeType<T>> offset;
  GuardedArray<ComputeType<T>> weight;
  GuardedArray<ComputeType<T>> bias;
  RowCoefficients<T> coefficients;
};

std::string Describe(size_t rows, size_t columns, bool has_weight, bool has_bias) {
  return absl::StrCat("[", rows, ",", columns, "]", has_weight ? ", weight" : "",
                      has_bias ? ", bias" : "");
}

// Normal values, which repeat in the end.
template <typename T>
void FillNormal(T* x, size_t n) {
  static const auto* const kValues = [] {
    auto* values = new std::vector<T>(65521);
    std::mt19937 random(kSeed + 1);
    std::normal_distribution<double> normal(0, 100);
    for (T& value : *values) value = FromDouble<T>(normal(random));
    return values;
  }();
  for (size_t i = 0; i < n; ++i) x[i] = (*kValues)[i % kValues->size()];
}

// Of a 16-bit type: what the kernel gives for the same values as floats, rounded, to the bit.
template <typename T>
void ExpectRoundedFloats(const T* x, size_t rows, size_t columns, const RowCoefficients<T>& k,
                         const T* y) {
  std::vector<float> wide(rows * columns);
  std::transform(x, x + wide.size(), wide.begin(), [](T value) { return ToFloat(value); });
  const RowCoefficients<float> same = {k.center, k.scale, k.offset, k.weight, k.bias};
  NormalizeRows(wide.data(), rows, columns, same, wide.data());
  for (size_t i = 0; i < wide.size(); ++i) {
    ASSERT_EQ(y[i].bits, FromDouble<T>(wide[i]).bits)
        << "value " << i << ": " << ToDouble(y[i]) << ", as float " << wide[i];
  }
}

// The bound counts a rounding of each difference, product and sum.
template <typename T>
void ExpectNear(const T* x, size_t rows, size_t columns, const RowCoefficients<T>& k, const T* y) {
  constexpr Wide<T> kEps = std::numeric_limits<T>::epsilon();
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) {
      const size_t i = r * columns + c;
      const Wide<T> product = (static_cast<Wide<T>>(x[i]) - k.center[r]) * k.scale[r];
      const Wide<T> normal = product + k.offset[r];
      const Wide<T> weight = k.weight == nullptr ? 1 : k.weight[c];
      const Wide<T> expected = normal * weight + (k.bias == nullptr ? 0 : k.bias[c]);
      const Wide<T> bound = kEps * ((std::abs(product) + 2 * std::abs(normal)) * std::abs(weight) +
                                    std::abs(expected));
      ASSERT_LE(std::abs(y[i] - expected), bound)
          << "value " << i << ": " << y[i] << ", expected " << expected;
    }
  }
}

template <typename T>
void ExpectClose(const T* x, size_t rows, size_t columns, const RowCoefficients<T>& k, const T* y) {
  if constexpr (kIsHalf<T>) {
    ExpectRoundedFloats(x, rows, columns, k, y);
  } else {
    ExpectNear(x, rows, columns, k, y);
  }
}

class NormalizeRowsTest : public ElementTypeTest {
 protected:
  NormalizeRowsTest() { RecordProperty("seed", static_cast<int>(kSeed)); }

  template <typename T>
  static void Check(size_t rows, size_t columns) {
    for (bool has_weight : {false, true}) {
      for (bool has_bias : {false, true}) {
        SCOPED_TRACE(Describe(rows, columns, has_weight, has_bias));
        const Rows<T> k(rows, columns, has_weight, has_bias);
        GuardedArray<T> x(rows * columns);
        FillNormal(x.data(), x.size());
        GuardedArray<T> y(x.size());
        NormalizeRows(x.data(), rows, columns, k.coefficients, y.data());
        EXPECT_TRUE(y.CanaryIntact());
        ExpectClose(x.data(), rows, columns, k.coefficients, y.data());

        NormalizeRows(x.data(), rows, columns, k.coefficients, x.data());
        EXPECT_TRUE(x.CanaryIntact());
        EXPECT_EQ(std::memcmp(x.data(), y.data(), x.size() * sizeof(T)), 0) << "in place differs";
      }
    }
  }
};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(NormalizeRowsTest, kElementTypes);

TEST_P(NormalizeRowsTest, CorrectAroundLaneCountsAlsoInPlace) {
  WithElementType([]<typename T>(ElementType<T>) {
    for (size_t columns : kSizesAroundLanes) {
      for (size_t rows : kSizesAroundLanes) {
        Check<T>(rows, columns);
        if (HasFailure()) return;
      }
    }
  });
}

TEST_P(NormalizeRowsTest, CorrectForLongAndForManyRows) {
  WithElementType([]<typename T>(ElementType<T>) {
    Check<T>(128, 768);
    Check<T>(2, 10007);
    Check<T>(10007, 3);
    Check<T>(10007, 1);
    Check<T>(1025, 10);
  });
}

TEST_P(NormalizeRowsTest, WritesNothingWithoutRowsOrColumns) {
  WithElementType([]<typename T>(ElementType<T>) {
    Check<T>(0, 5);
    Check<T>(5, 0);
    Check<T>(0, 0);
  });
}

TEST_P(NormalizeRowsTest, IsTheSameWhereverTheValueStands) {
  WithElementType([]<typename T>(ElementType<T>) {
    for (size_t columns : {1, 3, 67}) {
      Rows<T> k(35, columns, true, true);
      std::fill(k.center.begin(), k.center.end(), ComputeType<T>(0.7));
      std::fill(k.scale.begin(), k.scale.end(), ComputeType<T>(1.3));
      std::fill(k.offset.begin(), k.offset.end(), ComputeType<T>(0.3));
      std::fill(k.weight.begin(), k.weight.end(), ComputeType<T>(0.9));
      std::fill(k.bias.begin(), k.bias.end(), ComputeType<T>(0.1));
      GuardedArray<T> x(35 * columns);
      std::fill(x.begin(), x.end(), FromDouble<T>(0.1));
      GuardedArray<T> y(x.size());
      NormalizeRows(x.data(), 35, columns, k.coefficients, y.data());
      for (size_t i = 1; i < y.size(); ++i) EXPECT_TRUE(SameBits(y[i], y[0])) << "value " << i;
    }
  });
}

TEST_P(NormalizeRowsTest, PassesNonFiniteValuesThrough) {
  WithElementType([]<typename T>(ElementType<T>) {
    for (size_t columns : {1, 3, 35}) {
      Rows<T> k(9, columns, true, true);
      std::fill(k.scale.begin(), k.scale.end(), ComputeType<T>(2));
      std::fill(k.weight.begin(), k.weight.end(), ComputeType<T>(-1));
      GuardedArray<T> x(9 * columns);
      FillNormal(x.data(), x.size());
      const size_t last = x.size() - 1;
      x[0] = FromDouble<T>(kInf);
      x[x.size() / 2] = FromDouble<T>(kNan);
      x[last] = FromDouble<T>(-kInf);
      NormalizeRows(x.data(), 9, columns, k.coefficients, x.data());
      EXPECT_EQ(ToDouble(x[0]), -kInf);
      EXPECT_EQ(ToDouble(x[last]), kInf);
      for (size_t i = 1; i < last; ++i) {
        EXPECT_EQ(std::isfinite(ToDouble(x[i])), i != x.size() / 2) << "value " << i;
      }
    }
  });
}

class NormalizeRowsLargeTest : public NormalizeRowsTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(NormalizeRowsLargeTest, kFloatingTypes);

// Outputs large enough to bypass the cache: rows too short to do so, of whole cache lines, and long
// ones at an address that is aligned to the element alone.
TEST_P(NormalizeRowsLargeTest, CorrectBeyondTheCache) {
  WithElementType([]<typename T>(ElementType<T>) {
    const size_t values_min = kStreamBytesMin / sizeof(T);
    for (size_t columns : {3, 768, 2051}) {
      const size_t rows = values_min / columns + 1;
      const Rows<T> k(rows, columns, true, true);
      GuardedArray<T> x(rows * columns);
      FillNormal(x.data(), x.size());
      GuardedArray<T> y(x.size());
      NormalizeRows(x.data(), rows, columns, k.coefficients, y.data());
      EXPECT_TRUE(y.CanaryIntact());
      ExpectClose(x.data(), rows, columns, k.coefficients, y.data());
    }
  });
}

}  // namespace
}  // namespace normd
