// The code of moments.h for one SIMD target. Included by moments.cc alone, once for every target.

#if defined(NORMD_CORE_KERNELS_MOMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NORMD_CORE_KERNELS_MOMENTS_INL_H_
#undef NORMD_CORE_KERNELS_MOMENTS_INL_H_
#else
#define NORMD_CORE_KERNELS_MOMENTS_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "core/kernels/batch_extents.h"
#include "core/kernels/element-inl.h"
#include "core/kernels/moments_plan.h"
#include "core/kernels/values.h"
#include "core/tensor/data_type.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace normd {
namespace HWY_NAMESPACE {
// One .cc alone includes this header. NOLINTNEXTLINE(google-build-namespaces)
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// A vector of doubles of at most kLanesMax lanes; the arrays below are sized by it.
template <size_t kLanes>
using DoubleTag = hn::CappedTag<double, kLanes>;

template <typename T>
HWY_INLINE double ToDouble(const T* x) {
  const DoubleTag<1> d;
  return hn::GetLane(LoadElements(d, x));
}

// The mean of `count` values with the given sum; 0 when it is not finite.
HWY_INLINE double PivotFromSum(double sum, size_t count) {
  const double pivot = sum / static_cast<double>(count);
  return std::isfinite(pivot) ? pivot : 0.0;
}

// Merges a block of `block_values` values a channel into the `merged_values` values that mean[] and
// m2[] stand for. The block: sum[] of (x - pivot), sum_squares[] of (x - pivot)^2, 64-byte aligned.
// Chan, Golub, LeVeque: Updating Formulae and a Pairwise Algorithm for Computing Sample Variances.
template <size_t kLanes>
HWY_INLINE void MergeBlock(const double* pivot, const double* sum, const double* sum_squares,
                           size_t block_values, size_t merged_values, size_t channels,
                           size_t channel, double* HWY_RESTRICT mean, double* HWY_RESTRICT m2) {
  const DoubleTag<kLanes> d;
  const size_t lanes = hn::Lanes(d);
  const double block = static_cast<double>(block_values);
  const double merged = static_cast<double>(merged_values);
  const auto count = hn::Set(d, block);
  const auto mean_share = hn::Set(d, block / (merged + block));
  const auto m2_share = hn::Set(d, merged * block / (merged + block));
  for (; channel + lanes <= channels; channel += lanes) {
    const auto shifted_sum = hn::Load(d, sum + channel);
    const auto shifted_mean = hn::Div(shifted_sum, count);
    const auto block_mean = hn::Add(hn::Load(d, pivot + channel), shifted_mean);
    const auto squares = hn::Load(d, sum_squares + channel);
    auto block_m2 = hn::NegMulAdd(shifted_sum, shifted_mean, squares);
    // Far below what moments_plan.h allows, rounding alone is left: the values are all the same.
    const auto noise = hn::Mul(squares, hn::Set(d, kNoiseShare));
    block_m2 = hn::IfThenElse(hn::Lt(block_m2, noise), hn::Zero(d), block_m2);  // a NaN stays

    const auto old_mean = hn::LoadU(d, mean + channel);
    const auto delta = hn::Sub(block_mean, old_mean);
    // inf - inf would turn an infinite mean into NaN.
    const auto step = hn::IfThenElse(hn::IsFinite(delta), hn::Mul(delta, mean_share), block_mean);
    hn::StoreU(hn::Add(old_mean, step), d, mean + channel);
    const auto old_m2 = hn::LoadU(d, m2 + channel);
    // In this order a large delta times a share of 0 is 0.
    const auto between = hn::MulAdd(delta, hn::Mul(delta, m2_share), block_m2);
    hn::StoreU(hn::Add(old_m2, between), d, m2 + channel);
  }
  if constexpr (kLanes > 1) {
    MergeBlock<kLanes / 2>(pivot, sum, sum_squares, block_values, merged_values, channels, channel,
                           mean, m2);
  }
}

// ---------------------------------------------------------------------------------------------
// Columns: a row is one sample; every column of it has its own pivot and sums. A channel owns
// `spatial` neighbouring columns, times `replicas` where several rows are walked as one.

struct ColumnSums {
  double* HWY_RESTRICT pivot;
  double* HWY_RESTRICT sum;
  double* HWY_RESTRICT sum_squares;
};

// sum[column] = the sum of `rows` rows of `columns` values, `stride` values apart.
template <size_t kLanes, typename T>
HWY_INLINE void SumRows(const T* x, size_t rows, size_t stride, size_t columns, size_t column,
                        double* HWY_RESTRICT sum) {
  const DoubleTag<kLanes> d;
  const size_t lanes = hn::Lanes(d);
  for (; column + lanes <= columns; column += lanes) {
    auto total = LoadElements(d, x + column);
    for (size_t row = 1; row < rows; ++row) {
      total = hn::Add(total, LoadElements(d, x + row * stride + column));
    }
    hn::Store(total, d, sum + column);
  }
  if constexpr (kLanes > 1) SumRows<kLanes / 2>(x, rows, stride, columns, column, sum);
}

// pivot[channel] = sum[channel] / count, or 0 when that is not finite.
template <size_t kLanes>
HWY_INLINE void PivotsFromSums(const double* HWY_RESTRICT sum, size_t count, size_t channels,
                               size_t channel, double* HWY_RESTRICT pivot) {
  const DoubleTag<kLanes> d;
  const size_t lanes = hn::Lanes(d);
  const auto divisor = hn::Set(d, static_cast<double>(count));
  for (; channel + lanes <= channels; channel += lanes) {
    const auto mean = hn::Div(hn::Load(d, sum + channel), divisor);
    hn::Store(hn::IfThenElseZero(hn::IsFinite(mean), mean), d, pivot + channel);
  }
  if constexpr (kLanes > 1) PivotsFromSums<kLanes / 2>(sum, count, channels, channel, pivot);
}

// Adds `rows` rows to the sums of their columns. With kRows not 0, rows is that constant.
template <size_t kRows, size_t kLanes, typename T>
HWY_INLINE void AddRowGroup(const T* x, size_t rows, size_t stride, size_t columns, size_t column,
                            const ColumnSums& sums) {
  const DoubleTag<kLanes> d;
  const size_t lanes = hn::Lanes(d);
  for (; column + lanes <= columns; column += lanes) {
    const auto pivot = hn::Load(d, sums.pivot + column);
    auto sum = hn::Load(d, sums.sum + column);
    auto sum_squares = hn::Load(d, sums.sum_squares + column);
    const T* HWY_RESTRICT from = x + column;
    if constexpr (kRows == 0) {
      for (size_t row = 0; row < rows; ++row) {
        const auto shifted = hn::Sub(LoadElements(d, from + row * stride), pivot);
        sum = hn::Add(sum, shifted);
        sum_squares = hn::MulAdd(shifted, shifted, sum_squares);
      }
    } else {
      HWY_UNROLL(8)
      for (size_t row = 0; row < kRows; ++row) {
        // The hardware does not follow a walk down the rows. Past the end this does nothing.
        hwy::Prefetch(from + (row + 2 * kRows) * stride);
        const auto shifted = hn::Sub(LoadElements(d, from + row * stride), pivot);
        sum = hn::Add(sum, shifted);
        sum_squares = hn::MulAdd(shifted, shifted, sum_squares);
      }
    }
    hn::Store(sum, d, sums.sum + column);
    hn::Store(sum_squares, d, sums.sum_squares + column);
  }
  if constexpr (kLanes > 1) {
    AddRowGroup<kRows, kLanes / 2>(x, rows, stride, columns, column, sums);
  }
}

template <typename T>
HWY_INLINE void AddRows(const T* x, size_t rows, size_t stride, size_t columns,
                        const ColumnSums& sums) {
  size_t row = 0;
  for (; row + kRowGroup <= rows; row += kRowGroup) {
    AddRowGroup<kRowGroup, kLanesMax>(x + row * stride, kRowGroup, stride, columns, 0, sums);
  }
  if (row < rows) {
    AddRowGroup<0, kLanesMax>(x + row * stride, rows - row, stride, columns, 0, sums);
  }
}

// values[group] = the sum of the `size` values of each group, in place.
HWY_INLINE void FoldGroups(double* values, size_t groups, size_t size) {
  for (size_t group = 0; group < groups; ++group) {
    double total = values[group * size];
    for (size_t i = 1; i < size; ++i) total += values[group * size + i];
    values[group] = total;
  }
}

// Adds the copies 1..replicas-1 of `length` values onto the first.
HWY_INLINE void FoldReplicas(double* values, size_t length, size_t replicas) {
  for (size_t replica = 1; replica < replicas; ++replica) {
    for (size_t i = 0; i < length; ++i) values[i] += values[replica * length + i];
  }
}

// Gives every column of every replica its channel's pivot, from one pivot a channel, in place.
HWY_INLINE void SpreadPivots(double* pivot, size_t channels, size_t spatial, size_t replicas) {
  if (spatial > 1) {
    for (size_t channel = channels; channel-- > 0;) {
      std::fill_n(pivot + channel * spatial, spatial, pivot[channel]);
    }
  }
  const size_t length = channels * spatial;
  for (size_t replica = 1; replica < replicas; ++replica) {
    std::copy_n(pivot, length, pivot + replica * length);
  }
}

// Sums one block: `rows` rows of channels * spatial columns, `stride` apart, from value `start` on.
// Leaves one pivot and one pair of sums a channel in the front of the arrays.
template <typename T>
HWY_INLINE void SumColumnBlock(const Values<T>& x, size_t start, size_t rows, size_t stride,
                               size_t channels, size_t spatial, size_t replicas,
                               const ColumnSums& sums) {
  const size_t length = channels * spatial;
  const size_t columns = length * replicas;
  const size_t pivot_rows = std::min(rows, PivotRows(spatial));
  for (size_t row = 0, count = 0; row < rows; row += count) {
    const size_t at = start + row * stride;
    count = x.RowsAtATime(at, rows - row, stride, length, row == 0 ? pivot_rows : 1,
                          replicas * kRowGroup);
    const Tile<T> tile = x.Read(at, count, stride, length);
    if (row == 0) {
      SumRows<kLanesMax>(tile.x, pivot_rows, tile.stride, length, 0, sums.sum);
      if (spatial > 1) FoldGroups(sums.sum, channels, spatial);
      PivotsFromSums<kLanesMax>(sums.sum, pivot_rows * spatial, channels, 0, sums.pivot);
      SpreadPivots(sums.pivot, channels, spatial, replicas);
      std::fill_n(sums.sum, columns, 0.0);
      std::fill_n(sums.sum_squares, columns, 0.0);
    }
    const size_t wide_rows = count / replicas;
    AddRows(tile.x, wide_rows, tile.stride * replicas, columns, sums);
    const size_t left = count - wide_rows * replicas;
    if (left != 0) AddRows(tile.x + wide_rows * columns, 1, columns, left * length, sums);
  }

  if (replicas > 1) {
    FoldReplicas(sums.sum, length, replicas);
    FoldReplicas(sums.sum_squares, length, replicas);
  }
  if (spatial > 1) {
    FoldGroups(sums.sum, channels, spatial);
    FoldGroups(sums.sum_squares, channels, spatial);
    for (size_t channel = 1; channel < channels; ++channel) {
      sums.pivot[channel] = sums.pivot[channel * spatial];
    }
  }
}

template <typename T>
void ColumnMoments(const Values<T>& x, const BatchExtents& extents, ChannelRange range,
                   double* mean, double* m2) {
  HWY_ALIGN double pivot[kColumnsMax];
  HWY_ALIGN double sum[kColumnsMax];
  HWY_ALIGN double sum_squares[kColumnsMax];
  const ColumnSums sums = {pivot, sum, sum_squares};
  const size_t row_length = extents.channels * extents.spatial;
  const size_t strip = kColumnsMax / extents.spatial;
  // Whole rows alone are neighbours.
  const size_t replicas =
      range.count == extents.channels ? ColumnReplicas(extents.samples, row_length) : 1;
  const size_t block_rows = kBlockRows * replicas;
  const size_t end = range.first + range.count;
  for (size_t first = range.first; first < end; first += strip) {
    const size_t channels = std::min(strip, end - first);
    std::fill_n(mean + first, channels, 0.0);
    std::fill_n(m2 + first, channels, 0.0);
    for (size_t row = 0; row < extents.samples; row += block_rows) {
      const size_t rows = std::min(block_rows, extents.samples - row);
      SumColumnBlock(x, row * row_length + first * extents.spatial, rows, row_length, channels,
                     extents.spatial, replicas, sums);
      MergeBlock<kLanesMax>(pivot, sum, sum_squares, rows * extents.spatial, row * extents.spatial,
                            channels, 0, mean + first, m2 + first);
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Segments: every sample holds `spatial` neighbouring values of a channel, at least kLanesMax.

// Part of a tile of neighbouring channels: `length` values from the start of every channel's
// segment, in `samples` samples; the first begins at value `start`.
struct SegmentBlock {
  size_t start;
  size_t samples;
  size_t length;
  size_t segment_stride;  // from a channel to the next
  size_t sample_stride;
};

// Samples whose values of a channel are enough for a pivot.
HWY_INLINE size_t PivotSamples(const SegmentBlock& block) {
  return std::min(block.samples, (kPivotValues + block.length - 1) / block.length);
}

// The mean of the first kPivotValues values of the block's channel that begins at `x`, with its
// samples `stride` apart.
template <typename T>
HWY_INLINE double SegmentPivot(const T* x, size_t stride, const SegmentBlock& block) {
  double total = 0;
  size_t count = 0;
  for (size_t sample = 0; sample < block.samples && count < kPivotValues; ++sample) {
    const size_t take = std::min(block.length, kPivotValues - count);
    const T* segment = x + sample * stride;
    for (size_t i = 0; i < take; ++i) total += ToDouble(segment + i);
    count += take;
  }
  return PivotFromSum(total, count);
}

// Adds x[0, length) to one vector of sums and one of sums of squares. REQUIRES: length >= lanes.
template <class D, typename T>
HWY_INLINE void AddSegment(D d, const T* HWY_RESTRICT x, size_t length, double pivot_value,
                           double* HWY_RESTRICT sums, double* HWY_RESTRICT sums_squares) {
  const size_t lanes = hn::Lanes(d);
  const auto pivot = hn::Set(d, pivot_value);
  auto sum0 = hn::Load(d, sums);
  auto squares0 = hn::Load(d, sums_squares);
  size_t i = 0;
  if (length >= 4 * lanes) {
    auto sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
    auto squares1 = hn::Zero(d), squares2 = hn::Zero(d), squares3 = hn::Zero(d);
    for (; i + 4 * lanes <= length; i += 4 * lanes) {
      const auto v0 = hn::Sub(LoadElements(d, x + i), pivot);
      const auto v1 = hn::Sub(LoadElements(d, x + i + lanes), pivot);
      const auto v2 = hn::Sub(LoadElements(d, x + i + 2 * lanes), pivot);
      const auto v3 = hn::Sub(LoadElements(d, x + i + 3 * lanes), pivot);
      sum0 = hn::Add(sum0, v0);
      sum1 = hn::Add(sum1, v1);
      sum2 = hn::Add(sum2, v2);
      sum3 = hn::Add(sum3, v3);
      squares0 = hn::MulAdd(v0, v0, squares0);
      squares1 = hn::MulAdd(v1, v1, squares1);
      squares2 = hn::MulAdd(v2, v2, squares2);
      squares3 = hn::MulAdd(v3, v3, squares3);
    }
    sum0 = hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3));
    squares0 = hn::Add(hn::Add(squares0, squares1), hn::Add(squares2, squares3));
  }
  for (; i + lanes <= length; i += lanes) {
    const auto v = hn::Sub(LoadElements(d, x + i), pivot);
    sum0 = hn::Add(sum0, v);
    squares0 = hn::MulAdd(v, v, squares0);
  }
  if (i < length) {
    // The last full vector, without the lanes that are counted already.
    const auto counted = hn::FirstN(d, lanes - (length - i));
    const auto v = hn::IfThenZeroElse(counted, hn::Sub(LoadElements(d, x + length - lanes), pivot));
    sum0 = hn::Add(sum0, v);
    squares0 = hn::MulAdd(v, v, squares0);
  }
  hn::Store(sum0, d, sums);
  hn::Store(squares0, d, sums_squares);
}

// Sums the block for `channels` channels. Leaves one pivot and one pair of sums a channel in the
// front of the arrays; sums[] and sums_squares[] need `lanes` values a channel meanwhile.
template <typename T>
HWY_INLINE void SumSegmentBlock(const Values<T>& x, const SegmentBlock& block, size_t channels,
                                double* pivot, double* sums, double* sums_squares) {
  const DoubleTag<kLanesMax> d;
  const size_t lanes = hn::Lanes(d);
  std::fill_n(sums, channels * lanes, 0.0);
  std::fill_n(sums_squares, channels * lanes, 0.0);
  const size_t row_length = (channels - 1) * block.segment_stride + block.length;
  for (size_t first = 0, samples = 0; first < block.samples; first += samples) {
    const size_t at = block.start + first * block.sample_stride;
    samples = x.RowsAtATime(at, block.samples - first, block.sample_stride, row_length,
                            first == 0 ? PivotSamples(block) : 1, 1);
    const Tile<T> tile = x.Read(at, samples, block.sample_stride, row_length);
    if (first == 0) {
      for (size_t channel = 0; channel < channels; ++channel) {
        pivot[channel] = SegmentPivot(tile.x + channel * block.segment_stride, tile.stride, block);
      }
    }
    for (size_t sample = 0; sample < samples; ++sample) {
      const T* segment = tile.x + sample * tile.stride;
      for (size_t channel = 0; channel < channels; ++channel) {
        AddSegment(d, segment, block.length, pivot[channel], sums + channel * lanes,
                   sums_squares + channel * lanes);
        segment += block.segment_stride;
      }
    }
  }
  for (size_t channel = 0; channel < channels; ++channel) {
    sums[channel] = hn::GetLane(hn::SumOfLanes(d, hn::Load(d, sums + channel * lanes)));
    sums_squares[channel] =
        hn::GetLane(hn::SumOfLanes(d, hn::Load(d, sums_squares + channel * lanes)));
  }
}

template <typename T>
void SegmentMoments(const Values<T>& x, const BatchExtents& extents, ChannelRange range,
                    double* mean, double* m2) {
  HWY_ALIGN double pivot[kTileValues / kLanesMax];
  HWY_ALIGN double sums[kTileValues];
  HWY_ALIGN double sums_squares[kTileValues];
  const size_t spatial = extents.spatial;
  const size_t sample_stride = extents.channels * spatial;
  const size_t tile = std::max<size_t>(1, kTileValues / spatial);
  const size_t block_samples = std::max<size_t>(1, kBlockValues / spatial);
  const size_t end = range.first + range.count;
  for (size_t first = range.first; first < end; first += tile) {
    const size_t channels = std::min(tile, end - first);
    std::fill_n(mean + first, channels, 0.0);
    std::fill_n(m2 + first, channels, 0.0);
    size_t merged = 0;
    for (size_t sample = 0; sample < extents.samples; sample += block_samples) {
      const size_t samples = std::min(block_samples, extents.samples - sample);
      for (size_t from = 0; from < spatial;) {
        // Never leaves a rest shorter than a block, hence none shorter than a vector.
        const size_t left = spatial - from;
        const size_t length = left < 2 * kBlockValues ? left : kBlockValues;
        const SegmentBlock block = {sample * sample_stride + first * spatial + from, samples,
                                    length, spatial, sample_stride};
        SumSegmentBlock(x, block, channels, pivot, sums, sums_squares);
        MergeBlock<kLanesMax>(pivot, sums, sums_squares, samples * length, merged, channels, 0,
                              mean + first, m2 + first);
        merged += samples * length;
        from += length;
      }
    }
  }
}

template <typename T>
void MomentsOf(const Values<T>& x, const BatchExtents& extents, ChannelRange range, double* mean,
               double* m2) {
  if (extents.spatial >= kLanesMax) {
    SegmentMoments(x, extents, range, mean, m2);
  } else {
    ColumnMoments(x, extents, range, mean, m2);
  }
}

}  // namespace

// A name for every type, since HWY_EXPORT takes no template.
inline constexpr auto& kMomentsOfFloat32 = MomentsOf<float>;
inline constexpr auto& kMomentsOfFloat64 = MomentsOf<double>;
inline constexpr auto& kMomentsOfFloat16 = MomentsOf<Float16>;
inline constexpr auto& kMomentsOfBfloat16 = MomentsOf<Bfloat16>;

}  // namespace HWY_NAMESPACE
}  // namespace normd
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
