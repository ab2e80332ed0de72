#ifndef NORMD_CORE_KERNELS_NORMALIZE_H_
#define NORMD_CORE_KERNELS_NORMALIZE_H_

#include <cstddef>

#include "core/kernels/batch_extents.h"
#include "core/tensor/data_type.h"

namespace normd {

// y = (x - center[c]) * scale[c] + offset[c] for every value of channel c, in ComputeType<T>
// (float32, or float64 for T = double), rounded to nearest even where T has 16 bits; the product
// and sum are fused where the CPU can. Subtracts first: x * scale - center * scale cancels when
// |mean| >> sqrt(var). With mean in float64 the caller passes center = float(mean) and puts the
// rest of the mean into offset. Not finite values go through the arithmetic as they are.
// Outputs of 16 MB and more bypass the cache unless y is x or is written in short pieces.
// T: float, double, Float16, Bfloat16.
// REQUIRES: x and y hold samples * channels * spatial elements, y aligned to their size, and are
// the same or do not overlap; center, scale and offset hold `channels` values and do not overlap y.
// Thread-safe. Uses up to 32 KB of stack.
template <typename T>
void Normalize(const T* x, const BatchExtents& extents, const ComputeType<T>* center,
               const ComputeType<T>* scale, const ComputeType<T>* offset, T* y);

// The same for the channels of `range` alone; touches no other value of y.
// REQUIRES: range.first + range.count <= extents.channels.
template <typename T>
void Normalize(const T* x, const BatchExtents& extents, ChannelRange range,
               const ComputeType<T>* center, const ComputeType<T>* scale,
               const ComputeType<T>* offset, T* y);

// The coefficients of NormalizeRows. A row is normalized by (x - center) * scale + offset, one of
// each a row; the result is then weighted: times weight, plus bias, one of each a column.
template <typename T>
struct RowCoefficients {
  const ComputeType<T>* center = nullptr;  // [rows]
  const ComputeType<T>* scale = nullptr;   // [rows]
  const ComputeType<T>* offset = nullptr;  // [rows]
  const ComputeType<T>* weight = nullptr;  // [columns]; null: 1
  const ComputeType<T>* bias = nullptr;    // [columns]; null: 0
};

// y = ((x - center[r]) * scale[r] + offset[r]) * weight[i] + bias[i] for the value of row r and
// column i, in row-major order: layer norm and its like. Arithmetic, T and stores past the cache as
// above.
// REQUIRES: x and y hold rows * columns elements, y aligned to their size, and are the same or do
// not overlap; no coefficient overlaps y. Thread-safe.
template <typename T>
void NormalizeRows(const T* x, size_t rows, size_t columns, const RowCoefficients<T>& coefficients,
                   T* y);

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_NORMALIZE_H_
