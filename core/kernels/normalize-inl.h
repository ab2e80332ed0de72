// The code of normalize.h for one SIMD target. Included by normalize.cc alone, once for every
// target.

#if defined(NORMD_CORE_KERNELS_NORMALIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NORMD_CORE_KERNELS_NORMALIZE_INL_H_
#undef NORMD_CORE_KERNELS_NORMALIZE_INL_H_
#else
#define NORMD_CORE_KERNELS_NORMALIZE_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/kernels/batch_extents.h"
#include "core/kernels/element-inl.h"
#include "core/kernels/normalize.h"
#include "core/kernels/normalize_plan.h"
#include "core/kernels/spread-inl.h"
#include "core/tensor/data_type.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace normd {
namespace HWY_NAMESPACE {
// One .cc alone includes this header. NOLINTNEXTLINE(google-build-namespaces)
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// A vector of at most kLanes lanes of C, float or double.
template <typename C, size_t kLanes>
using ComputeTag = hn::CappedTag<C, kLanes>;

// The coefficients of a run of values: one for all, or one a value.
template <typename C>
struct OneChannel {
  C center;
  C scale;
  C offset;

  template <class D>
  HWY_INLINE hn::Vec<D> Apply(D d, hn::Vec<D> x, size_t /*index*/) const {
    return hn::MulAdd(hn::Sub(x, hn::Set(d, center)), hn::Set(d, scale), hn::Set(d, offset));
  }
};

template <typename C>
struct ChannelPerValue {
  const C* HWY_RESTRICT center;
  const C* HWY_RESTRICT scale;
  const C* HWY_RESTRICT offset;

  template <class D>
  HWY_INLINE hn::Vec<D> Apply(D d, hn::Vec<D> x, size_t index) const {
    return hn::MulAdd(hn::Sub(x, hn::LoadU(d, center + index)), hn::LoadU(d, scale + index),
                      hn::LoadU(d, offset + index));
  }
};

// One row's coefficients, and then a weight and a bias a value, where there are any.
template <typename C, bool kHasWeight, bool kHasBias>
struct WeightedRow {
  OneChannel<C> row;
  const C* HWY_RESTRICT weight;
  const C* HWY_RESTRICT bias;

  template <class D>
  HWY_INLINE hn::Vec<D> Apply(D d, hn::Vec<D> x, size_t index) const {
    const auto normal = row.Apply(d, x, index);
    if constexpr (kHasWeight && kHasBias) {
      return hn::MulAdd(normal, hn::LoadU(d, weight + index), hn::LoadU(d, bias + index));
    } else if constexpr (kHasWeight) {
      return hn::Mul(normal, hn::LoadU(d, weight + index));
    } else if constexpr (kHasBias) {
      return hn::Add(normal, hn::LoadU(d, bias + index));
    } else {
      return normal;
    }
  }
};

template <bool kStream, class D, typename T>
HWY_INLINE void Put(D d, hn::Vec<D> value, T* to) {
  if constexpr (kStream) {
    hn::Stream(value, d, to);
  } else {
    StoreElements(d, value, to);
  }
}

// y[index, count) = the coefficients applied to x[index, count), in vectors of kLanes and then of
// ever fewer lanes.
template <size_t kLanes, typename T, class Coefficients>
HWY_INLINE void NormalizeTail(const T* x, size_t index, size_t count,
                              const Coefficients& coefficients, T* y) {
  const ComputeTag<ComputeType<T>, kLanes> d;
  const size_t lanes = hn::Lanes(d);
  for (; index + lanes <= count; index += lanes) {
    StoreElements(d, coefficients.Apply(d, LoadElements(d, x + index), index), y + index);
  }
  constexpr size_t kFewer = hn::MaxLanes(d) / 2;
  if constexpr (kFewer > 0) NormalizeTail<kFewer>(x, index, count, coefficients, y);
}

// y[0, count) = the coefficients applied to x[0, count). kStream: bypasses the cache where y is
// aligned.
template <bool kStream, typename T, class Coefficients>
HWY_INLINE void NormalizeRun(const T* x, size_t count, const Coefficients& coefficients, T* y) {
  constexpr size_t kLanes = kComputeLanesMax<ComputeType<T>>;
  const ComputeTag<ComputeType<T>, kLanes> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  if constexpr (kStream) {
    const size_t past = reinterpret_cast<uintptr_t>(y) / sizeof(T) % lanes;
    const size_t head = std::min(count, past == 0 ? 0 : lanes - past);
    NormalizeTail<kLanes / 2>(x, 0, head, coefficients, y);
    i = head;
  }
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    const auto v0 = coefficients.Apply(d, LoadElements(d, x + i), i);
    const auto v1 = coefficients.Apply(d, LoadElements(d, x + i + lanes), i + lanes);
    const auto v2 = coefficients.Apply(d, LoadElements(d, x + i + 2 * lanes), i + 2 * lanes);
    const auto v3 = coefficients.Apply(d, LoadElements(d, x + i + 3 * lanes), i + 3 * lanes);
    Put<kStream>(d, v0, y + i);
    Put<kStream>(d, v1, y + i + lanes);
    Put<kStream>(d, v2, y + i + 2 * lanes);
    Put<kStream>(d, v3, y + i + 3 * lanes);
  }
  NormalizeTail<kLanes>(x, i, count, coefficients, y);
}

