#include "client/cli/safetensors.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/cli/array.h"
#include "client/cli/output_file.h"
#include "client/cli/status_macros.h"
#include "nlohmann/json.hpp"

namespace normd::cli {
namespace {

constexpr absl::string_view kMetadataKey = "__metadata__";
constexpr size_t kLengthBytes = 8;
constexpr size_t kHeaderAlignment = 8;
constexpr size_t kRankMax = 64;
constexpr size_t kQuotedBytesMax = 100;

// Bytes of one element; 0 for a dtype that is not known.
int64_t DtypeBytes(absl::string_view dtype) {
  static constexpr std::pair<absl::string_view, int64_t> kDtypes[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
      {"U32", 4},  {"F32", 4}, {"I64", 8}, {"U64", 8},     {"F64", 8},
  };
  for (const auto& [name, bytes] : kDtypes) {
    if (name == dtype) return bytes;
  }
  return 0;
}

std::string Quoted(absl::string_view text) {
  const bool cut = text.size() > kQuotedBytesMax;
  return absl::StrCat("'", absl::CHexEscape(text.substr(0, kQuotedBytesMax)), cut ? "...'" : "'");
}

absl::Status Malformed(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("the safetensors header is malformed: ", what));
}

// Takes the parser's events and builds the entries; stops at the first fault.
class HeaderBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool start_object(size_t) override {
    if (place_ == Place::kStart) return Go(Place::kNames);
    if (place_ == Place::kNameSeen) {
      if (name_ == kMetadataKey) return Go(Place::kMetadata);
      header_.entries.emplace_back().name = name_;
      has_dtype_ = has_shape_ = has_offsets_ = false;
      return Go(Place::kFields);
    }
    return Unexpected("an object");
  }

  bool key(std::string& key) override {
    switch (place_) {
      case Place::kNames:
        name_ = key;
        return Go(Place::kNameSeen);
      case Place::kMetadata:
        metadata_key_ = key;
        if (header_.metadata.count(key) > 0) return Twice(key);
        return Go(Place::kMetadataKeySeen);
      default:
        return FieldKey(key);
    }
  }

  bool end_object() override {
    if (place_ == Place::kFields && !(has_dtype_ && has_shape_ && has_offsets_)) {
      return Fail(absl::StrCat("the tensor ", Quoted(name_), " has no ",
                               !has_dtype_ ? "dtype" : (!has_shape_ ? "shape" : "data_offsets")));
    }
    if (place_ == Place::kMetadata && std::exchange(has_metadata_, true)) return Twice(name_);
    return Go(place_ == Place::kNames ? Place::kEnd : Place::kNames);
  }

  bool string(std::string& value) override {
    if (place_ == Place::kMetadataKeySeen) {
      header_.metadata[metadata_key_] = value;
      return Go(Place::kMetadata);
    }
    if (place_ != Place::kDtype) return Unexpected("a string");
    if (DtypeBytes(value) == 0) {
      return Fail(absl::StrCat("the tensor ", Quoted(name_), " has dtype ", Quoted(value),
                               ", which is not known"));
    }
    header_.entries.back().dtype = value;
    return Go(Place::kFields);
  }

  bool start_array(size_t) override {
    numbers_.clear();
    if (place_ == Place::kShape) return Go(Place::kAxes);
    if (place_ == Place::kOffsets) return Go(Place::kTwoOffsets);
    return Unexpected("an array");
  }

  bool end_array() override {
    SafetensorsEntry& entry = header_.entries.back();
    if (place_ == Place::kAxes) {
      entry.shape = numbers_;
    } else if (numbers_.size() == 2) {
      entry.begin = numbers_[0];
      entry.end = numbers_[1];
    } else {
      return Fail(absl::StrCat("the tensor ", Quoted(name_), " has ", numbers_.size(),
                               " data_offsets, expected 2"));
    }
    return Go(Place::kFields);
  }

