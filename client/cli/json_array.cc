#include "client/cli/json_array.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace normd::cli {
namespace {

constexpr size_t kJsonRankMax = 32;
constexpr int64_t kUnknown = -1;

constexpr char kNan[] = "NaN";
constexpr char kInfinity[] = "Infinity";
constexpr char kMinusInfinity[] = "-Infinity";

// Takes the parser's events and builds the array value by value; stops at the first fault.
class ArrayBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool start_array(size_t) override {
    if (rank_ != kUnknown && static_cast<int64_t>(depth()) == rank_) {
      return Fail(absl::StrCat("an array stands where a number was expected", Place()));
    }
    if (depth() == kJsonRankMax) {
      return Fail(absl::StrCat("arrays are nested more than ", kJsonRankMax, " deep"));
    }
    if (depth() > 0) ++counts_.back();
    counts_.push_back(0);
    if (depth() > array_.shape.size()) array_.shape.push_back(kUnknown);
    return true;
  }

  bool end_array() override {
    const int64_t count = counts_.back();
    int64_t& expected = array_.shape[depth() - 1];
    if (count == 0 && rank_ == kUnknown) rank_ = static_cast<int64_t>(depth());
    if (expected == kUnknown) expected = count;
    if (count != expected) {
      return Fail(absl::StrCat("the arrays are not rectangular: expected ", expected,
                               " elements, got ", count, Place(depth() - 1)));
    }
    counts_.pop_back();
    return true;
  }

  bool number_integer(int64_t value) override { return Append(static_cast<double>(value)); }
  bool number_unsigned(uint64_t value) override { return Append(static_cast<double>(value)); }
  bool number_float(double value, const std::string&) override { return Append(value); }

  bool string(std::string& value) override {
    if (value == kNan) return Append(std::numeric_limits<double>::quiet_NaN());
    if (value == kInfinity) return Append(std::numeric_limits<double>::infinity());
    if (value == kMinusInfinity) return Append(-std::numeric_limits<double>::infinity());
    return NotANumber("a string");
  }
  bool null() override { return NotANumber("null"); }
  bool boolean(bool) override { return NotANumber("a boolean"); }
  bool binary(nlohmann::json::binary_t&) override { return NotANumber("binary data"); }
  bool start_object(size_t) override { return NotANumber("an object"); }
  bool key(std::string&) override { return NotANumber("an object"); }
  bool end_object() override { return NotANumber("an object"); }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    return Fail(absl::StrCat("the text is not JSON: fault at byte ", position));
  }

  absl::StatusOr<JsonArray> Finish() && {
    if (!error_.empty()) return absl::InvalidArgumentError(error_);
    return std::move(array_);
  }

 private:
  size_t depth() const { return counts_.size(); }

  bool Append(double value) {
    if (depth() == 0) return Fail("expected an array of numbers, got one number");
    if (rank_ == kUnknown) rank_ = static_cast<int64_t>(depth());
    if (static_cast<int64_t>(depth()) != rank_) {
      return Fail(absl::StrCat("a number stands where an array was expected", Place()));
    }
    ++counts_.back();
    array_.values.push_back(value);
    return true;
  }

  bool NotANumber(absl::string_view what) {
    return Fail(absl::StrCat("expected an array of numbers, got ", what, Place()));
  }

  // " at [2][0]": the indices of the element at hand.
  std::string Place() const { return Place(depth()); }

  // Those of the first `levels` axes alone.
  std::string Place(size_t levels) const {
    if (levels == 0) return "";
    std::string place = " at ";
    for (size_t i = 0; i < levels; ++i) {
      const bool counted = i + 1 < depth();
      absl::StrAppend(&place, "[", counts_[i] - (counted ? 1 : 0), "]");
    }
    return place;
  }

  bool Fail(std::string message) {
    if (error_.empty()) error_ = std::move(message);
    return false;
  }

  JsonArray array_;
  std::vector<int64_t> counts_;  // elements seen so far, one for each open array
  int64_t rank_ = kUnknown;
  std::string error_;
};

// `is_double`: the shortest number that reads back to the same double, or else to the same float.
void AppendValue(double value, bool is_double, std::string* text) {
  if (std::isnan(value)) {
    absl::StrAppend(text, "\"", kNan, "\"");
  } else if (std::isinf(value)) {
    absl::StrAppend(text, "\"", value > 0 ? kInfinity : kMinusInfinity, "\"");
  } else {
    std::array<char, 32> digits;
    char* const end = digits.data() + digits.size();
    text->append(digits.data(),
                 is_double ? std::to_chars(digits.data(), end, value).ptr
                           : std::to_chars(digits.data(), end, static_cast<float>(value)).ptr);
  }
}

// Appends the array that begins at `*value`, of axis `axis` and those within it.
void AppendAxis(const JsonArray& array, bool is_double, size_t axis, size_t* value,
                std::string* text) {
  if (axis == array.shape.size()) {
    AppendValue(array.values[(*value)++], is_double, text);
    return;
  }
  text->push_back('[');
  for (int64_t i = 0; i < array.shape[axis]; ++i) {
    if (i > 0) text->push_back(',');
    AppendAxis(array, is_double, axis + 1, value, text);
  }
  text->push_back(']');
}

}  // namespace

absl::StatusOr<JsonArray> ParseJsonArray(absl::string_view text) {
  ArrayBuilder builder;
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder).Finish();
}

std::string FormatJsonArray(const Array& array) {
  if (array.bytes.empty()) return "[]";
  std::string text;
  size_t value = 0;
  AppendAxis({array.shape, ToDoubles(array)}, array.dtype == client::DataType::kFloat64, 0, &value,
             &text);
  return text;
}

nlohmann::ordered_json JsonNumber(double value) {
  if (std::isnan(value)) return kNan;
  if (std::isinf(value)) return value > 0 ? kInfinity : kMinusInfinity;
  return value;
}

}  // namespace normd::cli
