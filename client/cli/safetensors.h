#ifndef NORMD_CLIENT_CLI_SAFETENSORS_H_
#define NORMD_CLIENT_CLI_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/byte_source.h"

// The safetensors format (https://github.com/huggingface/safetensors): the length of the header as
// 8 bytes, little-endian; the header, a JSON object from names to dtype, shape and data_offsets,
// with an optional __metadata__ of strings; the bytes of the tensors, without a hole.
namespace normd::cli {

// The format's own limit.
inline constexpr int64_t kSafetensorsHeaderBytesMax = 100'000'000;

// A tensor of a file. Its bytes are [begin, end) of the data.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // the format's name: "F32", "I64"
  std::vector<int64_t> shape;
  int64_t begin = 0;
  int64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
};

// Parses the JSON of a file with `data_bytes` bytes behind it. Errors: kInvalidArgument for what is
// not JSON or not of this form, a name that comes twice, an unknown dtype, a shape that does not
// agree with the offsets, and offsets that are out of range, overlap, or leave a hole. Takes memory
// in proportion to the text.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view json,
                                                         int64_t data_bytes);

// A file to read from. Thread-compatible. Errors name the file.
class SafetensorsReader {
 public:
  // Opens a regular file and reads its header.
  static absl::StatusOr<std::unique_ptr<SafetensorsReader>> Open(const std::string& path);

  const SafetensorsHeader& header() const { return header_; }

  // The bytes of an entry of the header, in memory of that size.
  absl::StatusOr<std::string> Read(const SafetensorsEntry& entry);

 private:
  SafetensorsReader(std::unique_ptr<ByteSource> source, SafetensorsHeader header)
      : source_(std::move(source)), header_(std::move(header)) {}

  const std::unique_ptr<ByteSource> source_;
  const SafetensorsHeader header_;
  int64_t position_ = 0;  // in the data
};

// A tensor to write.
struct SafetensorsTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

// Writes a file as an OutputFile does, large elements first, so that all are aligned, and names in
// their order. REQUIRES: names differ; bytes, shape and dtype agree. Errors: the system's; a header
// above the limit.
absl::Status WriteSafetensors(const std::string& path, std::vector<SafetensorsTensor> tensors,
                              const std::map<std::string, std::string>& metadata);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_SAFETENSORS_H_
