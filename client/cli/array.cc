#include "client/cli/array.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace normd::cli {
namespace {

Array FromBatch(const client::Batch& batch) {
  return {{batch.shape().begin(), batch.shape().end()}, batch.dtype(), std::string(batch.bytes())};
}

}  // namespace

Array MakeArray(std::vector<int64_t> shape, const std::vector<float>& values) {
  return FromBatch(client::Batch::Borrow(std::move(shape), values));
}

Array MakeArray(std::vector<int64_t> shape, const std::vector<double>& values) {
  return FromBatch(client::Batch::Borrow(std::move(shape), values));
}

client::Batch ToBatch(const Array& array, client::Layout layout) {
  return client::Batch::Borrow(array.shape, array.dtype, array.bytes, layout);
}

std::vector<double> ToDoubles(const Array& array) { return client::ToDoubles(ToBatch(array)); }

absl::StatusOr<Array> Convert(Array array, client::DataType dtype) {
  if (array.dtype == dtype) return array;
  const absl::StatusOr<client::Batch> converted = client::Convert(ToBatch(array), dtype);
  if (!converted.ok()) return converted.status();
  return FromBatch(*converted);
}

int64_t NumElements(const std::vector<int64_t>& shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  int64_t elements = 1;
  for (const int64_t axis : shape) elements *= axis;
  return elements;
}

std::string ShapeToText(const std::vector<int64_t>& shape) {
  return absl::StrCat("(", absl::StrJoin(shape, ", "), shape.size() == 1 ? ",)" : ")");
}

}  // namespace normd::cli
