#ifndef NORMD_TESTS_CORE_KERNELS_ELEMENT_TYPE_TEST_H_
#define NORMD_TESTS_CORE_KERNELS_ELEMENT_TYPE_TEST_H_

#include <gtest/gtest.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "core/tensor/data_type.h"
#include "core/tensor/half.h"
#include "hwy/highway.h"
#include "tests/core/kernels/simd_target_test.h"

namespace normd {

inline double ToDouble(double value) { return value; }
inline double ToDouble(Float16 value) { return static_cast<double>(ToFloat(value)); }
inline double ToDouble(Bfloat16 value) { return static_cast<double>(ToFloat(value)); }

// `value` rounded to T; to a 16-bit type by way of float.
template <typename T>
T FromDouble(double value) {
  if constexpr (std::is_same_v<T, Float16>) {
    return ToFloat16(static_cast<float>(value));
  } else if constexpr (std::is_same_v<T, Bfloat16>) {
    return ToBfloat16(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

template <typename T>
inline constexpr bool kIsHalf = sizeof(T) == 2;

// In which what is computed in T, float or double, has a reference: exact enough, and fast for
// float.
template <typename T>
using Wide = std::conditional_t<std::is_same_v<T, float>, double, long double>;

// The largest finite value of T.
template <typename T>
double LargestOf() {
  if constexpr (std::is_same_v<T, Float16>) return ToDouble(Float16{0x7bff});
  if constexpr (std::is_same_v<T, Bfloat16>) return ToDouble(Bfloat16{0x7f7f});
  if constexpr (!kIsHalf<T>) return static_cast<double>(std::numeric_limits<T>::max());
}

// The smallest value of T above zero.
template <typename T>
double SmallestOf() {
  if constexpr (std::is_same_v<T, Float16>) return ToDouble(Float16{1});
  if constexpr (std::is_same_v<T, Bfloat16>) return ToDouble(Bfloat16{1});
  if constexpr (!kIsHalf<T>) return static_cast<double>(std::numeric_limits<T>::denorm_min());
}

inline bool SameBits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}
inline bool SameBits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}
inline bool SameBits(Float16 a, Float16 b) { return a.bits == b.bits; }
inline bool SameBits(Bfloat16 a, Bfloat16 b) { return a.bits == b.bits; }

inline constexpr DataType kElementTypes[] = {DataType::kFloat32, DataType::kFloat64,
                                             DataType::kFloat16, DataType::kBfloat16};
inline constexpr DataType kFloatingTypes[] = {DataType::kFloat32, DataType::kFloat64};
inline constexpr DataType kHalfTypes[] = {DataType::kFloat16, DataType::kBfloat16};

// Runs each test once for every runnable target and each of some element types.
class ElementTypeTest : public testing::TestWithParam<std::tuple<int64_t, DataType>> {
 protected:
  void SetUp() override {
    hwy::SetSupportedTargetsForTest(std::get<int64_t>(GetParam()));
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  void TearDown() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
  }

  // Calls body(ElementType<T>()) with T the element type of this run.
  template <class Body>
  static void WithElementType(Body body) {
    VisitDataType(std::get<DataType>(GetParam()), body);
  }

  // The same for a body that is of 16-bit types alone. REQUIRES: the type of this run is one.
  template <class Body>
  static void WithHalfType(Body body) {
    WithElementType([&body]<typename T>(ElementType<T> type) {
      if constexpr (kIsHalf<T>) {
        body(type);
      } else {
        FAIL() << "expected a 16-bit type";
      }
    });
  }
};

inline std::string ElementTypeParamName(
    const testing::TestParamInfo<std::tuple<int64_t, DataType>>& info) {
  return absl::StrCat(hwy::TargetName(std::get<int64_t>(info.param)), "_",
                      DataTypeName(std::get<DataType>(info.param)));
}

}  // namespace normd

// Makes the tests of `suite`, an ElementTypeTest, run on every target for every one of `types`.
#define NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(suite, types)                                    \
  INSTANTIATE_TEST_SUITE_P(                                                                      \
      Targets, suite,                                                                            \
      testing::Combine(testing::ValuesIn(::normd::RunnableTargets()), testing::ValuesIn(types)), \
      ::normd::ElementTypeParamName)

#endif  // NORMD_TESTS_CORE_KERNELS_ELEMENT_TYPE_TEST_H_
