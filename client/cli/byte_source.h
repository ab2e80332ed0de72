#ifndef NORMD_CLIENT_CLI_BYTE_SOURCE_H_
#define NORMD_CLIENT_CLI_BYTE_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace normd::cli {

// The bytes of a file or of standard input, front to back. Thread-compatible. Every error is a
// message that begins with the name of the input and gives the system's reason.
class ByteSource {
 public:
  // Opens `path` for reading; "-" is standard input.
  static absl::StatusOr<std::unique_ptr<ByteSource>> Open(const std::string& path);

  ~ByteSource();
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  // Reads `size` bytes to `destination`, fewer only when the input ends. Returns how many.
  absl::StatusOr<size_t> Read(void* destination, size_t size);

  // Leaves out the next `size` bytes, or goes back when it is below 0. Error: the input is not a
  // regular file.
  absl::Status Skip(int64_t size);

  // Goes back to the first byte. Error: the input is not a regular file.
  absl::Status Rewind();

  // "'batch.npy'" or "standard input", for messages.
  const std::string& name() const { return name_; }
  int64_t bytes_read() const { return bytes_read_; }
  // Size of a regular file; nothing for a pipe or a terminal.
  std::optional<int64_t> bytes_total() const { return bytes_total_; }

 private:
  ByteSource(int descriptor, std::string name, std::optional<int64_t> bytes_total);

  const int descriptor_;
  const std::string name_;
  const std::optional<int64_t> bytes_total_;
  int64_t bytes_read_ = 0;
};

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_BYTE_SOURCE_H_
