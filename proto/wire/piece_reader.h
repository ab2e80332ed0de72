#ifndef NORMD_PROTO_WIRE_PIECE_READER_H_
#define NORMD_PROTO_WIRE_PIECE_READER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace normd::wire {

// Reads bytes that lie in several places, which must outlive it. Thread-compatible.
class PieceReader {
 public:
  explicit PieceReader(absl::Span<const absl::string_view> pieces) : pieces_(pieces) {
    for (const absl::string_view piece : pieces) remaining_ += piece.size();
    Advance(0);
  }

  size_t remaining() const { return remaining_; }

  // REQUIRES: remaining() > 0.
  uint8_t ReadByte() {
    const auto byte = static_cast<uint8_t>(*at_);
    Advance(1);
    return byte;
  }

  // Gives the next `count` bytes, piece by piece. REQUIRES: remaining() >= count.
  template <typename Take>
  void Read(size_t count, Take take) {
    while (count > 0) {
      const size_t part = std::min(count, static_cast<size_t>(end_ - at_));
      take(absl::string_view(at_, part));
      count -= part;
      Advance(part);
    }
  }

 private:
  // REQUIRES: so many are left of the piece.
  void Advance(size_t count) {
    at_ += count;
    remaining_ -= count;
    while (at_ == end_ && !pieces_.empty()) {
      at_ = pieces_.front().data();
      end_ = at_ + pieces_.front().size();
      pieces_.remove_prefix(1);
    }
  }

  absl::Span<const absl::string_view> pieces_;  // behind the one that is read
  // Of the piece that is read: not empty while something remains.
  const char* at_ = nullptr;
  const char* end_ = nullptr;
  size_t remaining_ = 0;
};

}  // namespace normd::wire

#endif  // NORMD_PROTO_WIRE_PIECE_READER_H_
