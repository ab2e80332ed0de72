#ifndef NORMD_CORE_KERNELS_VALUES_H_
#define NORMD_CORE_KERNELS_VALUES_H_

#include <algorithm>
#include <cstddef>

namespace normd {

// Some rows of neighbouring values: row i begins at x + i * stride.
template <typename T>
struct Tile {
  const T* x = nullptr;
  size_t stride = 0;
};

// Gives a kernel the values of a batch that do not lie in one run of memory. Thread-compatible.
template <typename T>
class TileReader {
 public:
  virtual ~TileReader() = default;

  // How many rows of `columns` values that follow each other in the batch, the first of which
  // begins at value `first`, lie in one run of memory.
  virtual size_t RowsInPlace(size_t first, size_t columns) = 0;

  // `rows` rows of `columns` values, one after the other; in the batch the first begins at value
  // `first`, and each other one `stride` values behind the one before. Valid until the next call.
  virtual const T* Read(size_t first, size_t rows, size_t stride, size_t columns) = 0;
};

// The values of a batch as a kernel takes them: one run of memory, or what a reader gives. Results
// have the same bits either way.
template <typename T>
class Values {
 public:
  explicit Values(const T* run) : run_(run) {}
  explicit Values(TileReader<T>* reader) : reader_(reader) {}

  // How many of the `rows` rows that Read would give to take at a time: all that lie in a run; from
  // a reader as many as lie in place, or some that are brought together and fit in the first cache.
  // At least `rows_min` and a multiple of `unit`, or all.
  size_t RowsAtATime(size_t first, size_t rows, size_t stride, size_t columns, size_t rows_min,
                     size_t unit) const {
    if (reader_ == nullptr) return rows;
    const size_t least = (std::max<size_t>(rows_min, 1) + unit - 1) / unit * unit;
    if (stride == columns) {
      const size_t in_place = reader_->RowsInPlace(first, columns);
      if (in_place >= rows) return rows;
      if (in_place >= least) return in_place - in_place % unit;
      return std::min(rows, std::max(least, kNextBytes / sizeof(T) / columns / unit * unit));
    }
    // Each row that is taken alone may lie in place.
    if (unit == 1) return std::min(rows, least);
    return std::min(rows, std::max(least, kTileBytes / sizeof(T) / columns / unit * unit));
  }

  // As TileReader has it, but that rows of a run stay `stride` apart.
  Tile<T> Read(size_t first, size_t rows, size_t stride, size_t columns) const {
    if (reader_ == nullptr) return {run_ + first, stride};
    return {reader_->Read(first, rows, stride, columns), columns};
  }

 private:
  static constexpr size_t kTileBytes = size_t{16} << 10;
  // Brought together at the end of a piece, behind which more values may lie in place.
  static constexpr size_t kNextBytes = size_t{1} << 10;

  const T* run_ = nullptr;
  TileReader<T>* reader_ = nullptr;
};

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_VALUES_H_
