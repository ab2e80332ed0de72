#ifndef NORMD_CLIENT_CLI_ARRAY_WRITER_H_
#define NORMD_CLIENT_CLI_ARRAY_WRITER_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/cli/array.h"
#include "client/cli/npy_header.h"

namespace normd::cli {

enum class ArrayFormat {
  kNpy,   // float32, C order
  kJson,  // a line of nested arrays
  kText,  // as PyTorch prints tensors, for people
};

// kJson when `path` ends in ".json", else kNpy.
ArrayFormat FormatOfPath(const std::string& path);

// Writes arrays, one after another. A regular file appears under its name when it is whole, by
// Finish, and not before. Thread-compatible. Errors name the file and give the system's reason.
class ArrayWriter {
 public:
  // Opens `path`; "-" is standard output.
  static absl::StatusOr<std::unique_ptr<ArrayWriter>> Open(const std::string& path,
                                                           ArrayFormat format);

  // Removes what was written when Finish was not called.
  ~ArrayWriter();
  ArrayWriter(const ArrayWriter&) = delete;
  ArrayWriter& operator=(const ArrayWriter&) = delete;

  // Begins an array of `type`, which is kFloat32 in any format but kNpy. REQUIRES: `shape` has one
  // axis or more; the array before is whole.
  absl::Status BeginArray(const std::vector<int64_t>& shape, NpyType type = NpyType::kFloat32);

  // Writes the next values of the array, in row-major order.
  absl::Status Write(absl::Span<const float> values);
  // As Write. REQUIRES: the array is kFloat64.
  absl::Status WriteDoubles(absl::Span<const double> values);

  // Flushes and puts the file under its name.
  absl::Status Finish();

 private:
  ArrayWriter(std::FILE* file, std::string path, std::string partial_path, ArrayFormat format);

  absl::Status WriteBytes(absl::string_view bytes);
  absl::Status WriteTextWhenWhole();
  absl::Status SystemError(absl::string_view what) const;

  // Constant after construction.
  const std::string path_;
  const std::string partial_path_;  // where the bytes go until Finish; empty when it is path_
  const ArrayFormat format_;

  std::FILE* file_;  // null after Finish
  // Of the current array, when it is not written as .npy.
  Array array_;  // so far
  size_t elements_ = 0;
};

// Writes a vector to `path` as .npy: float32, or float64.
absl::Status WriteNpyVector(const std::string& path, absl::Span<const float> values);
absl::Status WriteNpyVector(const std::string& path, absl::Span<const double> values);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_ARRAY_WRITER_H_
