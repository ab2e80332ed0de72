#include "client/cli/array_writer.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/json_array.h"
#include "client/cli/npy_header.h"
#include "client/cli/status_macros.h"
#include "client/cli/text.h"

namespace normd::cli {

ArrayFormat FormatOfPath(const std::string& path) {
  return absl::EndsWith(path, ".json") ? ArrayFormat::kJson : ArrayFormat::kNpy;
}

absl::StatusOr<std::unique_ptr<ArrayWriter>> ArrayWriter::Open(const std::string& path,
                                                               ArrayFormat format) {
  NORMD_CLI_ASSIGN_OR_RETURN(std::unique_ptr<OutputFile> file, OutputFile::Open(path));
  return std::unique_ptr<ArrayWriter>(new ArrayWriter(std::move(file), format));
}

ArrayWriter::ArrayWriter(std::unique_ptr<OutputFile> file, ArrayFormat format)
    : file_(std::move(file)), format_(format) {}

absl::Status ArrayWriter::BeginArray(const std::vector<int64_t>& shape, client::DataType dtype) {
  array_ = Array{shape, dtype, {}};
  bytes_ = static_cast<size_t>(NumElements(shape) * client::ElementBytes(dtype));
  if (format_ != ArrayFormat::kNpy) return WriteTextWhenWhole();
  return file_->Write(FormatNpyHeader(
      shape, dtype == client::DataType::kBfloat16 ? client::DataType::kFloat32 : dtype));
}

absl::Status ArrayWriter::Write(absl::string_view bytes) {
  if (bytes.empty()) return absl::OkStatus();
  if (format_ != ArrayFormat::kNpy) {
    absl::StrAppend(&array_.bytes, bytes);
    return WriteTextWhenWhole();
  }
  if (array_.dtype != client::DataType::kBfloat16) return file_->Write(bytes);
  NORMD_CLI_ASSIGN_OR_RETURN(
      const Array floats,
      Convert(Array{{}, array_.dtype, std::string(bytes)}, client::DataType::kFloat32));
  return file_->Write(floats.bytes);
}

absl::Status ArrayWriter::WriteTextWhenWhole() {
  if (array_.bytes.size() < bytes_) return absl::OkStatus();
  return file_->Write(format_ == ArrayFormat::kJson ? absl::StrCat(FormatJsonArray(array_), "\n")
                                                    : FormatArray(array_));
}

absl::Status WriteNpyFile(const std::string& path, const Array& array) {
  NORMD_CLI_ASSIGN_OR_RETURN(const std::unique_ptr<ArrayWriter> writer,
                             ArrayWriter::Open(path, ArrayFormat::kNpy));
  NORMD_CLI_RETURN_IF_ERROR(writer->BeginArray(array.shape, array.dtype));
  NORMD_CLI_RETURN_IF_ERROR(writer->Write(array.bytes));
  return writer->Finish();
}

}  // namespace normd::cli
