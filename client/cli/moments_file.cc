#include "client/cli/moments_file.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/array.h"
#include "client/cli/status_macros.h"

namespace normd::cli {
namespace {

constexpr int64_t kRows = 3;          // count, mean, m2
constexpr double kCountMax = 0x1p53;  // to here float64 holds every one

}  // namespace

absl::Status WriteMoments(const SavedMoments& moments, ArrayWriter* writer) {
  std::vector<double> values;
  int64_t sets = 0;
  if (moments.has_value()) {
    sets = static_cast<int64_t>(moments->mean.size());
    values.assign(moments->mean.size(), static_cast<double>(moments->count));
    values.insert(values.end(), moments->mean.begin(), moments->mean.end());
    values.insert(values.end(), moments->m2.begin(), moments->m2.end());
  }
  const Array array = MakeArray({kRows, sets}, values);
  NORMD_CLI_RETURN_IF_ERROR(writer->BeginArray(array.shape, array.dtype));
  return writer->Write(array.bytes);
}

absl::StatusOr<std::optional<SavedMoments>> ReadMoments(ArrayReader* reader) {
  NORMD_CLI_ASSIGN_OR_RETURN(const std::optional<std::vector<int64_t>> shape, reader->NextArray());
  if (!shape.has_value()) return std::nullopt;
  const auto refused = [reader](const std::string& what) {
    return absl::InvalidArgumentError(
        absl::StrCat(reader->name(), ": expected moments, an array of shape (3, M) with a count, ",
                     "the means and the m2 of M sets, got ", what));
  };
  if (shape->size() != 2 || shape->front() != kRows) {
    return refused(absl::StrCat("shape ", ShapeToText(*shape)));
  }
  NORMD_CLI_ASSIGN_OR_RETURN(const Array array, reader->ReadRows(kRows));
  const std::vector<double> values = ToDoubles(array);
  if (values.empty()) return SavedMoments();
  const auto mean = values.begin() + shape->back();
  const double count = values.front();
  const auto other = std::find_if(values.begin(), mean, [count](double at) { return at != count; });
  if (other != mean) return refused(absl::StrCat("the counts ", count, " and ", *other));
  if (!(count >= 0 && count <= kCountMax) || count != std::floor(count)) {
    return refused(absl::StrCat("the count ", count));
  }
  const auto m2 = mean + shape->back();
  return SavedMoments(client::Moments{static_cast<int64_t>(count), {mean, m2}, {m2, values.end()}});
}

}  // namespace normd::cli
