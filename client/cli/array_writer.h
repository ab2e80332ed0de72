#ifndef NORMD_CLIENT_CLI_ARRAY_WRITER_H_
#define NORMD_CLIENT_CLI_ARRAY_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/array.h"
#include "client/cli/output_file.h"

namespace normd::cli {

enum class ArrayFormat {
  kNpy,   // in the array's dtype, C order; bfloat16, which numpy does not have, as float32
  kJson,  // a line of nested arrays
  kText,  // as PyTorch prints tensors, for people
};

// kJson when `path` ends in ".json", else kNpy.
ArrayFormat FormatOfPath(const std::string& path);

// Writes arrays, one after another, as an OutputFile does. Thread-compatible.
class ArrayWriter {
 public:
  // Opens `path`; "-" is standard output.
  static absl::StatusOr<std::unique_ptr<ArrayWriter>> Open(const std::string& path,
                                                           ArrayFormat format);

  // REQUIRES: `shape` has one axis or more; the array before is whole.
  absl::Status BeginArray(const std::vector<int64_t>& shape, client::DataType dtype);

  // Writes the next elements of the array, in its dtype and in row-major order.
  absl::Status Write(absl::string_view bytes);

  // Flushes and puts the file under its name.
  absl::Status Finish() { return file_->Finish(); }

 private:
  ArrayWriter(std::unique_ptr<OutputFile> file, ArrayFormat format);

  absl::Status WriteTextWhenWhole();

  const std::unique_ptr<OutputFile> file_;
  const ArrayFormat format_;
  // The current array; its bytes so far when it is not written as .npy.
  Array array_;
  size_t bytes_ = 0;  // of all of it
};

// Writes a whole array to `path` as .npy.
absl::Status WriteNpyFile(const std::string& path, const Array& array);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_ARRAY_WRITER_H_
