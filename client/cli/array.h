#ifndef NORMD_CLIENT_CLI_ARRAY_H_
#define NORMD_CLIENT_CLI_ARRAY_H_

#include <cstdint>
#include <string>
#include <vector>

namespace normd::cli {

// A dense row-major array of floats that owns its values; values.size() is the product of `shape`.
struct Array {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// "(8, 32, 7)", "(8,)", "()": as numpy writes a shape.
std::string ShapeToText(const std::vector<int64_t>& shape);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_ARRAY_H_
