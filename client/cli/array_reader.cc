#include "client/cli/array_reader.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/cli/byte_source.h"
#include "client/cli/json_array.h"
#include "client/cli/npy_header.h"
#include "client/cli/status_macros.h"

namespace normd::cli {
namespace {

static_assert(std::endian::native == std::endian::little, ".npy data is read in place");

// Values are taken from a pipe in such steps, so that a header cannot make us allocate more.
constexpr int64_t kStepBytes = int64_t{1} << 22;
constexpr size_t kJsonStepBytes = size_t{1} << 20;
constexpr size_t kJsonBytesMax = size_t{1} << 30;

absl::Status WithName(const std::string& name, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(name, ": ", status.message()));
}

absl::Status Invalid(const ByteSource& source, absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat(source.name(), ": ", message));
}

// Elements of one row; 0 when the array has none.
int64_t RowElements(const std::vector<int64_t>& shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  int64_t elements = 1;
  for (size_t axis = 1; axis < shape.size(); ++axis) elements *= shape[axis];
  return elements;
}

class NpyReader final : public ArrayReader {
 public:
  // REQUIRES: the magic of the first array has been read from `source`.
  explicit NpyReader(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}

  absl::StatusOr<std::optional<std::vector<int64_t>>> NextArray() override {
    if (!std::exchange(magic_taken_, false)) {
      std::string magic(kNpyMagic.size(), '\0');
      NORMD_CLI_ASSIGN_OR_RETURN(const size_t count, source_->Read(magic.data(), magic.size()));
      if (count == 0) return std::nullopt;
      if (count < magic.size() || magic != kNpyMagic) {
        return Invalid(*source_,
                       "expected the end or another .npy array after the array, got other bytes");
      }
    }
    NORMD_CLI_ASSIGN_OR_RETURN(header_, ReadHeader());
    if (header_.shape.empty()) {
      return Invalid(*source_, "the array has shape (), expected one axis or more");
    }
    data_bytes_read_ = 0;
    if (source_->bytes_total().has_value()) {
      const int64_t bytes_left = *source_->bytes_total() - source_->bytes_read();
      if (bytes_left < DataBytes(header_)) {
        data_bytes_read_ = bytes_left;
        return Truncated();
      }
    }
    row_elements_ = RowElements(header_.shape);
    rows_left_ = header_.shape[0];
    return header_.shape;
  }

  absl::StatusOr<Array> ReadRows(int64_t rows) override {
    Array array{header_.shape, header_.dtype, {}};
    array.shape[0] = rows;
    const int64_t bytes = rows * row_elements_ * client::ElementBytes(header_.dtype);
    const int64_t step = source_->bytes_total().has_value() ? bytes : kStepBytes;
    for (int64_t done = 0; done < bytes; done += step) {
      const int64_t wanted = std::min(bytes - done, step);
      array.bytes.resize(static_cast<size_t>(done + wanted));
      NORMD_CLI_RETURN_IF_ERROR(ReadData(array.bytes.data() + done, static_cast<size_t>(wanted)));
    }
    rows_left_ -= rows;
    return array;
  }

  absl::Status Rewind() override {
    rows_left_ = 0;
    return source_->Rewind();
  }

  int64_t rows_left() const override { return rows_left_; }
  bool is_text() const override { return false; }
  const std::string& name() const override { return source_->name(); }
  int64_t bytes_read() const override { return source_->bytes_read(); }
  std::optional<int64_t> bytes_total() const override { return source_->bytes_total(); }

 private:
  // Reads what follows the magic, up to the data.
  absl::StatusOr<NpyHeader> ReadHeader() {
    unsigned char version[2];
    NORMD_CLI_RETURN_IF_ERROR(ReadAll(version, sizeof(version)));
    if (version[0] < 1 || version[0] > 3 || version[1] != 0) {
      return Invalid(*source_, absl::StrCat("the .npy format has version ", version[0], ".",
                                            version[1], ", expected 1.0, 2.0 or 3.0"));
    }
    unsigned char length_bytes[4] = {};
    NORMD_CLI_RETURN_IF_ERROR(ReadAll(length_bytes, version[0] == 1 ? 2 : 4));
    size_t length = 0;
    for (size_t i = 0; i < sizeof(length_bytes); ++i) {
      length |= static_cast<size_t>(length_bytes[i]) << (8 * i);
    }
    if (length > kNpyDictionaryBytesMax) {
      return Invalid(*source_, absl::StrCat("the .npy header has ", length, " bytes, expected at ",
                                            "most ", kNpyDictionaryBytesMax));
    }
    std::string dictionary(length, '\0');
    NORMD_CLI_RETURN_IF_ERROR(ReadAll(dictionary.data(), length));
    absl::StatusOr<NpyHeader> header = ParseNpyDictionary(dictionary);
    if (!header.ok()) return WithName(source_->name(), header.status());
    return header;
  }

  absl::Status ReadAll(void* destination, size_t size) {
    NORMD_CLI_ASSIGN_OR_RETURN(const size_t count, source_->Read(destination, size));
    if (count == size) return absl::OkStatus();
    return Invalid(*source_, "the .npy header is truncated");
  }

  absl::Status Truncated() const {
    return Invalid(
        *source_, absl::StrCat("the input is truncated: shape ", ShapeToText(header_.shape), " of ",
                               client::DataTypeName(header_.dtype), " needs ", DataBytes(header_),
                               " bytes, got ", data_bytes_read_));
  }