// Every channel of a sample is a run of `spatial` values.
template <bool kStream, typename T>
void NormalizeSegments(const T* x, const BatchExtents& extents, ChannelRange range,
                       const ChannelPerValue<ComputeType<T>>& channels, T* y) {
  const size_t skipped = (extents.channels - range.count) * extents.spatial;
  x += range.first * extents.spatial;
  y += range.first * extents.spatial;
  for (size_t sample = 0; sample < extents.samples; ++sample) {
    for (size_t channel = range.first; channel < range.first + range.count; ++channel) {
      const OneChannel<ComputeType<T>> coefficients = {
          channels.center[channel], channels.scale[channel], channels.offset[channel]};
      NormalizeRun<kStream>(x, extents.spatial, coefficients, y);
      x += extents.spatial;
      y += extents.spatial;
    }
    x += skipped;
    y += skipped;
  }
}

// `rows` rows of `columns` values, `stride` values apart.
template <bool kStream, typename T>
void NormalizeStridedRows(const T* x, size_t rows, size_t stride, size_t columns,
                          const ChannelPerValue<ComputeType<T>>& coefficients, T* y) {
  for (size_t row = 0; row < rows; ++row) {
    NormalizeRun<kStream>(x + row * stride, columns, coefficients, y + row * stride);
  }
}

// Rows are short, or their channels are: gives every column its own coefficients, and walks
// `replicas` rows as one.
template <bool kStream, typename T>
void NormalizeColumns(const T* x, const BatchExtents& extents, ChannelRange range, size_t replicas,
                      const ChannelPerValue<ComputeType<T>>& channels, T* y) {
  HWY_ALIGN ComputeType<T> center[kStripColumnsMax];
  HWY_ALIGN ComputeType<T> scale[kStripColumnsMax];
  HWY_ALIGN ComputeType<T> offset[kStripColumnsMax];
  const ChannelPerValue<ComputeType<T>> coefficients = {center, scale, offset};
  const size_t spatial = extents.spatial;
  const size_t row_length = extents.channels * spatial;
  const size_t strip = kStripColumnsMax / spatial;
  const size_t wide_rows = extents.samples / replicas;
  const size_t end = range.first + range.count;
  for (size_t first = range.first; first < end; first += strip) {
    const size_t count = std::min(strip, end - first);
    Spread(channels.center + first, count, spatial, replicas, center);
    Spread(channels.scale + first, count, spatial, replicas, scale);
    Spread(channels.offset + first, count, spatial, replicas, offset);
    const size_t start = first * spatial;
    const size_t columns = count * spatial;
    NormalizeStridedRows<kStream>(x + start, wide_rows, row_length * replicas, columns * replicas,
                                  coefficients, y + start);
    const size_t done = wide_rows * replicas;
    const size_t left = (extents.samples - done) * columns;
    NormalizeRun<kStream>(x + start + done * row_length, left, coefficients,
                          y + start + done * row_length);
  }
}

