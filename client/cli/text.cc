#include "client/cli/text.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace normd::cli {
namespace {

// PyTorch's print options.
constexpr int64_t kSummaryThreshold = 1000;
constexpr int64_t kEdgeItems = 3;
constexpr size_t kLineWidth = 80;

bool NeedsScientific(absl::Span<const double> values) {
  double smallest = std::numeric_limits<double>::infinity();
  double largest = 0;
  for (const double value : values) {
    if (!std::isfinite(value) || value == 0) continue;
    smallest = std::min(smallest, std::abs(value));
    largest = std::max(largest, std::abs(value));
  }
  if (largest == 0) return false;
  return largest / smallest > 1000 || largest > 1e8 || smallest < 1e-4;
}

std::string FormatNumber(double value, bool scientific) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return scientific ? absl::StrFormat("%.4e", value) : absl::StrFormat("%.4f", value);
}

// The indices of an axis that are shown; -1 stands for those left out.
std::vector<int64_t> ShownIndices(int64_t length, bool summarize) {
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < length; ++i) {
    if (summarize && length > 2 * kEdgeItems && i == kEdgeItems) {
      indices.push_back(-1);
      i = length - kEdgeItems;
    }
    indices.push_back(i);
  }
  return indices;
}

class ArrayFormatter {
 public:
  explicit ArrayFormatter(const Array& array)
      : shape_(array.shape),
        values_(ToDoubles(array)),
        summarize_(static_cast<int64_t>(values_.size()) > kSummaryThreshold) {}

  std::string Format() && {
    std::vector<double> shown;
    Visit(0, 0, [&](int64_t i) { shown.push_back(values_[static_cast<size_t>(i)]); });
    texts_ = FormatNumbers(shown);
    for (const std::string& text : texts_) width_ = std::max(width_, text.size());
    std::string result;
    AppendAxis(0, 0, &result);
    return absl::StrCat(result, "\n");
  }

 private:
  size_t rank() const { return shape_.size(); }

  // Offset of element `index` of axis `axis`, where the axis begins at `offset`.
  int64_t Offset(size_t axis, int64_t offset, int64_t index) const {
    int64_t stride = 1;
    for (size_t i = axis + 1; i < rank(); ++i) stride *= shape_[i];
    return offset + index * stride;
  }

  // Calls `function` with the offset of every value shown, in order.
  template <typename Function>
  void Visit(size_t axis, int64_t offset, const Function& function) const {
    if (axis == rank()) return function(offset);
    for (const int64_t i : ShownIndices(shape_[axis], summarize_)) {
      if (i >= 0) Visit(axis + 1, Offset(axis, offset, i), function);
    }
  }

  void AppendAxis(size_t axis, int64_t offset, std::string* result) {
    result->push_back('[');
    const bool innermost = axis + 1 == rank();
    const size_t per_line = std::max<size_t>(1, (kLineWidth - rank()) / (width_ + 2));
    size_t position = 0;
    for (const int64_t i : ShownIndices(shape_[axis], summarize_)) {
      if (position > 0) {
        absl::StrAppend(result, ",");
        if (innermost && position % per_line != 0) {
          absl::StrAppend(result, " ");
        } else {
          // An empty line between matrices, as PyTorch leaves.
          const size_t lines = innermost ? 1 : rank() - axis - 1;
          absl::StrAppend(result, std::string(lines, '\n'), std::string(axis + 1, ' '));
        }
      }
      ++position;
      if (i < 0) {
        absl::StrAppend(result, "...");
      } else if (innermost) {
        const std::string& text = texts_[next_text_++];
        absl::StrAppend(result, std::string(width_ - text.size(), ' '), text);
      } else {
        AppendAxis(axis + 1, Offset(axis, offset, i), result);
      }
    }
    result->push_back(']');
  }

  const std::vector<int64_t>& shape_;
  const std::vector<double> values_;
  const bool summarize_;
  std::vector<std::string> texts_;  // of the values shown
  size_t next_text_ = 0;
  size_t width_ = 0;
};

}  // namespace

std::vector<std::string> FormatNumbers(absl::Span<const double> values) {
  const bool scientific = NeedsScientific(values);
  std::vector<std::string> texts;
  texts.reserve(values.size());
  for (const double value : values) texts.push_back(FormatNumber(value, scientific));
  return texts;
}

std::string FormatArray(const Array& array) {
  if (array.bytes.empty()) return absl::StrCat("[], size=", ShapeToText(array.shape), "\n");
  return ArrayFormatter(array).Format();
}

void Table::AddColumn(std::string title, Align align) {
  aligns_.push_back(align);
  rows_[0].push_back(std::move(title));
}

void Table::AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

std::string Table::Format() const {
  std::vector<size_t> widths(aligns_.size(), 0);
  for (const std::vector<std::string>& row : rows_) {
    for (size_t column = 0; column < row.size(); ++column) {
      widths[column] = std::max(widths[column], row[column].size());
    }
  }
  std::string result;
  for (const std::vector<std::string>& row : rows_) {
    for (size_t column = 0; column < row.size(); ++column) {
      const std::string padding(widths[column] - row[column].size(), ' ');
      if (column > 0) absl::StrAppend(&result, "  ");
      if (aligns_[column] == Align::kRight) {
        absl::StrAppend(&result, padding, row[column]);
      } else {
        absl::StrAppend(&result, row[column], column + 1 < row.size() ? padding : "");
      }
    }
    absl::StrAppend(&result, "\n");
  }
  return result;
}

std::string FormatRate(double value) {
  constexpr const char* kPrefixes[] = {"", " k", " M", " G"};
  size_t prefix = 0;
  while (value >= 1000 && prefix + 1 < std::size(kPrefixes)) {
    value /= 1000;
    ++prefix;
  }
  return absl::StrFormat("%.*f%s", value < 10 ? 2 : (value < 100 ? 1 : 0), value,
                         kPrefixes[prefix]);
}

std::string FormatSeconds(double seconds) {
  const int64_t whole = static_cast<int64_t>(std::ceil(std::min(std::max(seconds, 0.0), 1e9)));
  if (whole < 3600) return absl::StrFormat("%d:%02d", whole / 60, whole % 60);
  return absl::StrFormat("%d:%02d:%02d", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace normd::cli
