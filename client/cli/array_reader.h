#ifndef NORMD_CLIENT_CLI_ARRAY_READER_H_
#define NORMD_CLIENT_CLI_ARRAY_READER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/array.h"

namespace normd::cli {

// Reads arrays row by row (a row is one index of axis 0), so that a .npy file may be larger than
// the memory. The input is one .npy array or several, one after another, or one array as JSON text
// (when the first byte that is not blank is '['). Thread-compatible. Errors name the input, what
// was expected and what came. No more memory is taken than the input has bytes for, whatever its
// header says.
class ArrayReader {
 public:
  // Opens `path`; "-" is standard input.
  static absl::StatusOr<std::unique_ptr<ArrayReader>> Open(const std::string& path);

  virtual ~ArrayReader() = default;

  // Goes to the next array and returns its shape, of one axis or more; nothing when the input has
  // ended. REQUIRES: the array before has been read to its end.
  virtual absl::StatusOr<std::optional<std::vector<int64_t>>> NextArray() = 0;

  // Reads the next `rows` rows of the current array, in its dtype; that of JSON is float64.
  // REQUIRES: 0 <= rows <= rows_left().
  virtual absl::StatusOr<Array> ReadRows(int64_t rows) = 0;

  // Goes back to the first array. Error: the input is a pipe or a terminal.
  virtual absl::Status Rewind() = 0;

  virtual int64_t rows_left() const = 0;
  // Whether the input is JSON, which has no dtype of its own.
  virtual bool is_text() const = 0;
  // "'batch.npy'" or "standard input", for messages.
  virtual const std::string& name() const = 0;
  virtual int64_t bytes_read() const = 0;
  // Nothing for a pipe or a terminal.
  virtual std::optional<int64_t> bytes_total() const = 0;
};

// The values of the one array of `path`, each exact. Errors: as ArrayReader; more than one array.
absl::StatusOr<std::vector<double>> ReadValuesFile(const std::string& path);

// The same of an array of one axis. Errors: also more than one axis.
absl::StatusOr<std::vector<double>> ReadVectorFile(const std::string& path);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_ARRAY_READER_H_
