// The sums of backward.h for one SIMD target. Included by backward.cc alone, once for every target.

#if defined(NORMD_CORE_KERNELS_BACKWARD_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NORMD_CORE_KERNELS_BACKWARD_SUMS_INL_H_
#undef NORMD_CORE_KERNELS_BACKWARD_SUMS_INL_H_
#else
#define NORMD_CORE_KERNELS_BACKWARD_SUMS_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "core/kernels/backward_plan.h"
#include "core/kernels/batch_extents.h"
#include "core/kernels/element-inl.h"
#include "core/kernels/spread-inl.h"
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

// Doubles of a whole vector; walks begin with it and end with ever shorter ones.
inline constexpr size_t kDoubleLanes = HWY_MIN(kLanesMax, HWY_LANES(double));

// A vector of doubles of at most kLanes lanes.
template <size_t kLanes>
using DoubleTag = hn::CappedTag<double, kLanes>;

// ---------------------------------------------------------------------------------------------
// Columns: a row is one sample; every column of it has its own mean and sums. A channel owns
// `spatial` neighbouring columns, times `replicas` where several rows are walked as one.

struct ColumnGradients {
  const double* HWY_RESTRICT mean;
  double* HWY_RESTRICT sum;
  double* HWY_RESTRICT dot;
};

// Adds one vector of dy and dy * (x - mean) to the sums.
template <class D, typename T>
HWY_INLINE void AddGradient(D d, const T* x, const T* dy, hn::Vec<D> mean, hn::Vec<D>& sum,
                            hn::Vec<D>& dot) {
  const auto gradient = LoadElements(d, dy);
  sum = hn::Add(sum, gradient);
  dot = hn::MulAdd(gradient, hn::Sub(LoadElements(d, x), mean), dot);
}

// Adds `rows` rows to the sums of their columns. With kRows not 0, rows is that constant.
template <size_t kRows, size_t kLanes, typename T>
HWY_INLINE void AddGradientRowGroup(const T* x, const T* dy, size_t rows, size_t stride,
                                    size_t columns, size_t column, const ColumnGradients& sums) {
  const DoubleTag<kLanes> d;
  const size_t lanes = hn::Lanes(d);
  for (; column + lanes <= columns; column += lanes) {
    const auto mean = hn::LoadU(d, sums.mean + column);
    auto sum = hn::Load(d, sums.sum + column);
    auto dot = hn::Load(d, sums.dot + column);
    const T* HWY_RESTRICT x_from = x + column;
    const T* HWY_RESTRICT dy_from = dy + column;
    if constexpr (kRows == 0) {
      for (size_t row = 0; row < rows; ++row) {
        AddGradient(d, x_from + row * stride, dy_from + row * stride, mean, sum, dot);
      }
    } else {
      HWY_UNROLL(8)
      for (size_t row = 0; row < kRows; ++row) {
        // The hardware does not follow a walk down the rows. Past the end this does nothing.
        hwy::Prefetch(x_from + (row + 2 * kRows) * stride);
        hwy::Prefetch(dy_from + (row + 2 * kRows) * stride);
        AddGradient(d, x_from + row * stride, dy_from + row * stride, mean, sum, dot);
      }
    }
    hn::Store(sum, d, sums.sum + column);
    hn::Store(dot, d, sums.dot + column);
  }
  if constexpr (kLanes > 1) {
    AddGradientRowGroup<kRows, kLanes / 2>(x, dy, rows, stride, columns, column, sums);
  }
}

template <typename T>
HWY_NOINLINE void AddGradientRows(const T* x, const T* dy, size_t rows, size_t stride,
                                  size_t columns, const ColumnGradients& sums) {
  size_t row = 0;
  for (; row + kRowGroup <= rows; row += kRowGroup) {
    AddGradientRowGroup<kRowGroup, kDoubleLanes>(x + row * stride, dy + row * stride, kRowGroup,
                                                 stride, columns, 0, sums);
  }
  if (row < rows) {
    AddGradientRowGroup<0, kDoubleLanes>(x + row * stride, dy + row * stride, rows - row, stride,
                                         columns, 0, sums);
  }
}

