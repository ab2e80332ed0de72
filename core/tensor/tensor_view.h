#ifndef NORMD_CORE_TENSOR_TENSOR_VIEW_H_
#define NORMD_CORE_TENSOR_TENSOR_VIEW_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/data_type.h"
#include "core/tensor/tensor_bytes.h"

namespace normd {

// A dense row-major array that somebody else owns. Bytes and shape agree. A value: cheap to copy;
// valid as long as the bytes and the shape it was made of.
class TensorView {
 public:
  // Checks that `bytes` hold exactly product(shape) elements of `dtype`. Errors:
  // DIMENSION_NEGATIVE, SHAPE_OVERFLOW, DATA_LENGTH_MISMATCH.
  static absl::StatusOr<TensorView> Create(DataType dtype, Layout layout,
                                           absl::Span<const int64_t> shape,
                                           const TensorBytes& bytes);
  static absl::StatusOr<TensorView> Create(DataType dtype, Layout layout,
                                           absl::Span<const int64_t> shape, absl::string_view run) {
    return Create(dtype, layout, shape, TensorBytes(run));
  }

  DataType dtype() const { return dtype_; }
  Layout layout() const { return layout_; }
  absl::Span<const int64_t> shape() const { return shape_; }
  const TensorBytes& bytes() const { return bytes_; }
  int64_t rank() const { return static_cast<int64_t>(shape_.size()); }
  int64_t num_elements() const {
    return static_cast<int64_t>(bytes_.size()) / ElementBytes(dtype_);
  }

 private:
  TensorView(DataType dtype, Layout layout, absl::Span<const int64_t> shape,
             const TensorBytes& bytes)
      : dtype_(dtype), layout_(layout), shape_(shape), bytes_(bytes) {}

  DataType dtype_;
  Layout layout_;
  absl::Span<const int64_t> shape_;
  TensorBytes bytes_;
};

// "[8,32,7]", as in messages; long shapes are cut.
std::string ShapeToString(absl::Span<const int64_t> shape);

// Bytes of a dense tensor. Errors: DIMENSION_NEGATIVE, SHAPE_OVERFLOW (not below 2^63 bytes).
absl::StatusOr<int64_t> ShapeBytes(DataType dtype, absl::Span<const int64_t> shape);

}  // namespace normd

#endif  // NORMD_CORE_TENSOR_TENSOR_VIEW_H_
