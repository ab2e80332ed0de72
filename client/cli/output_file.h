#ifndef NORMD_CLIENT_CLI_OUTPUT_FILE_H_
#define NORMD_CLIENT_CLI_OUTPUT_FILE_H_

#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace normd::cli {

// Bytes to a file or to standard output. A regular file appears under its name when it is whole, by
// Finish, and not before. Thread-compatible. Errors name the file and give the system's reason.
class OutputFile {
 public:
  // Opens `path`; "-" is standard output.
  static absl::StatusOr<std::unique_ptr<OutputFile>> Open(const std::string& path);

  // Removes what was written when Finish was not called.
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  absl::Status Write(absl::string_view bytes);

  // Flushes and puts the file under its name. To be called once, last.
  absl::Status Finish();

 private:
  OutputFile(std::FILE* file, std::string path, std::string partial_path);

  absl::Status SystemError(absl::string_view what) const;

  // Constant after construction.
  const std::string path_;
  const std::string partial_path_;  // where the bytes go until Finish; empty when it is path_

  std::FILE* file_;  // null after Finish
};

// A flag that names a file to write, and the path that it was given; empty: none.
struct OutputFlag {
  const char* name;
  const std::string& path;
  bool standard_output = false;  // whether "-" may be given
};

// Why the files cannot all be written: a "-" that may not be given, or two that are one file. Empty
// when they can.
std::string OutputFault(absl::Span<const OutputFlag> flags);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_OUTPUT_FILE_H_