// Adds to total[channel] the `spatial` columns of each of `replicas` copies of `channels` channels.
HWY_INLINE void FoldColumns(const double* columns, size_t channels, size_t spatial, size_t replicas,
                            double* HWY_RESTRICT total) {
  for (size_t replica = 0; replica < replicas; ++replica) {
    if (spatial == 1) {
      for (size_t channel = 0; channel < channels; ++channel) total[channel] += columns[channel];
    } else {
      for (size_t channel = 0; channel < channels; ++channel) {
        const double* of_channel = columns + channel * spatial;
        double sum = of_channel[0];
        for (size_t i = 1; i < spatial; ++i) sum += of_channel[i];
        total[channel] += sum;
      }
    }
    columns += channels * spatial;
  }
}

template <typename T>
void ColumnGradientSums(const Values<T>& x, const Values<T>& dy, const BatchExtents& extents,
                        ChannelRange range, const double* mean, double* sum, double* dot) {
  HWY_ALIGN double means[kGradientColumnsMax];
  HWY_ALIGN double sums[kGradientColumnsMax];
  HWY_ALIGN double dots[kGradientColumnsMax];
  const size_t spatial = extents.spatial;
  const size_t row_length = extents.channels * spatial;
  const size_t strip = kGradientColumnsMax / spatial;
  // Whole rows alone are neighbours.
  const size_t replicas =
      range.count == extents.channels ? ColumnReplicas(extents.samples, row_length) : 1;
  const bool own_means = spatial > 1 || replicas > 1;
  const size_t block_rows = kBlockRows * replicas;
  const size_t end = range.first + range.count;
  for (size_t first = range.first; first < end; first += strip) {
    const size_t channels = std::min(strip, end - first);
    const size_t columns = channels * spatial;
    if (own_means) Spread(mean + first, channels, spatial, replicas, means);
    const ColumnGradients block = {own_means ? means : mean + first, sums, dots};
    for (size_t row = 0; row < extents.samples; row += block_rows) {
      const size_t rows = std::min(block_rows, extents.samples - row);
      std::fill_n(sums, columns * replicas, 0.0);
      std::fill_n(dots, columns * replicas, 0.0);
      for (size_t at = 0, count = 0; at < rows; at += count) {
        const size_t start = (row + at) * row_length + first * spatial;
        const auto rows_of = [&](const Values<T>& values) {
          return values.RowsAtATime(start, rows - at, row_length, columns, 1, replicas * kRowGroup);
        };
        count = std::min(rows_of(x), rows_of(dy));
        const Tile<T> of_x = x.Read(start, count, row_length, columns);
        const Tile<T> of_dy = dy.Read(start, count, row_length, columns);
        const size_t wide_rows = count / replicas;
        AddGradientRows(of_x.x, of_dy.x, wide_rows, of_x.stride * replicas, columns * replicas,
                        block);
        const size_t done = wide_rows * replicas * columns;  // of whole rows, if any are left
        const size_t left = count * columns - done;
        if (left != 0) AddGradientRows(of_x.x + done, of_dy.x + done, 1, left, left, block);
      }
      FoldColumns(sums, channels, spatial, replicas, sum + first);
      FoldColumns(dots, channels, spatial, replicas, dot + first);
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Segments: every sample holds `spatial` neighbouring values of a channel, at least kLanesMax.

// Adds dy[0, length) and dy * (x - mean) to one vector of sums each. REQUIRES: length >= lanes.
template <class D, typename T>
HWY_INLINE void AddGradientSegment(D d, const T* HWY_RESTRICT x, const T* HWY_RESTRICT dy,
                                   size_t length, double mean_value, double* HWY_RESTRICT sums,
                                   double* HWY_RESTRICT dots) {
  const size_t lanes = hn::Lanes(d);
  const auto mean = hn::Set(d, mean_value);
  auto sum0 = hn::Load(d, sums);
  auto dot0 = hn::Load(d, dots);
  size_t i = 0;
  if (length >= 4 * lanes) {
    auto sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
    auto dot1 = hn::Zero(d), dot2 = hn::Zero(d), dot3 = hn::Zero(d);
    for (; i + 4 * lanes <= length; i += 4 * lanes) {
      AddGradient(d, x + i, dy + i, mean, sum0, dot0);
      AddGradient(d, x + i + lanes, dy + i + lanes, mean, sum1, dot1);
      AddGradient(d, x + i + 2 * lanes, dy + i + 2 * lanes, mean, sum2, dot2);
      AddGradient(d, x + i + 3 * lanes, dy + i + 3 * lanes, mean, sum3, dot3);
    }
    sum0 = hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3));
    dot0 = hn::Add(hn::Add(dot0, dot1), hn::Add(dot2, dot3));
  }
  for (; i + lanes <= length; i += lanes) AddGradient(d, x + i, dy + i, mean, sum0, dot0);
  if (i < length) {
    // The last full vector, without the lanes that are counted already.
    const auto counted = hn::FirstN(d, lanes - (length - i));
    const auto gradient = LoadElements(d, dy + length - lanes);
    const auto centered = hn::Sub(LoadElements(d, x + length - lanes), mean);
    sum0 = hn::Add(sum0, hn::IfThenZeroElse(counted, gradient));
    dot0 = hn::Add(dot0, hn::IfThenZeroElse(counted, hn::Mul(gradient, centered)));
  }
  hn::Store(sum0, d, sums);
  hn::Store(dot0, d, dots);
}

template <typename T>
void SegmentGradientSums(const Values<T>& x, const Values<T>& dy, const BatchExtents& extents,
                         ChannelRange range, const double* mean, double* sum, double* dot) {
  const DoubleTag<kDoubleLanes> d;
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN double sums[kTileValues];
  HWY_ALIGN double dots[kTileValues];
  const size_t spatial = extents.spatial;
  const size_t sample_stride = extents.channels * spatial;
  const size_t tile = std::max<size_t>(1, kTileValues / spatial);
  const size_t block_samples = std::max<size_t>(1, kBlockValues / spatial);
  const size_t end = range.first + range.count;
  for (size_t first = range.first; first < end; first += tile) {
    const size_t channels = std::min(tile, end - first);
    for (size_t sample = 0; sample < extents.samples; sample += block_samples) {
      const size_t sample_end = sample + std::min(block_samples, extents.samples - sample);
      for (size_t from = 0; from < spatial;) {
        // Never leaves a rest shorter than a block, hence none shorter than a vector.
        const size_t left = spatial - from;
        const size_t length = left < 2 * kBlockValues ? left : kBlockValues;
        std::fill_n(sums, channels * lanes, 0.0);
        std::fill_n(dots, channels * lanes, 0.0);
        const size_t row_length = (channels - 1) * spatial + length;
        for (size_t row = sample, rows = 0; row < sample_end; row += rows) {
          const size_t start = row * sample_stride + first * spatial + from;
          const auto rows_of = [&](const Values<T>& values) {
            return values.RowsAtATime(start, sample_end - row, sample_stride, row_length, 1, 1);
          };
          rows = std::min(rows_of(x), rows_of(dy));
          const Tile<T> of_x = x.Read(start, rows, sample_stride, row_length);
          const Tile<T> of_dy = dy.Read(start, rows, sample_stride, row_length);
          for (size_t i = 0; i < rows; ++i) {
            size_t at = i * of_x.stride;
            for (size_t channel = 0; channel < channels; ++channel, at += spatial) {
              AddGradientSegment(d, of_x.x + at, of_dy.x + at, length, mean[first + channel],
                                 sums + channel * lanes, dots + channel * lanes);
            }
          }
        }
        for (size_t channel = 0; channel < channels; ++channel) {
          const size_t at = channel * lanes;
          sum[first + channel] += hn::GetLane(hn::SumOfLanes(d, hn::Load(d, sums + at)));
          dot[first + channel] += hn::GetLane(hn::SumOfLanes(d, hn::Load(d, dots + at)));
        }
        from += length;
      }
    }
  }
}

template <typename T>
void GradientSums(const Values<T>& x, const Values<T>& dy, const BatchExtents& extents,
                  ChannelRange range, const double* mean, double* sum, double* dot) {
  std::fill_n(sum + range.first, range.count, 0.0);
  std::fill_n(dot + range.first, range.count, 0.0);
  if (extents.samples * extents.spatial == 0) return;
  if (extents.spatial >= kLanesMax) {
    SegmentGradientSums(x, dy, extents, range, mean, sum, dot);
  } else {
    ColumnGradientSums(x, dy, extents, range, mean, sum, dot);
  }
}

// ---------------------------------------------------------------------------------------------
// Rows: sums along every row, and down every column over the rows.

// What is wanted beside the sums of rows.
enum class ColumnSums { kNone, kWeight, kWeightAndBias };

// Neighbouring columns of all rows: x, dy and what has one value a column begin at the first.
template <typename T>
struct RowTile {
  const T* x;
  const T* dy;
  size_t rows;
  size_t stride;  // from a row to the next
  size_t columns;
  const double* mean;
  const double* invstd;
  const ComputeType<T>* weight;
  double* row_sum;
  double* row_dot;
  double* grad_weight;
  double* grad_bias;
};

// One row of a group.
template <typename T>
struct GradientRow {
  const T* HWY_RESTRICT x;
  const T* HWY_RESTRICT dy;
  double mean;
  double invstd;

  GradientRow(const RowTile<T>& tile, size_t row)
      : x(tile.x + row * tile.stride),
        dy(tile.dy + row * tile.stride),
        mean(tile.mean[row]),
        invstd(tile.invstd[row]) {}
};

// Adds one vector of a row to the sums of the row and of the columns.
template <ColumnSums kWanted, class D, typename T>
HWY_INLINE void AddRowVector(D d, const GradientRow<T>& row, size_t column, hn::Vec<D> weight,
                             hn::Vec<D>& sum, hn::Vec<D>& dot, hn::Vec<D>& grad_weight,
                             hn::Vec<D>& grad_bias) {
  const auto gradient = LoadElements(d, row.dy + column);
  const auto centered = hn::Sub(LoadElements(d, row.x + column), hn::Set(d, row.mean));
  const auto product = hn::Mul(gradient, centered);
  sum = hn::MulAdd(gradient, weight, sum);
  dot = hn::MulAdd(product, weight, dot);
  if constexpr (kWanted != ColumnSums::kNone) {
    grad_weight = hn::MulAdd(product, hn::Set(d, row.invstd), grad_weight);
  }
  if constexpr (kWanted == ColumnSums::kWeightAndBias) grad_bias = hn::Add(grad_bias, gradient);
}

template <class D>
HWY_INLINE void AddLanes(D d, hn::Vec<D> value, double& total) {
  total += hn::GetLane(hn::SumOfLanes(d, value));
}

// Adds the columns [column, end) of the rows [row, row + kRows), kRows being kRowsAtOnce or 1, as
// far as they fill vectors of kLanes.
template <ColumnSums kWanted, size_t kRows, size_t kLanes, typename T>
HWY_INLINE void AddRowGroup(const RowTile<T>& tile, size_t row, size_t column, size_t end) {
  const DoubleTag<kLanes> d;
  const size_t lanes = hn::Lanes(d);
  const size_t last = row + kRows - 1;
  const GradientRow<T> row0(tile, row), row1(tile, std::min(row + 1, last));
  const GradientRow<T> row2(tile, std::min(row + 2, last)), row3(tile, last);
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
  auto dot0 = hn::Zero(d), dot1 = hn::Zero(d), dot2 = hn::Zero(d), dot3 = hn::Zero(d);
  for (; column + lanes <= end; column += lanes) {
    const auto weight = LoadElements(d, tile.weight + column);
    auto of_weight = hn::Zero(d), of_bias = hn::Zero(d);
    AddRowVector<kWanted>(d, row0, column, weight, sum0, dot0, of_weight, of_bias);
    if constexpr (kRows == kRowsAtOnce) {
      AddRowVector<kWanted>(d, row1, column, weight, sum1, dot1, of_weight, of_bias);
      AddRowVector<kWanted>(d, row2, column, weight, sum2, dot2, of_weight, of_bias);
      AddRowVector<kWanted>(d, row3, column, weight, sum3, dot3, of_weight, of_bias);
    }
    if constexpr (kWanted != ColumnSums::kNone) {
      const auto total = hn::LoadU(d, tile.grad_weight + column);
      hn::StoreU(hn::Add(total, of_weight), d, tile.grad_weight + column);
    }
    if constexpr (kWanted == ColumnSums::kWeightAndBias) {
      const auto total = hn::LoadU(d, tile.grad_bias + column);
      hn::StoreU(hn::Add(total, of_bias), d, tile.grad_bias + column);
    }
  }
  AddLanes(d, sum0, tile.row_sum[row]);
  AddLanes(d, dot0, tile.row_dot[row]);
  if constexpr (kRows == kRowsAtOnce) {
    AddLanes(d, sum1, tile.row_sum[row + 1]);
    AddLanes(d, dot1, tile.row_dot[row + 1]);
    AddLanes(d, sum2, tile.row_sum[row + 2]);
    AddLanes(d, dot2, tile.row_dot[row + 2]);
    AddLanes(d, sum3, tile.row_sum[row + 3]);
    AddLanes(d, dot3, tile.row_dot[row + 3]);
  }
}

// Adds the columns [column, end) of one row, in vectors of kLanes and then of ever fewer lanes.
template <ColumnSums kWanted, size_t kLanes, typename T>
HWY_INLINE void AddRow(const RowTile<T>& tile, size_t row, size_t column, size_t end) {
  const size_t lanes = hn::Lanes(DoubleTag<kLanes>());
  if (column + lanes <= end) {
    AddRowGroup<kWanted, 1, kLanes>(tile, row, column, end);
    column = end - (end - column) % lanes;
  }
  if constexpr (kLanes > 1) AddRow<kWanted, kLanes / 2>(tile, row, column, end);
}

template <ColumnSums kWanted, typename T>
void AddRows(const RowTile<T>& tile) {
  const size_t end = tile.columns;
  const size_t whole = end - end % hn::Lanes(DoubleTag<kDoubleLanes>());
  size_t row = 0;
  for (; row + kRowsAtOnce <= tile.rows; row += kRowsAtOnce) {
    AddRowGroup<kWanted, kRowsAtOnce, kDoubleLanes>(tile, row, 0, whole);
    if (whole == end) continue;
    for (size_t i = 0; i < kRowsAtOnce; ++i) {
      AddRow<kWanted, kDoubleLanes>(tile, row + i, whole, end);
    }
  }
  for (; row < tile.rows; ++row) AddRow<kWanted, kDoubleLanes>(tile, row, 0, end);
}

template <typename T>
void RowGradientSums(const T* x, const T* dy, size_t rows, size_t columns, const double* mean,
                     const double* invstd, const ComputeType<T>* weight, double* row_sum,
                     double* row_dot, double* grad_weight, double* grad_bias) {
  if (weight == nullptr && grad_weight == nullptr && grad_bias == nullptr) {
    // Then a row is a channel.
    GradientSums(Values<T>(x), Values<T>(dy), {1, rows, columns}, {0, rows}, mean, row_sum,
                 row_dot);
    return;
  }
  // What stands in for the less usual that is absent: a weight of 1 costs nothing, and nobody wants
  // the gradient of a bias alone.
  HWY_ALIGN ComputeType<T> ones[kRowTileColumns];
  HWY_ALIGN double unwanted[kRowTileColumns];
  const size_t tile_columns = std::min(columns, kRowTileColumns);
  if (weight == nullptr) std::fill_n(ones, tile_columns, ComputeType<T>{1});
  if (grad_weight == nullptr) std::fill_n(unwanted, tile_columns, 0.0);
  std::fill_n(row_sum, rows, 0.0);
  std::fill_n(row_dot, rows, 0.0);
  for (size_t first = 0; first < columns; first += kRowTileColumns) {
    const RowTile<T> tile = {x + first,
                             dy + first,
                             rows,
                             columns,
                             std::min(kRowTileColumns, columns - first),
                             mean,
                             invstd,
                             weight == nullptr ? ones : weight + first,
                             row_sum,
                             row_dot,
                             grad_weight == nullptr ? unwanted : grad_weight + first,
                             grad_bias == nullptr ? nullptr : grad_bias + first};
    if (grad_bias != nullptr) {
      AddRows<ColumnSums::kWeightAndBias>(tile);
    } else if (grad_weight != nullptr) {
      AddRows<ColumnSums::kWeight>(tile);
    } else {
      AddRows<ColumnSums::kNone>(tile);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace normd
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