  bool number_unsigned(uint64_t value) override {
    if (place_ != Place::kAxes && place_ != Place::kTwoOffsets) return Unexpected("a number");
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Fail(absl::StrCat("the tensor ", Quoted(name_), " has the number ", value,
                               ", expected one below 2^63"));
    }
    if (numbers_.size() == kRankMax) {
      return Fail(absl::StrCat("the tensor ", Quoted(name_), " has more than ", kRankMax, " axes"));
    }
    numbers_.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool number_integer(int64_t) override { return Unexpected("a negative number"); }
  bool number_float(double, const std::string&) override { return Unexpected("a fraction"); }
  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("a boolean"); }
  bool binary(nlohmann::json::binary_t&) override { return Unexpected("bytes"); }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    return Fail(absl::StrCat("it is not JSON: fault at byte ", position));
  }

  absl::StatusOr<SafetensorsHeader> Finish() && {
    if (!error_.empty()) return Malformed(error_);
    return std::move(header_);
  }

 private:
  // What comes next.
  enum class Place {
    kStart,            // the object of all
    kNames,            // a name, or the end of all
    kNameSeen,         // the object of a name
    kMetadata,         // a key of __metadata__, or its end
    kMetadataKeySeen,  // its string
    kFields,           // a field of a tensor, or its end
    kDtype,            // its string
    kShape,            // its array
    kAxes,             // a number, or its end
    kOffsets,          // its array
    kTwoOffsets,       // a number, or its end
    kEnd,              // nothing
  };

  bool FieldKey(const std::string& key) {
    if (key == "dtype") return std::exchange(has_dtype_, true) ? Twice(key) : Go(Place::kDtype);
    if (key == "shape") return std::exchange(has_shape_, true) ? Twice(key) : Go(Place::kShape);
    if (key == "data_offsets") {
      return std::exchange(has_offsets_, true) ? Twice(key) : Go(Place::kOffsets);
    }
    return Fail(absl::StrCat("the tensor ", Quoted(name_), " has the field ", Quoted(key),
                             ", expected dtype, shape and data_offsets"));
  }

  bool Go(Place place) {
    place_ = place;
    return true;
  }

  bool Twice(absl::string_view key) { return Fail(absl::StrCat(Quoted(key), " comes twice")); }

  bool Unexpected(absl::string_view what) {
    return Fail(absl::StrCat(what, " stands where it does not belong",
                             name_.empty() ? "" : absl::StrCat(", in ", Quoted(name_))));
  }

  bool Fail(std::string error) {
    if (error_.empty()) error_ = std::move(error);
    return false;
  }

  SafetensorsHeader header_;
  Place place_ = Place::kStart;
  std::string name_;  // of the entry at hand
  std::string metadata_key_;
  bool has_metadata_ = false;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  std::vector<int64_t> numbers_;
  std::string error_;
};

// product(shape) x element size; nothing when it does not fit in 63 bits.
std::optional<int64_t> BytesOf(const SafetensorsEntry& entry) {
  const std::vector<int64_t>& shape = entry.shape;
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  int64_t bytes = DtypeBytes(entry.dtype);
  for (const int64_t axis : shape) {
    if (axis > std::numeric_limits<int64_t>::max() / bytes) return std::nullopt;
    bytes *= axis;
  }
  return bytes;
}

// Sorts the entries by their bytes and checks that these are the data, one after the other.
absl::Status CheckOffsets(int64_t data_bytes, std::vector<SafetensorsEntry>* entries) {
  std::sort(entries->begin(), entries->end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  int64_t position = 0;
  for (const SafetensorsEntry& entry : *entries) {
    const std::string offsets =
        absl::StrCat("the tensor ", Quoted(entry.name), " has data_offsets [", entry.begin, ", ",
                     entry.end, "]");
    if (entry.end < entry.begin || entry.end > data_bytes) {
      return Malformed(absl::StrCat(offsets, ", expected them in order and within the ", data_bytes,
                                    " bytes of data"));
    }
    const std::optional<int64_t> bytes = BytesOf(entry);
    if (bytes != entry.end - entry.begin) {
      return Malformed(absl::StrCat(
          offsets, ", and shape ", ShapeToText(entry.shape), " of ", entry.dtype, " needs ",
          bytes.has_value() ? absl::StrCat(*bytes) : std::string("2^63 or more"), " bytes"));
    }
    if (entry.begin != position) {
      return Malformed(absl::StrCat(offsets,
                                    entry.begin < position
                                        ? ", which overlaps the tensor before it, up to "
                                        : ", which leaves a hole behind the tensor before it, at ",
                                    position));
    }
    position = entry.end;
  }
  if (position == data_bytes) return absl::OkStatus();
  return Malformed(absl::StrCat("the tensors have ", position, " bytes, and ", data_bytes,
                                " bytes follow the header"));
}

absl::Status CheckNames(const std::vector<SafetensorsEntry>& entries) {
  std::vector<absl::string_view> names;
  names.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return absl::OkStatus();
  return Malformed(absl::StrCat("the tensor ", Quoted(*twice), " comes twice"));
}

absl::Status WithName(const ByteSource& source, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(source.name(), ": ", status.message()));
}

