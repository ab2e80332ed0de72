#ifndef NORMD_CORE_NORM_VALUE_READER_H_
#define NORMD_CORE_NORM_VALUE_READER_H_

#include <algorithm>
#include <cstddef>
#include <memory>

#include "absl/container/inlined_vector.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/kernels/values.h"
#include "core/tensor/tensor_bytes.h"

// Reads the values of a tensor that may lie in pieces: where they lie, or through a block of memory
// that is used again and stays in the cache. For the walks of forward and backward alone.
namespace normd {

// A tensor's bytes and where each of its pieces ends. Borrows the bytes.
class PieceIndex {
 public:
  explicit PieceIndex(const TensorBytes& bytes);

  // The tensor, when it is one run; else null.
  const char* run() const { return run_; }
  absl::Span<const absl::string_view> pieces() const { return pieces_; }
  size_t begin(size_t piece) const { return piece == 0 ? 0 : ends_[piece - 1]; }
  size_t end(size_t piece) const { return ends_[piece]; }
  // The piece that byte `at` lies in. `guess`: a piece that it may be in or behind.
  size_t Find(size_t at, size_t guess) const;

 private:
  const char* run_;
  absl::Span<const absl::string_view> pieces_;
  absl::InlinedVector<size_t, 1> ends_;
};

// Reads the bytes of an index.
class ByteReader {
 public:
  explicit ByteReader(const PieceIndex& index) : index_(index) {}

  // How many bytes from byte `at` on lie in one run.
  size_t InPlace(size_t at);
  // `count` bytes from `at` on. Valid until the next call.
  const char* Read(size_t at, size_t count);
  // `rows` rows of `columns` bytes, `stride` bytes apart, one after the other in the block. Valid
  // until the next call.
  const char* ReadRows(size_t at, size_t rows, size_t stride, size_t columns);

 private:
  struct alignas(64) Line {
    char bytes[64];
  };

  // Where byte `at` lies.
  const char* Seek(size_t at);
  // Copies `count` bytes from `at` on.
  void Copy(size_t at, size_t count, char* to);
  // The block, of at least `bytes` bytes.
  char* Block(size_t bytes);

  const PieceIndex& index_;
  size_t piece_ = 0;  // where the last read began or ended
  std::unique_ptr<Line[]> block_;
  size_t block_bytes_ = 0;
};

// The values of a tensor from value `origin` on, for one thread.
template <typename T>
class ValueReader final : public TileReader<T> {
 public:
  explicit ValueReader(const PieceIndex& index, size_t origin = 0)
      : run_(index.run() == nullptr ? nullptr : reinterpret_cast<const T*>(index.run()) + origin),
        origin_(origin),
        bytes_(index) {}

  // As the kernels take them.
  Values<T> values() { return run_ == nullptr ? Values<T>(this) : Values<T>(run_); }

  // How many values from `first` on lie in one run, up to the end of the tensor.
  size_t InPlace(size_t first) { return bytes_.InPlace(ByteOf(first)) / sizeof(T); }

  // The values [first, first + count). Valid until the next call.
  const T* Read(size_t first, size_t count) {
    if (run_ != nullptr) return run_ + first;
    return reinterpret_cast<const T*>(bytes_.Read(ByteOf(first), count * sizeof(T)));
  }

  size_t RowsInPlace(size_t first, size_t columns) override { return InPlace(first) / columns; }

  const T* Read(size_t first, size_t rows, size_t stride, size_t columns) override {
    if (rows == 1 || stride == columns) return Read(first, rows * columns);
    return reinterpret_cast<const T*>(
        bytes_.ReadRows(ByteOf(first), rows, stride * sizeof(T), columns * sizeof(T)));
  }

 private:
  size_t ByteOf(size_t value) const { return (origin_ + value) * sizeof(T); }

  const T* run_;
  size_t origin_;
  ByteReader bytes_;
};

}  // namespace normd

#endif  // NORMD_CORE_NORM_VALUE_READER_H_
