#include "core/tensor/tensor_view.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"

namespace normd {

absl::StatusOr<TensorView> TensorView::Create(DataType dtype, Layout layout,
                                              absl::Span<const int64_t> shape,
                                              const TensorBytes& bytes) {
  NORMD_ASSIGN_OR_RETURN(const int64_t expected, ShapeBytes(dtype, shape));
  if (expected != static_cast<int64_t>(bytes.size())) {
    return MakeError(
        Reason::kDataLengthMismatch,
        absl::StrCat("tensor of shape ", ShapeToString(shape), " and dtype ", DataTypeName(dtype),
                     " takes ", expected, " bytes of data, ", bytes.size(), " came"),
        {{"field", "data"},
         {"expected_bytes", absl::StrCat(expected)},
         {"actual_bytes", absl::StrCat(bytes.size())}});
  }
  return TensorView(dtype, layout, shape, bytes);
}

std::string ShapeToString(absl::Span<const int64_t> shape) {
  constexpr size_t kShownMax = 8;
  if (shape.size() <= kShownMax) return absl::StrCat("[", absl::StrJoin(shape, ","), "]");
  return absl::StrCat("[", absl::StrJoin(shape.first(kShownMax), ","), ",... ", shape.size(),
                      " axes]");
}

absl::StatusOr<int64_t> ShapeBytes(DataType dtype, absl::Span<const int64_t> shape) {
  bool empty = false;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] < 0) {
      return MakeError(Reason::kDimensionNegative,
                       absl::StrCat("axis ", axis, " of shape ", ShapeToString(shape), " is ",
                                    shape[axis], ", expected >= 0"),
                       {{"field", "shape"}, {"axis", absl::StrCat(axis)}});
    }
    empty = empty || shape[axis] == 0;
  }
  if (empty) return 0;
  int64_t bytes = ElementBytes(dtype);
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) {
      return MakeError(Reason::kShapeOverflow,
                       absl::StrCat("tensor of shape ", ShapeToString(shape), " and dtype ",
                                    DataTypeName(dtype), " has 2^63 bytes or more, expected less"),
                       {{"field", "shape"}});
    }
  }
  return bytes;
}

}  // namespace normd
