#ifndef NORMD_CLIENT_CPP_BATCH_H_
#define NORMD_CLIENT_CPP_BATCH_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace normd::client {

// Where the channel axis stands.
enum class Layout {
  kChannelsFirst,  // axis 1: [N,C], [N,C,L], [N,C,H,W], [N,C,D,H,W]
  kChannelsLast,   // the last axis: [N,C], [N,L,C], [N,H,W,C], [N,D,H,W,C]
};

// A dense row-major tensor of float32 that borrows or owns its values. A value type: a copy of a
// borrowing batch borrows the same values. Shape and values are not compared here: the server
// refuses what does not agree (DATA_LENGTH_MISMATCH).
class Batch {
 public:
  // An empty batch that owns nothing.
  Batch() = default;

  // Borrows `values`, which must live as long as the batch and its copies.
  static Batch Borrow(std::vector<int64_t> shape, absl::Span<const float> values,
                      Layout layout = Layout::kChannelsFirst) {
    Batch batch(std::move(shape), layout);
    batch.borrowed_ = values;
    return batch;
  }

  // Owns `values`.
  static Batch Own(std::vector<int64_t> shape, std::vector<float> values,
                   Layout layout = Layout::kChannelsFirst) {
    Batch batch(std::move(shape), layout);
    batch.owned_ = std::move(values);
    return batch;
  }

  absl::Span<const int64_t> shape() const { return shape_; }
  Layout layout() const { return layout_; }
  // Row-major. Valid as long as this batch is neither changed nor destroyed.
  absl::Span<const float> values() const {
    return borrowed_.empty() ? absl::Span<const float>(owned_) : borrowed_;
  }

 private:
  Batch(std::vector<int64_t> shape, Layout layout) : shape_(std::move(shape)), layout_(layout) {}

  std::vector<int64_t> shape_;
  Layout layout_ = Layout::kChannelsFirst;
  absl::Span<const float> borrowed_;
  std::vector<float> owned_;
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_BATCH_H_