  absl::Status ReadData(void* destination, size_t bytes) {
    NORMD_CLI_ASSIGN_OR_RETURN(const size_t count, source_->Read(destination, bytes));
    data_bytes_read_ += static_cast<int64_t>(count);
    return count == bytes ? absl::OkStatus() : Truncated();
  }

  const std::unique_ptr<ByteSource> source_;
  bool magic_taken_ = true;
  // Of the current array.
  NpyHeader header_;
  int64_t row_elements_ = 0;
  int64_t rows_left_ = 0;
  int64_t data_bytes_read_ = 0;
};

class JsonReader final : public ArrayReader {
 public:
  // Reads the rest of `source`, of which `head` has been read.
  static absl::StatusOr<std::unique_ptr<ArrayReader>> Create(std::unique_ptr<ByteSource> source,
                                                             std::string head) {
    std::string text = std::move(head);
    for (size_t count = kJsonStepBytes; count == kJsonStepBytes;) {
      if (text.size() > kJsonBytesMax) {
        return Invalid(*source, absl::StrCat("the JSON text has more than ", kJsonBytesMax,
                                             " bytes; save it as .npy"));
      }
      const size_t size = text.size();
      text.resize(size + kJsonStepBytes);
      NORMD_CLI_ASSIGN_OR_RETURN(count, source->Read(text.data() + size, kJsonStepBytes));
      text.resize(size + count);
    }
    absl::StatusOr<JsonArray> array = ParseJsonArray(text);
    if (!array.ok()) return WithName(source->name(), array.status());
    return std::unique_ptr<ArrayReader>(new JsonReader(std::move(source), *std::move(array)));
  }

  absl::StatusOr<std::optional<std::vector<int64_t>>> NextArray() override {
    if (std::exchange(array_taken_, true)) return std::nullopt;
    rows_left_ = array_.shape[0];
    return array_.shape;
  }

  absl::StatusOr<Array> ReadRows(int64_t rows) override {
    const int64_t row_elements = RowElements(array_.shape);
    const int64_t first = (array_.shape[0] - rows_left_) * row_elements;
    rows_left_ -= rows;
    const auto values = array_.values.begin() + first;
    Array array =
        MakeArray(array_.shape, std::vector<double>(values, values + rows * row_elements));
    array.shape[0] = rows;
    return array;
  }

  absl::Status Rewind() override {
    array_taken_ = false;
    return absl::OkStatus();
  }

  int64_t rows_left() const override { return rows_left_; }
  bool is_text() const override { return true; }
  const std::string& name() const override { return source_->name(); }
  int64_t bytes_read() const override { return source_->bytes_read(); }
  std::optional<int64_t> bytes_total() const override { return source_->bytes_total(); }

 private:
  JsonReader(std::unique_ptr<ByteSource> source, JsonArray array)
      : source_(std::move(source)), array_(std::move(array)) {}

  const std::unique_ptr<ByteSource> source_;
  const JsonArray array_;
  bool array_taken_ = false;
  int64_t rows_left_ = 0;
};

// The one array of `path`, whole.
absl::StatusOr<Array> ReadOneArray(const std::string& path) {
  NORMD_CLI_ASSIGN_OR_RETURN(const std::unique_ptr<ArrayReader> reader, ArrayReader::Open(path));
  NORMD_CLI_ASSIGN_OR_RETURN(std::optional<std::vector<int64_t>> shape, reader->NextArray());
  if (!shape.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(reader->name(), ": expected an array"));
  }
  NORMD_CLI_ASSIGN_OR_RETURN(Array array, reader->ReadRows(reader->rows_left()));
  NORMD_CLI_ASSIGN_OR_RETURN(shape, reader->NextArray());
  if (!shape.has_value()) return array;
  return absl::InvalidArgumentError(absl::StrCat(reader->name(), ": expected one array, got more"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ArrayReader>> ArrayReader::Open(const std::string& path) {
  NORMD_CLI_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source, ByteSource::Open(path));
  std::string head(kNpyMagic.size(), '\0');
  NORMD_CLI_ASSIGN_OR_RETURN(const size_t count, source->Read(head.data(), head.size()));
  head.resize(count);
  if (head == kNpyMagic) return std::make_unique<NpyReader>(std::move(source));
  if (head.empty()) return Invalid(*source, "the input is empty, expected a .npy array");
  const absl::string_view text = absl::StripLeadingAsciiWhitespace(head);
  if (text.empty() || text[0] == '[') return JsonReader::Create(std::move(source), head);
  return Invalid(*source, absl::StrCat("expected a .npy array, or JSON that begins with '[', got '",
                                       absl::CHexEscape(head), "'"));
}

absl::StatusOr<std::vector<double>> ReadValuesFile(const std::string& path) {
  NORMD_CLI_ASSIGN_OR_RETURN(const Array array, ReadOneArray(path));
  return ToDoubles(array);
}

absl::StatusOr<std::vector<double>> ReadVectorFile(const std::string& path) {
  NORMD_CLI_ASSIGN_OR_RETURN(const Array array, ReadOneArray(path));
  if (array.shape.size() == 1) return ToDoubles(array);
  return absl::InvalidArgumentError(absl::StrCat("'", path, "': the array has shape ",
                                                 ShapeToText(array.shape), ", expected one axis"));
}

}  // namespace normd::cli