template <bool kStream, typename T>
HWY_INLINE void NormalizeRange(const T* x, const BatchExtents& extents, ChannelRange range,
                               const ChannelPerValue<ComputeType<T>>& channels, T* y) {
  if (extents.spatial >= kComputeLanesMax<ComputeType<T>>) {
    NormalizeSegments<kStream>(x, extents, range, channels, y);
    return;
  }
  const size_t replicas = RangeReplicas<ComputeType<T>>(extents, range);
  if (extents.spatial == 1 && replicas == 1) {
    const ChannelPerValue<ComputeType<T>> coefficients = {
        channels.center + range.first, channels.scale + range.first, channels.offset + range.first};
    NormalizeStridedRows<kStream>(x + range.first, extents.samples, extents.channels, range.count,
                                  coefficients, y + range.first);
  } else {
    NormalizeColumns<kStream>(x, extents, range, replicas, channels, y);
  }
}

template <typename T>
void NormalizeOf(const T* x, const BatchExtents& extents, ChannelRange range,
                 const ComputeType<T>* center, const ComputeType<T>* scale,
                 const ComputeType<T>* offset, T* y) {
  const ChannelPerValue<ComputeType<T>> channels = {center, scale, offset};
  const size_t values = extents.samples * extents.channels * extents.spatial;
  if (values == 0) return;
  if constexpr (kStreams<T>) {
    if (BypassesCache(x, values, RunValues<T>(extents, range), y)) {
      NormalizeRange<true>(x, extents, range, channels, y);
      hwy::FlushStream();
      return;
    }
  }
  NormalizeRange<false>(x, extents, range, channels, y);
}

// ---------------------------------------------------------------------------------------------
// Rows that are weighted by column.

template <bool kStream, bool kHasWeight, bool kHasBias, typename T>
void NormalizeWeightedRows(const T* x, size_t rows, size_t columns,
                           const RowCoefficients<T>& coefficients, T* y) {
  for (size_t row = 0; row < rows; ++row) {
    const WeightedRow<ComputeType<T>, kHasWeight, kHasBias> of_row = {
        {coefficients.center[row], coefficients.scale[row], coefficients.offset[row]},
        coefficients.weight,
        coefficients.bias};
    NormalizeRun<kStream>(x + row * columns, columns, of_row, y + row * columns);
  }
}

template <bool kStream, typename T>
void NormalizeAllRows(const T* x, size_t rows, size_t columns,
                      const RowCoefficients<T>& coefficients, T* y) {
  const bool has_bias = coefficients.bias != nullptr;
  if (coefficients.weight != nullptr) {
    has_bias ? NormalizeWeightedRows<kStream, true, true>(x, rows, columns, coefficients, y)
             : NormalizeWeightedRows<kStream, true, false>(x, rows, columns, coefficients, y);
  } else {
    has_bias ? NormalizeWeightedRows<kStream, false, true>(x, rows, columns, coefficients, y)
             : NormalizeWeightedRows<kStream, false, false>(x, rows, columns, coefficients, y);
  }
}

template <typename T>
void NormalizeRowsOf(const T* x, size_t rows, size_t columns,
                     const RowCoefficients<T>& coefficients, T* y) {
  if constexpr (kStreams<T>) {
    if (BypassesCache(x, rows * columns, columns, y)) {
      NormalizeAllRows<true>(x, rows, columns, coefficients, y);
      hwy::FlushStream();
      return;
    }
  }
  NormalizeAllRows<false>(x, rows, columns, coefficients, y);
}

}  // namespace

// A name for every type, since HWY_EXPORT takes no template.
inline constexpr auto& kNormalizeFloat32 = NormalizeOf<float>;
inline constexpr auto& kNormalizeFloat64 = NormalizeOf<double>;
inline constexpr auto& kNormalizeFloat16 = NormalizeOf<Float16>;
inline constexpr auto& kNormalizeBfloat16 = NormalizeOf<Bfloat16>;
inline constexpr auto& kNormalizeRowsFloat32 = NormalizeRowsOf<float>;
inline constexpr auto& kNormalizeRowsFloat64 = NormalizeRowsOf<double>;
inline constexpr auto& kNormalizeRowsFloat16 = NormalizeRowsOf<Float16>;
inline constexpr auto& kNormalizeRowsBfloat16 = NormalizeRowsOf<Bfloat16>;

}  // namespace HWY_NAMESPACE
}  // namespace normd
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
