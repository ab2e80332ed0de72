#include "core/tensor/tensor_bytes.h"

namespace normd {

TensorBytes::TensorBytes(absl::Span<const absl::string_view> pieces) {
  while (!pieces.empty() && pieces.front().empty()) pieces.remove_prefix(1);
  while (!pieces.empty() && pieces.back().empty()) pieces.remove_suffix(1);
  for (const absl::string_view piece : pieces) size_ += piece.size();
  if (pieces.size() == 1) {
    run_ = pieces.front();
  } else {
    pieces_ = pieces;
  }
}

}  // namespace normd
