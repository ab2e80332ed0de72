#ifndef NORMD_CLIENT_CLI_JSON_ARRAY_H_
#define NORMD_CLIENT_CLI_JSON_ARRAY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/array.h"
#include "nlohmann/json.hpp"

// Arrays as nested JSON arrays of numbers: [[1, 2.5], [3, 4]] has shape (2, 2). Values that JSON
// has no number for are the strings "NaN", "Infinity" and "-Infinity", as in protobuf's JSON.
namespace normd::cli {

// A dense row-major array of doubles.
struct JsonArray {
  std::vector<int64_t> shape;
  std::vector<double> values;
};

// Parses `text`. Refuses what is not rectangular or not a number with a message that says where.
absl::StatusOr<JsonArray> ParseJsonArray(absl::string_view text);

// The nested arrays of `array`, each value a number that reads back to the same value of its dtype,
// float32 for the 16-bit ones; [] without elements.
std::string FormatJsonArray(const Array& array);

// A number, or one of the three strings.
nlohmann::ordered_json JsonNumber(double value);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_JSON_ARRAY_H_
