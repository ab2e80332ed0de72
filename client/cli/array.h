#ifndef NORMD_CLIENT_CLI_ARRAY_H_
#define NORMD_CLIENT_CLI_ARRAY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cpp/batch.h"

namespace normd::cli {

// A dense row-major array that owns its bytes, in the host's order; there are as many as shape and
// dtype say.
struct Array {
  std::vector<int64_t> shape;
  client::DataType dtype = client::DataType::kFloat32;
  std::string bytes;
};

// An array of float32, or of float64.
Array MakeArray(std::vector<int64_t> shape, const std::vector<float>& values);
Array MakeArray(std::vector<int64_t> shape, const std::vector<double>& values);

// The array as a batch that borrows its bytes: valid as long as `array` is neither changed nor
// destroyed.
client::Batch ToBatch(const Array& array, client::Layout layout = client::Layout::kChannelsFirst);

// The values, each exact.
std::vector<double> ToDoubles(const Array& array);

// The array with its values rounded to `dtype`. Errors: a finite value is too large for it.
absl::StatusOr<Array> Convert(Array array, client::DataType dtype);

// Elements of `shape`; 0 when an axis is 0. REQUIRES: the product fits in 63 bits.
int64_t NumElements(const std::vector<int64_t>& shape);

// "(8, 32, 7)", "(8,)", "()": as numpy writes a shape.
std::string ShapeToText(const std::vector<int64_t>& shape);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_ARRAY_H_
