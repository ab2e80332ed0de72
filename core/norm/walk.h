#ifndef NORMD_CORE_NORM_WALK_H_
#define NORMD_CORE_NORM_WALK_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "core/base/parallel.h"
#include "core/kernels/batch_extents.h"
#include "core/norm/normalization.h"
#include "core/tensor/data_type.h"
#include "core/tensor/half.h"

// What forward and backward share: how a batch is cut for threads and caches. For forward.cc and
// backward.cc alone.
namespace normd {

// Below this many values a piece costs less than handing it to another thread.
inline constexpr size_t kPieceValuesMin = size_t{32} << 10;

// Values walked twice in a row, so that the second walk finds them in the cache.
inline constexpr size_t kCachedValues = size_t{16} << 10;

// Columns of a strip that is worth a thread of its own: rows of it fill whole cache lines.
inline constexpr size_t kStripColumnsMin = 64;

// Sets whose moments are held at a time where nobody wants them.
inline constexpr size_t kPartSets = size_t{256} << 10;

// Values of a channel in a sample that outweigh its coefficients, were they kept by every thread.
inline constexpr size_t kRangeSpatialMin = 512;

// How many pieces to cut `values` values into.
inline size_t PieceCount(size_t values, const ParallelRunner& runner) {
  return std::clamp<size_t>(values / kPieceValuesMin, 1, runner.width());
}

// Cuts [0, count) into `pieces` ranges and calls work(piece, first, end) for each that is not
// empty.
inline void ForPieces(size_t count, size_t pieces, ParallelRunner& runner,
                      absl::FunctionRef<void(size_t, size_t, size_t)> work) {
  runner.Run(pieces, [&](size_t piece) {
    const size_t first = count * piece / pieces;
    const size_t end = count * (piece + 1) / pieces;
    if (first < end) work(piece, first, end);
  });
}

// The fewest neighbouring channels that are worth a piece of their own.
inline size_t ChannelsOfPieceMin(const BatchExtents& extents) {
  return extents.spatial == 1 ? kStripColumnsMin : 1;
}

// Whether sums over channels are better cut into `pieces` by samples, and then merged: the channels
// are too few, and the samples are not.
inline bool CutsBySamples(const BatchExtents& extents, size_t pieces) {
  return pieces > 1 && extents.channels < pieces * ChannelsOfPieceMin(extents) &&
         extents.samples >= pieces;
}

// How many pieces to cut the channels into, of `pieces` that are wanted.
inline size_t ChannelPieces(const BatchExtents& extents, size_t pieces) {
  return std::clamp<size_t>(extents.channels / ChannelsOfPieceMin(extents), 1, pieces);
}

// How a batch norm's batch lies for the kernels: a channel is one of `channels`.
inline BatchExtents ChannelExtents(const Batch& batch) {
  if (batch.channels_last()) {
    return {batch.samples() * batch.spatial(), batch.channels(), 1};
  }
  return {batch.samples(), batch.channels(), batch.spatial()};
}

// How the channels [0, count) of one or more samples lie for the kernels, each sample's channels
// being channels of their own. With the channel last only the channels of one sample do.
inline BatchExtents SampleExtents(const Batch& batch, size_t count) {
  if (batch.channels_last()) return {batch.spatial(), count, 1};
  return {1, count, batch.spatial()};
}

// Some neighbouring channels of one or more samples, as SampleExtents has them, for the kernels:
// `range` of the extents that begin `before` values before the block. Coefficients are indexed as
// the range is.
struct ChannelBlock {
  size_t before = 0;
  BatchExtents extents;
  ChannelRange range;
};

// Whether blocks are ranges of all channels, so that the kernels see how large the output is.
// `are_runs`: the tensors are runs of memory.
inline bool BlocksAreRanges(const Batch& batch, bool are_runs) {
  return are_runs && !batch.channels_last() && batch.spatial() >= kRangeSpatialMin;
}

// The block of `count` channels from `first` on, counted over all samples; `are_ranges` as above.
inline ChannelBlock BlockOf(const Batch& batch, size_t first, size_t count, bool are_ranges) {
  if (are_ranges) {
    return {first * batch.spatial(),
            SampleExtents(batch, batch.samples() * batch.channels()),
            {first, count}};
  }
  return {0, SampleExtents(batch, count), {0, count}};
}

// How many coefficients blocks of up to `count` channels need.
inline size_t BlockCoefficients(const Batch& batch, size_t count, bool are_ranges) {
  return are_ranges ? batch.samples() * batch.channels() : count;
}

// One value in float64, which holds every value of every type.
inline double ToDouble(float value) { return value; }
inline double ToDouble(double value) { return value; }
inline double ToDouble(Float16 value) { return ToFloat(value); }
inline double ToDouble(Bfloat16 value) { return ToFloat(value); }

// Where an affine parameter stands, and its value; 1 or 0 where there is none.
inline double WeightOf(const Affine& affine, size_t channel) {
  return affine.weight.empty() ? 1.0 : affine.weight[channel];
}
inline double BiasOf(const Affine& affine, size_t channel) {
  return affine.bias.empty() ? 0.0 : affine.bias[channel];
}

// Added to variances of `batch`.
inline double EpsOf(const Batch& batch, const Affine& affine) {
  if (!affine.eps_of_dtype) return affine.eps;
  switch (batch.dtype()) {
    case DataType::kFloat64:
      return std::numeric_limits<double>::epsilon();
    case DataType::kFloat16:
      return 0x1p-10;
    case DataType::kBfloat16:
      return 0x1p-7;
    case DataType::kFloat32:
      break;
  }
  return std::numeric_limits<float>::epsilon();
}

// What a set is normalized by: subtract mean, multiply by invstd.
struct SetFactors {
  double mean = 0;
  double invstd = 0;
};

// The factors of a set with these moments. kRmsNorm: mean 0 and 1 / sqrt(mean square + eps).
inline SetFactors FactorsOfSet(NormKind kind, double mean, double m2, double count, double eps) {
  if (kind == NormKind::kRmsNorm) {
    // An infinity has no deviation (m2 is NaN), but a square.
    if (std::isinf(mean)) return {0.0, 0.0};
    return {0.0, 1.0 / std::sqrt(m2 / count + mean * mean + eps)};
  }
  const double shifted = m2 / count + eps;
  const bool zero_gives_bias = kind == NormKind::kBatchNorm || kind == NormKind::kInstanceNorm;
  if (shifted == 0 && zero_gives_bias) return {mean, 0.0};
  return {mean, 1.0 / std::sqrt(shifted)};
}

// The factors of a row that begins at `row`. Infinities of both signs have no mean, as a NaN has
// none, but a square.
template <typename T>
SetFactors FactorsOfRow(NormKind kind, const T* row, double mean, double m2, size_t columns,
                        double eps) {
  if (kind == NormKind::kRmsNorm && std::isnan(mean)) {
    bool has_nan = false;
    bool has_infinity = false;
    for (size_t i = 0; i < columns; ++i) {
      const double value = ToDouble(ValueAt(row + i));
      has_nan |= std::isnan(value);
      has_infinity |= std::isinf(value);
    }
    if (has_infinity && !has_nan) {
      return {0.0, 0.0};
    }
  }
  return FactorsOfSet(kind, mean, m2, static_cast<double>(columns), eps);
}

// kArrays arrays of `count` numbers each, on the stack when they are few; their indices begin at
// `first`.
template <typename Number, size_t kArrays>
class Scratch {
 public:
  explicit Scratch(size_t count, size_t first = 0)
      : count_(count), first_(first), numbers_(kArrays * count) {}

  Number& At(size_t array, size_t index) { return numbers_[array * count_ + index - first_]; }
  // An array as the kernels take it. REQUIRES: `first` is 0.
  Number* operator[](size_t array) { return numbers_.data() + array * count_; }

 private:
  size_t count_;
  size_t first_;
  absl::InlinedVector<Number, kArrays * 64> numbers_;
};

}  // namespace normd

#endif  // NORMD_CORE_NORM_WALK_H_
