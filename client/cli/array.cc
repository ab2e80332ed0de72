#include "client/cli/array.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace normd::cli {

std::string ShapeToText(const std::vector<int64_t>& shape) {
  return absl::StrCat("(", absl::StrJoin(shape, ", "), shape.size() == 1 ? ",)" : ")");
}

}  // namespace normd::cli
