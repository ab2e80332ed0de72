#include "client/cli/npy_header.h"

#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/cli/array.h"
#include "client/cli/status_macros.h"

namespace normd::cli {
namespace {

constexpr size_t kHeaderAlignment = 64;
constexpr size_t kQuotedBytesMax = 60;

std::string Quoted(absl::string_view text) {
  const bool cut = text.size() > kQuotedBytesMax;
  return absl::StrCat("'", absl::CHexEscape(text.substr(0, kQuotedBytesMax)), cut ? "...'" : "'");
}

// A reader of the Python literals that numpy writes: strings, booleans and tuples of integers.
class LiteralReader {
 public:
  explicit LiteralReader(absl::string_view text) : rest_(text) {}

  // Takes `symbol` when it is next.
  bool Take(char symbol) {
    SkipSpace();
    if (rest_.empty() || rest_[0] != symbol) return false;
    rest_.remove_prefix(1);
    return true;
  }

  absl::Status Expect(char symbol) {
    if (Take(symbol)) return absl::OkStatus();
    return Unexpected(absl::StrCat("'", absl::string_view(&symbol, 1), "'"));
  }

  absl::StatusOr<std::string> String() {
    SkipSpace();
    if (rest_.empty() || (rest_[0] != '\'' && rest_[0] != '"')) return Unexpected("a string");
    const size_t end = rest_.find(rest_[0], 1);
    if (end == absl::string_view::npos) return Unexpected("a string that ends");
    std::string value(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return value;
  }

  absl::StatusOr<bool> Boolean() {
    SkipSpace();
    for (const bool value : {true, false}) {
      const absl::string_view word = value ? "True" : "False";
      if (rest_.substr(0, word.size()) == word) {
        rest_.remove_prefix(word.size());
        return value;
      }
    }
    return Unexpected("True or False");
  }

  absl::StatusOr<std::vector<int64_t>> Shape() {
    NORMD_CLI_RETURN_IF_ERROR(Expect('('));
    std::vector<int64_t> shape;
    while (!Take(')')) {
      if (!shape.empty()) {
        NORMD_CLI_RETURN_IF_ERROR(Expect(','));
        if (Take(')')) break;
      }
      if (shape.size() == kNpyRankMax) {
        return absl::InvalidArgumentError(
            absl::StrCat("the shape has more than ", kNpyRankMax, " axes"));
      }
      NORMD_CLI_ASSIGN_OR_RETURN(const int64_t axis, Axis());
      shape.push_back(axis);
    }
    return shape;
  }

  absl::Status ExpectEnd() {
    SkipSpace();
    return rest_.empty() ? absl::OkStatus() : Unexpected("nothing more");
  }

  absl::Status Unexpected(absl::string_view expected) const {
    return absl::InvalidArgumentError(
        absl::StrCat("the .npy header is malformed: expected ", expected, ", got ", Quoted(rest_)));
  }

 private:
  void SkipSpace() { rest_ = absl::StripLeadingAsciiWhitespace(rest_); }

  absl::StatusOr<int64_t> Axis() {
    SkipSpace();
    size_t length = 0;
    while (length < rest_.size() && absl::ascii_isdigit(rest_[length])) ++length;
    int64_t axis = 0;
    if (length == 0 || !absl::SimpleAtoi(rest_.substr(0, length), &axis)) {
      return Unexpected("the length of an axis, 0 to 2^63-1");
    }
    rest_.remove_prefix(length);
    return axis;
  }

  absl::string_view rest_;
};

absl::StatusOr<client::DataType> ParseType(absl::string_view descr) {
  if (descr == "<f2") return client::DataType::kFloat16;
  if (descr == "<f4") return client::DataType::kFloat32;
  if (descr == "<f8") return client::DataType::kFloat64;
  return absl::InvalidArgumentError(absl::StrCat(
      "the array has dtype ", Quoted(descr), ", expected '<f2', '<f4' or '<f8' (float16, float32, ",
      "float64), little-endian; save it with numpy.save(file, array.astype('<f4'))"));
}

absl::Status CheckSize(const NpyHeader& header) {
  int64_t rest = std::numeric_limits<int64_t>::max() / client::ElementBytes(header.dtype);
  for (const int64_t axis : header.shape) {
    if (axis == 0) return absl::OkStatus();
  }
  for (const int64_t axis : header.shape) {
    if (axis > rest) {
      return absl::InvalidArgumentError(
          absl::StrCat("the shape ", ShapeToText(header.shape), " has 2^63 bytes or more"));
    }
    rest /= axis;
  }
  return absl::OkStatus();
}

}  // namespace

int64_t DataBytes(const NpyHeader& header) {
  int64_t bytes = client::ElementBytes(header.dtype);
  for (const int64_t axis : header.shape) {
    if (axis == 0) return 0;
    bytes *= axis;
  }
  return bytes;
}

absl::StatusOr<NpyHeader> ParseNpyDictionary(absl::string_view text) {
  LiteralReader reader(text);
  std::optional<std::string> descr;
  std::optional<bool> fortran_order;
  std::optional<std::vector<int64_t>> shape;
  NORMD_CLI_RETURN_IF_ERROR(reader.Expect('{'));
  while (!reader.Take('}')) {
    if (descr.has_value() || fortran_order.has_value() || shape.has_value()) {
      NORMD_CLI_RETURN_IF_ERROR(reader.Expect(','));
      if (reader.Take('}')) break;
    }
    NORMD_CLI_ASSIGN_OR_RETURN(const std::string key, reader.String());
    NORMD_CLI_RETURN_IF_ERROR(reader.Expect(':'));
    if (key == "descr" && !descr.has_value()) {
      if (reader.Take('[')) {
        return absl::InvalidArgumentError(
            "the array is structured, expected float16, float32 or float64; save one field of it");
      }
      NORMD_CLI_ASSIGN_OR_RETURN(descr, reader.String());
    } else if (key == "fortran_order" && !fortran_order.has_value()) {
      NORMD_CLI_ASSIGN_OR_RETURN(fortran_order, reader.Boolean());
    } else if (key == "shape" && !shape.has_value()) {
      NORMD_CLI_ASSIGN_OR_RETURN(shape, reader.Shape());
    } else {
      return absl::InvalidArgumentError(absl::StrCat(
          "the .npy header is malformed: expected the keys descr, fortran_order and shape once ",
          "each, got ", Quoted(key)));
    }
  }
  NORMD_CLI_RETURN_IF_ERROR(reader.ExpectEnd());
  if (!descr.has_value() || !fortran_order.has_value() || !shape.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the .npy header is malformed: the key ",
        !descr.has_value() ? "descr" : (!fortran_order.has_value() ? "fortran_order" : "shape"),
        " is missing"));
  }
  NpyHeader header;
  NORMD_CLI_ASSIGN_OR_RETURN(header.dtype, ParseType(*descr));
  header.shape = *std::move(shape);
  if (*fortran_order && header.shape.size() > 1) {
    return absl::InvalidArgumentError(
        "the array is in Fortran order, expected C order; save it with "
        "numpy.save(file, numpy.ascontiguousarray(array))");
  }
  NORMD_CLI_RETURN_IF_ERROR(CheckSize(header));
  return header;
}

std::string FormatNpyHeader(const std::vector<int64_t>& shape, client::DataType dtype) {
  constexpr size_t kLengthBytes = 2;
  constexpr absl::string_view kVersion("\x01\x00", 2);
  std::string dictionary =
      absl::StrCat("{'descr': '<f", client::ElementBytes(dtype),
                   "', 'fortran_order': False, 'shape': ", ShapeToText(shape), ", }");
  const size_t unpadded = kNpyMagic.size() + kVersion.size() + kLengthBytes + dictionary.size() + 1;
  dictionary.append((kHeaderAlignment - unpadded % kHeaderAlignment) % kHeaderAlignment, ' ');
  dictionary.push_back('\n');
  const char length[kLengthBytes] = {static_cast<char>(dictionary.size() & 0xff),
                                     static_cast<char>(dictionary.size() >> 8)};
  return absl::StrCat(kNpyMagic, kVersion, absl::string_view(length, kLengthBytes), dictionary);
}

}  // namespace normd::cli