absl::StatusOr<SafetensorsHeader> ReadHeader(ByteSource* source) {
  if (!source->bytes_total().has_value()) {
    return absl::InvalidArgumentError("expected a regular file, got a pipe or a terminal");
  }
  unsigned char length_bytes[kLengthBytes];
  NORMD_CLI_ASSIGN_OR_RETURN(size_t count, source->Read(length_bytes, kLengthBytes));
  if (count < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected a safetensors file, got one of ", count, " bytes"));
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= uint64_t{length_bytes[i]} << (8 * i);
  const int64_t bytes_left = *source->bytes_total() - source->bytes_read();
  if (length > uint64_t{kSafetensorsHeaderBytesMax} || static_cast<int64_t>(length) > bytes_left) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected a safetensors file, whose header has at most ",
                     kSafetensorsHeaderBytesMax, " bytes and is whole; got a header of ", length,
                     " bytes, and ", bytes_left, " bytes follow"));
  }
  std::string json(length, '\0');
  NORMD_CLI_ASSIGN_OR_RETURN(count, source->Read(json.data(), json.size()));
  if (count < json.size()) return Malformed("it is truncated");
  return ParseSafetensorsHeader(json, bytes_left - static_cast<int64_t>(length));
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view json,
                                                         int64_t data_bytes) {
  HeaderBuilder builder;
  nlohmann::json::sax_parse(json.begin(), json.end(), &builder);
  NORMD_CLI_ASSIGN_OR_RETURN(SafetensorsHeader header, std::move(builder).Finish());
  NORMD_CLI_RETURN_IF_ERROR(CheckNames(header.entries));
  NORMD_CLI_RETURN_IF_ERROR(CheckOffsets(data_bytes, &header.entries));
  return header;
}

absl::StatusOr<std::unique_ptr<SafetensorsReader>> SafetensorsReader::Open(
    const std::string& path) {
  NORMD_CLI_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source, ByteSource::Open(path));
  absl::StatusOr<SafetensorsHeader> header = ReadHeader(source.get());
  if (!header.ok()) return WithName(*source, header.status());
  return std::unique_ptr<SafetensorsReader>(
      new SafetensorsReader(std::move(source), *std::move(header)));
}

absl::StatusOr<std::string> SafetensorsReader::Read(const SafetensorsEntry& entry) {
  NORMD_CLI_RETURN_IF_ERROR(source_->Skip(entry.begin - position_));
  std::string bytes(static_cast<size_t>(entry.end - entry.begin), '\0');
  NORMD_CLI_ASSIGN_OR_RETURN(const size_t count, source_->Read(bytes.data(), bytes.size()));
  position_ = entry.end;
  if (count == bytes.size()) return bytes;
  return WithName(*source_, absl::InvalidArgumentError("the file has become shorter"));
}

absl::Status WriteSafetensors(const std::string& path, std::vector<SafetensorsTensor> tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    const int64_t a_bytes = -DtypeBytes(a.dtype);
    const int64_t b_bytes = -DtypeBytes(b.dtype);
    return std::tie(a_bytes, a.name) < std::tie(b_bytes, b.name);
  });
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header[std::string(kMetadataKey)] = metadata;
  size_t position = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    const size_t end = position + tensor.bytes.size();
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {position, end}}};
    position = end;
  }
  std::string json = header.dump();
  json.append((kHeaderAlignment - json.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
  if (static_cast<int64_t>(json.size()) > kSafetensorsHeaderBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", path, "': the header would have ", json.size(), " bytes, at most ",
                     kSafetensorsHeaderBytesMax, " are allowed; export fewer states"));
  }
  std::string length;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    length.push_back(static_cast<char>((json.size() >> (8 * i)) & 0xff));
  }
  NORMD_CLI_ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> file, OutputFile::Open(path));
  NORMD_CLI_RETURN_IF_ERROR(file->Write(absl::StrCat(length, json)));
  for (const SafetensorsTensor& tensor : tensors) {
    NORMD_CLI_RETURN_IF_ERROR(file->Write(tensor.bytes));
  }
  return file->Finish();
}

}  // namespace normd::cli
