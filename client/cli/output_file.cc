#include "client/cli/output_file.h"

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace normd::cli {
namespace {

// Whether two paths lead to one file; false for those that can be written twice, as /dev/null.
bool IsOneFile(const std::string& a, const std::string& b) {
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(a, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) return false;
  const auto whole = [&ignored](const std::string& path) {
    return std::filesystem::weakly_canonical(std::filesystem::absolute(path, ignored), ignored);
  };
  return whole(a) == whole(b);
}

}  // namespace

absl::StatusOr<std::unique_ptr<OutputFile>> OutputFile::Open(const std::string& path) {
  if (path == "-") {
    return std::unique_ptr<OutputFile>(new OutputFile(stdout, "standard output", ""));
  }
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  std::string target = path;
  std::string partial_path;
  if (!std::filesystem::exists(status)) {
    partial_path = absl::StrCat(path, ".partial");
  } else if (std::filesystem::is_regular_file(status)) {
    // A link stays a link: its target is replaced.
    target = std::filesystem::canonical(path, ignored).string();
    if (target.empty()) target = path;
    partial_path = absl::StrCat(target, ".partial");
  }
  std::FILE* const file =
      std::fopen(partial_path.empty() ? target.c_str() : partial_path.c_str(), "wb");
  if (file == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("'", path, "': cannot write: ", std::strerror(errno)));
  }
  return std::unique_ptr<OutputFile>(
      new OutputFile(file, std::move(target), std::move(partial_path)));
}

OutputFile::OutputFile(std::FILE* file, std::string path, std::string partial_path)
    : path_(std::move(path)), partial_path_(std::move(partial_path)), file_(file) {}

OutputFile::~OutputFile() {
  if (file_ == nullptr || file_ == stdout) return;
  std::fclose(file_);
  if (!partial_path_.empty()) std::remove(partial_path_.c_str());
}

absl::Status OutputFile::Write(absl::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_) == bytes.size()) return absl::OkStatus();
  return SystemError("cannot write");
}

absl::Status OutputFile::Finish() {
  std::FILE* const file = std::exchange(file_, nullptr);
  const bool flushed = std::fflush(file) == 0;
  const bool closed = file == stdout || std::fclose(file) == 0;
  if (!flushed || !closed) {
    absl::Status status = SystemError("cannot write");
    if (!partial_path_.empty()) std::remove(partial_path_.c_str());
    return status;
  }
  if (partial_path_.empty()) return absl::OkStatus();
  if (std::rename(partial_path_.c_str(), path_.c_str()) == 0) return absl::OkStatus();
  return SystemError("cannot rename the written file");
}

absl::Status OutputFile::SystemError(absl::string_view what) const {
  return absl::UnavailableError(absl::StrCat("'", path_, "': ", what, ": ", std::strerror(errno)));
}

std::string OutputFault(absl::Span<const OutputFlag> flags) {
  for (size_t i = 0; i < flags.size(); ++i) {
    const OutputFlag& flag = flags[i];
    if (flag.path.empty()) continue;
    if (flag.path == "-" && !flag.standard_output) {
      return absl::StrCat(flag.name, " needs a file: standard output has the summary");
    }
    for (const OutputFlag& other : flags.subspan(i + 1)) {
      if (!other.path.empty() && IsOneFile(flag.path, other.path)) {
        return absl::StrCat(flag.name, " and ", other.name, " need two files, got '", flag.path,
                            "' twice");
      }
    }
  }
  return "";
}

}  // namespace normd::cli
