#ifndef NORMD_CLIENT_CPP_BATCH_H_
#define NORMD_CLIENT_CPP_BATCH_H_

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace normd::client {

// The type of one element.
enum class DataType {
  kFloat32,   // IEEE 754 binary32
  kFloat64,   // IEEE 754 binary64
  kFloat16,   // IEEE 754 binary16
  kBfloat16,  // the upper 16 bits of binary32
};

// Bytes of one element.
int64_t ElementBytes(DataType dtype);

// "float32", as numpy and PyTorch name it.
absl::string_view DataTypeName(DataType dtype);

// Where the channel axis stands.
enum class Layout {
  kChannelsFirst,  // axis 1: [N,C], [N,C,L], [N,C,H,W], [N,C,D,H,W]
  kChannelsLast,   // the last axis: [N,C], [N,L,C], [N,H,W,C], [N,D,H,W,C]
};

// A dense row-major tensor that borrows its bytes, or shares them with its copies. A value type: a
// copy of a borrowing batch borrows the same bytes, and nothing ever changes them. Shape and bytes
// are not compared here: the server refuses what does not agree (DATA_LENGTH_MISMATCH).
class Batch {
 public:
  // An empty float32 batch that owns nothing.
  Batch() = default;

  // Borrows values, which must live as long as the batch and its copies: float32, float64, or any
  // dtype as `bytes` in the host's order, aligned to the size of an element.
  static Batch Borrow(std::vector<int64_t> shape, absl::Span<const float> values,
                      Layout layout = Layout::kChannelsFirst);
  static Batch Borrow(std::vector<int64_t> shape, absl::Span<const double> values,
                      Layout layout = Layout::kChannelsFirst);
  static Batch Borrow(std::vector<int64_t> shape, DataType dtype, absl::string_view bytes,
                      Layout layout = Layout::kChannelsFirst);

  // Owns values.
  static Batch Own(std::vector<int64_t> shape, std::vector<float> values,
                   Layout layout = Layout::kChannelsFirst);
  // A template, so that values in braces are float32.
  template <std::same_as<double> Double>
  static Batch Own(const std::vector<int64_t>& shape, std::vector<Double> values,
                   Layout layout = Layout::kChannelsFirst) {
    return OwnDoubles(shape, std::move(values), layout);
  }
  static Batch Own(std::vector<int64_t> shape, DataType dtype, std::string bytes,
                   Layout layout = Layout::kChannelsFirst);

  absl::Span<const int64_t> shape() const { return shape_; }
  DataType dtype() const { return dtype_; }
  Layout layout() const { return layout_; }
  // Row-major, in the host's order. Valid as long as what was borrowed, or as this batch or a copy.
  absl::string_view bytes() const { return bytes_; }
  int64_t num_elements() const {
    return static_cast<int64_t>(bytes_.size()) / ElementBytes(dtype_);
  }
  // What keeps bytes() alive; null when they are borrowed.
  const std::shared_ptr<const void>& owner() const { return owner_; }
  // As bytes(). REQUIRES: dtype() is kFloat32.
  absl::Span<const float> values() const;
  // As bytes(). REQUIRES: dtype() is kFloat64.
  absl::Span<const double> doubles() const;

 private:
  Batch(std::vector<int64_t> shape, DataType dtype, Layout layout)
      : shape_(std::move(shape)), dtype_(dtype), layout_(layout) {}

  static Batch OwnDoubles(std::vector<int64_t> shape, std::vector<double> values, Layout layout);

  std::vector<int64_t> shape_;
  DataType dtype_ = DataType::kFloat32;
  Layout layout_ = Layout::kChannelsFirst;
  absl::string_view bytes_;
  std::shared_ptr<const void> owner_;  // of bytes_; null when they are borrowed
};

// The values of a batch of any dtype; each is exact.
std::vector<double> ToDoubles(const Batch& batch);

// `batch` with its values rounded once to nearest even in `dtype`; NaN and infinities stay what
// they are. Shares the bytes when the dtype is the same. Errors: kInvalidArgument for a finite
// value that is too large for `dtype`.
absl::StatusOr<Batch> Convert(const Batch& batch, DataType dtype);

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_BATCH_H_
