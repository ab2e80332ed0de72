#ifndef NORMD_CORE_TENSOR_DATA_TYPE_H_
#define NORMD_CORE_TENSOR_DATA_TYPE_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace normd {

// The type of one element. Same numbers as normd.v1.DataType.
enum class DataType { kFloat32 = 1, kFloat64 = 2, kFloat16 = 3, kBfloat16 = 4 };

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
