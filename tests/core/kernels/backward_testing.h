#ifndef NORMD_TESTS_CORE_KERNELS_BACKWARD_TESTING_H_
#define NORMD_TESTS_CORE_KERNELS_BACKWARD_TESTING_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <type_traits>

#include "core/kernels/backward.h"
#include "core/tensor/data_type.h"
#include "tests/core/kernels/element_type_test.h"
#include "tests/core/kernels/guarded_array.h"

namespace normd {

inline constexpr uint32_t kBackwardSeed = 20240609;
inline constexpr double kUntouched = -77;

// Runs each test once for every runnable target and each of some element types.
class BackwardTest : public ElementTypeTest {
 protected:
  BackwardTest() { RecordProperty("seed", static_cast<int>(kBackwardSeed)); }
};

// Gives one value after another.
using Generator = std::function<double(std::mt19937&)>;

inline Generator Normal(double mean, double std) {
  return [distribution = std::normal_distribution<double>(mean, std)](
             std::mt19937& random) mutable { return distribution(random); };
}

// Evenly from mean - width to mean + width, at little cost.
inline Generator Even(double mean, double width) {
  return [mean, width](std::mt19937& random) {
    return mean + width * (static_cast<double>(random()) / 0x1p31 - 1);
  };
}

// An array that `generator` fills; `salt` tells arrays of one test apart.
template <typename T>
class RandomArray : public GuardedArray<T> {
 public:
  RandomArray(size_t size, uint32_t salt, const Generator& generator) : GuardedArray<T>(size) {
    std::mt19937 random(kBackwardSeed + salt);
    for (T& value : *this) value = FromDouble<T>(generator(random));
  }
};

// An array of `value`.
template <typename T>
class FilledArray : public GuardedArray<T> {
 public:
  FilledArray(size_t size, T value) : GuardedArray<T>(size) {
    std::fill(this->begin(), this->end(), value);
  }
};

// Whether all values of `a` have the bits of those of `b`.
template <typename T>
bool SameBits(const GuardedArray<T>& a, const GuardedArray<T>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// A sum in long double beside the sum of magnitudes, which bounds its rounding.
struct ReferenceSum {
  long double value = 0;
  long double magnitude = 0;

  void Add(long double term) {
    value += term;
    magnitude += std::abs(term);
  }
  double tolerance() const { return 1e-12 * static_cast<double>(magnitude); }
};

// The coefficients of `count` channels or rows.
template <typename T>
struct TestCoefficients {
  using C = ComputeType<T>;

  explicit TestCoefficients(size_t count)
      : center(count, 11, Even(1, 3)),
        of_dy(count, 12, Even(0, 2)),
        of_x(count, 13, Even(0, 1)),
        offset(count, 14, Even(0, 4)) {}

  GradientCoefficients<T> get() const {
    return {center.data(), of_dy.data(), of_x.data(), offset.data()};
  }

  // Whether `actual` is the gradient of one value. The bound counts one rounding each of the
  // difference, the products and the sums, and that of the result to T.
  testing::AssertionResult IsClose(T x, T dy, double weight, size_t index, T actual) const {
    constexpr double kEps = std::numeric_limits<C>::epsilon();
    constexpr double kRounding = std::is_same_v<T, Float16>    ? 0x1p-11
                                 : std::is_same_v<T, Bfloat16> ? 0x1p-8
                                                               : 0;
    const long double by_dy = static_cast<long double>(ToDouble(dy)) * weight * of_dy[index];
    const long double by_x = (static_cast<long double>(ToDouble(x)) - center[index]) * of_x[index];
    const double expected = static_cast<double>(by_dy + by_x + offset[index]);
    const double magnitude = static_cast<double>(std::abs(by_dy) + std::abs(by_x)) +
                             std::abs(static_cast<double>(offset[index]));
    // The last term: half of the smallest subnormal float16.
    const double tolerance =
        2 * kEps * magnitude + kRounding * std::abs(expected) + (kRounding == 0 ? 0 : 0x1p-25);
    if (std::abs(ToDouble(actual) - expected) <= tolerance) return testing::AssertionSuccess();
    return testing::AssertionFailure() << ToDouble(actual) << ", expected " << expected << " +- "
                                       << tolerance << " at coefficients " << index;
  }

  RandomArray<C> center;
  RandomArray<C> of_dy;
  RandomArray<C> of_x;
  RandomArray<C> offset;
};

}  // namespace normd

#endif  // NORMD_TESTS_CORE_KERNELS_BACKWARD_TESTING_H_
