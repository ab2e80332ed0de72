#include "client/cli/array_writer.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/json_array.h"
#include "client/cli/status_macros.h"
#include "client/cli/text.h"

namespace normd::cli {

ArrayFormat FormatOfPath(const std::string& path) {
  return absl::EndsWith(path, ".json") ? ArrayFormat::kJson : ArrayFormat::kNpy;
}

absl::StatusOr<std::unique_ptr<ArrayWriter>> ArrayWriter::Open(const std::string& path,
                                                               ArrayFormat format) {
  if (path == "-") {
    return std::unique_ptr<ArrayWriter>(new ArrayWriter(stdout, "standard output", "", format));
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
  return std::unique_ptr<ArrayWriter>(
      new ArrayWriter(file, std::move(target), std::move(partial_path), format));
}

ArrayWriter::ArrayWriter(std::FILE* file, std::string path, std::string partial_path,
                         ArrayFormat format)
    : path_(std::move(path)),
      partial_path_(std::move(partial_path)),
      format_(format),
      file_(file) {}

ArrayWriter::~ArrayWriter() {
  if (file_ == nullptr || file_ == stdout) return;
  std::fclose(file_);
  if (!partial_path_.empty()) std::remove(partial_path_.c_str());
}

absl::Status ArrayWriter::BeginArray(const std::vector<int64_t>& shape, NpyType type) {
  if (format_ == ArrayFormat::kNpy) return WriteBytes(FormatNpyHeader(shape, type));
  array_ = Array{shape, {}};
  elements_ = 1;
  for (const int64_t axis : shape) elements_ *= static_cast<size_t>(axis);
  return WriteTextWhenWhole();
}

absl::Status ArrayWriter::Write(absl::Span<const float> values) {
  if (values.empty()) return absl::OkStatus();
  if (format_ == ArrayFormat::kNpy) {
    return WriteBytes(absl::string_view(reinterpret_cast<const char*>(values.data()),
                                        values.size() * sizeof(float)));
  }
  array_.values.insert(array_.values.end(), values.begin(), values.end());
  return WriteTextWhenWhole();
}

absl::Status ArrayWriter::WriteDoubles(absl::Span<const double> values) {
  return WriteBytes(absl::string_view(reinterpret_cast<const char*>(values.data()),
                                      values.size() * sizeof(double)));
}

absl::Status ArrayWriter::Finish() {
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

absl::Status ArrayWriter::WriteBytes(absl::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_) == bytes.size()) return absl::OkStatus();
  return SystemError("cannot write");
}

absl::Status ArrayWriter::WriteTextWhenWhole() {
  if (array_.values.size() < elements_) return absl::OkStatus();
  return WriteBytes(format_ == ArrayFormat::kJson ? absl::StrCat(FormatJsonArray(array_), "\n")
                                                  : FormatArray(array_));
}

absl::Status ArrayWriter::SystemError(absl::string_view what) const {
  return absl::UnavailableError(absl::StrCat("'", path_, "': ", what, ": ", std::strerror(errno)));
}

absl::Status WriteNpyVector(const std::string& path, absl::Span<const float> values) {
  NORMD_CLI_ASSIGN_OR_RETURN(const std::unique_ptr<ArrayWriter> writer,
                             ArrayWriter::Open(path, ArrayFormat::kNpy));
  NORMD_CLI_RETURN_IF_ERROR(writer->BeginArray({static_cast<int64_t>(values.size())}));
  NORMD_CLI_RETURN_IF_ERROR(writer->Write(values));
  return writer->Finish();
}

absl::Status WriteNpyVector(const std::string& path, absl::Span<const double> values) {
  NORMD_CLI_ASSIGN_OR_RETURN(const std::unique_ptr<ArrayWriter> writer,
                             ArrayWriter::Open(path, ArrayFormat::kNpy));
  NORMD_CLI_RETURN_IF_ERROR(
      writer->BeginArray({static_cast<int64_t>(values.size())}, NpyType::kFloat64));
  NORMD_CLI_RETURN_IF_ERROR(writer->WriteDoubles(values));
  return writer->Finish();
}

}  // namespace normd::cli
