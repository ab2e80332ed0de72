#ifndef NORMD_CORE_TENSOR_DATA_TYPE_H_
#define NORMD_CORE_TENSOR_DATA_TYPE_H_

#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"

namespace normd {

// The type of one element. Same numbers as normd.v1.DataType.
enum class DataType { kFloat32 = 1, kFloat64 = 2, kFloat16 = 3, kBfloat16 = 4 };

// IEEE 754 binary16, as it lies in a tensor.
struct Float16 {
  uint16_t bits = 0;
};

// The upper 16 bits of binary32, as they lie in a tensor.
struct Bfloat16 {
  uint16_t bits = 0;
};

// What a value of an element type is computed in, where moments (always float64) are not.
template <typename T>
struct ComputeTypeOf {
  using type = float;
};
template <>
struct ComputeTypeOf<double> {
  using type = double;
};
template <typename T>
using ComputeType = typename ComputeTypeOf<T>::type;

// The element at any address, aligned or not.
template <typename T>
T ValueAt(const T* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

// Names an element type to a visitor.
template <typename T>
struct ElementType {
  using type = T;
};

// visitor(ElementType<T>()) with T the element type of `dtype`: float, double, Float16, Bfloat16.
template <typename Visitor>
decltype(auto) VisitDataType(DataType dtype, Visitor&& visitor) {
  switch (dtype) {
    case DataType::kFloat64:
      return visitor(ElementType<double>());
    case DataType::kFloat16:
      return visitor(ElementType<Float16>());
    case DataType::kBfloat16:
      return visitor(ElementType<Bfloat16>());
    case DataType::kFloat32:
      break;
  }
  return visitor(ElementType<float>());
}

// Bytes of one element.
constexpr int64_t ElementBytes(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat32:
      return 4;
    case DataType::kFloat64:
      return 8;
    case DataType::kFloat16:
    case DataType::kBfloat16:
      return 2;
  }
  return 0;
}

// The wire's name: "FLOAT32".
constexpr absl::string_view DataTypeName(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat32:
      return "FLOAT32";
    case DataType::kFloat64:
      return "FLOAT64";
    case DataType::kFloat16:
      return "FLOAT16";
    case DataType::kBfloat16:
      return "BFLOAT16";
  }
  return "unknown";
}

// Where the channel axis stands. Same numbers as normd.v1.Layout.
enum class Layout {
  kChannelsFirst = 1,  // axis 1
  kChannelsLast = 2,   // the last axis
};

}  // namespace normd

#endif  // NORMD_CORE_TENSOR_DATA_TYPE_H_
