#ifndef NORMD_CORE_TENSOR_TENSOR_BYTES_H_
#define NORMD_CORE_TENSOR_TENSOR_BYTES_H_

#include <cstddef>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace normd {

// The bytes of a tensor, which somebody else owns: in one run of memory, or in pieces that follow
// each other, cut and aligned in any way. A value: cheap to copy; valid as long as the bytes and
// the span it was made of.
class TensorBytes {
 public:
  // No bytes.
  TensorBytes() = default;
  explicit TensorBytes(absl::string_view run) : run_(run), size_(run.size()) {}
  explicit TensorBytes(absl::Span<const absl::string_view> pieces);

  size_t size() const { return size_; }
  // Where all of them lie, when that is one run; else null.
  const char* run() const { return pieces_.empty() ? run_.data() : nullptr; }
  // Some of the pieces may be empty. Valid as long as this object too.
  absl::Span<const absl::string_view> pieces() const {
    return pieces_.empty() ? absl::MakeConstSpan(&run_, 1) : pieces_;
  }

 private:
  absl::string_view run_;                       // when there are no pieces
  absl::Span<const absl::string_view> pieces_;  // when they are two or more
  size_t size_ = 0;
};

}  // namespace normd

#endif  // NORMD_CORE_TENSOR_TENSOR_BYTES_H_
