// The code of backward.h for one SIMD target. Included by backward.cc alone, once for every target.

#if defined(NORMD_CORE_KERNELS_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NORMD_CORE_KERNELS_BACKWARD_INL_H_
#undef NORMD_CORE_KERNELS_BACKWARD_INL_H_
#else
#define NORMD_CORE_KERNELS_BACKWARD_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/kernels/backward_plan.h"
#include "core/kernels/backward_sums-inl.h"
#include "core/kernels/batch_extents.h"
#include "core/kernels/element-inl.h"
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

// Lanes of a whole vector; walks begin with it and end with ever shorter ones.
template <typename C>
constexpr size_t kComputeLanes = HWY_MIN(kComputeLanesMax<C>, HWY_LANES(C));

// A vector of at most kLanes lanes of what T is computed in.
template <typename T, size_t kLanes>
using ComputeTag = hn::CappedTag<ComputeType<T>, kLanes>;

// The coefficients of a run of values: one for all, one a value, or one for all and a weight each.
template <typename C>
struct GradientOfChannel {
  C center;
  C of_dy;
  C of_x;
  C offset;

  template <class D>
  HWY_INLINE hn::Vec<D> Apply(D d, hn::Vec<D> x, hn::Vec<D> dy, size_t /*index*/) const {
    const auto rest =
        hn::MulAdd(hn::Sub(x, hn::Set(d, center)), hn::Set(d, of_x), hn::Set(d, offset));
    return hn::MulAdd(dy, hn::Set(d, of_dy), rest);
  }
};

template <typename C>
struct GradientPerValue {
  const C* HWY_RESTRICT center;
  const C* HWY_RESTRICT of_dy;
  const C* HWY_RESTRICT of_x;
  const C* HWY_RESTRICT offset;

  template <class D>
  HWY_INLINE hn::Vec<D> Apply(D d, hn::Vec<D> x, hn::Vec<D> dy, size_t index) const {
    const auto rest = hn::MulAdd(hn::Sub(x, hn::LoadU(d, center + index)),
                                 hn::LoadU(d, of_x + index), hn::LoadU(d, offset + index));
    return hn::MulAdd(dy, hn::LoadU(d, of_dy + index), rest);
  }
};

template <typename C>
struct GradientOfWeightedRow {
  GradientOfChannel<C> row;
  const C* HWY_RESTRICT weight;

  template <class D>
  HWY_INLINE hn::Vec<D> Apply(D d, hn::Vec<D> x, hn::Vec<D> dy, size_t index) const {
    return row.Apply(d, x, hn::Mul(dy, hn::LoadU(d, weight + index)), index);
  }
};

template <bool kStream, class D, typename T>
HWY_INLINE void PutGradient(D d, hn::Vec<D> value, T* to) {
  if constexpr (kStream) {
    hn::Stream(value, d, to);
  } else {
    StoreElements(d, value, to);
  }
}

// The gradients of x[index, index + Lanes(d)).
template <class D, class Coefficients, typename T>
HWY_INLINE hn::Vec<D> GradientAt(D d, const T* x, const T* dy, size_t index,
                                 const Coefficients& coefficients) {
  return coefficients.Apply(d, LoadElements(d, x + index), LoadElements(d, dy + index), index);
}

// dx[index, count) = the coefficients applied to x and dy, in vectors of kLanes and then of ever
// fewer lanes.
template <size_t kLanes, class Coefficients, typename T>
HWY_INLINE void GradientTail(const T* x, const T* dy, size_t index, size_t count,
                             const Coefficients& coefficients, T* dx) {
  const ComputeTag<T, kLanes> d;
  const size_t lanes = hn::Lanes(d);
  for (; index + lanes <= count; index += lanes) {
    StoreElements(d, GradientAt(d, x, dy, index, coefficients), dx + index);
  }
  if constexpr (kLanes > 1) GradientTail<kLanes / 2>(x, dy, index, count, coefficients, dx);
}

// dx[0, count) = the coefficients applied to x and dy. kStream: bypasses the cache where dx is
// aligned.
template <bool kStream, class Coefficients, typename T>
HWY_INLINE void GradientRun(const T* x, const T* dy, size_t count, const Coefficients& coefficients,
                            T* dx) {
  constexpr size_t kLanes = kComputeLanes<ComputeType<T>>;
  const ComputeTag<T, kLanes> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  if constexpr (kStream) {
    const size_t past = reinterpret_cast<uintptr_t>(dx) / sizeof(T) % lanes;
    const size_t head = std::min(count, past == 0 ? 0 : lanes - past);
    GradientTail<kLanes>(x, dy, 0, head, coefficients, dx);
    i = head;
  }
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    const auto v0 = GradientAt(d, x, dy, i, coefficients);
    const auto v1 = GradientAt(d, x, dy, i + lanes, coefficients);
    const auto v2 = GradientAt(d, x, dy, i + 2 * lanes, coefficients);
    const auto v3 = GradientAt(d, x, dy, i + 3 * lanes, coefficients);
    PutGradient<kStream>(d, v0, dx + i);
    PutGradient<kStream>(d, v1, dx + i + lanes);
    PutGradient<kStream>(d, v2, dx + i + 2 * lanes);
    PutGradient<kStream>(d, v3, dx + i + 3 * lanes);
  }
  GradientTail<kLanes>(x, dy, i, count, coefficients, dx);
}

// Every channel of a sample is a run of `spatial` values.
template <bool kStream, typename T, typename C = ComputeType<T>>
void SegmentInputGradient(const T* x, const T* dy, const BatchExtents& extents, ChannelRange range,
                          const GradientPerValue<C>& channels, T* dx) {
  const size_t skipped = (extents.channels - range.count) * extents.spatial;
  size_t start = range.first * extents.spatial;
  for (size_t sample = 0; sample < extents.samples; ++sample) {
    for (size_t channel = range.first; channel < range.first + range.count; ++channel) {
      const GradientOfChannel<C> coefficients = {channels.center[channel], channels.of_dy[channel],
                                                 channels.of_x[channel], channels.offset[channel]};
      GradientRun<kStream>(x + start, dy + start, extents.spatial, coefficients, dx + start);
      start += extents.spatial;
    }
    start += skipped;
  }
}

// `rows` rows of `columns` values, `stride` values apart.
template <bool kStream, typename T, typename C = ComputeType<T>>
void ColumnRowsInputGradient(const T* x, const T* dy, size_t rows, size_t stride, size_t columns,
                             const GradientPerValue<C>& coefficients, T* dx) {
  for (size_t row = 0; row < rows; ++row) {
    const size_t start = row * stride;
    GradientRun<kStream>(x + start, dy + start, columns, coefficients, dx + start);
  }
}

// Rows are short, or their channels are: gives every column its own coefficients, and walks
// `replicas` rows as one.
template <bool kStream, typename T, typename C = ComputeType<T>>
void ColumnInputGradient(const T* x, const T* dy, const BatchExtents& extents, ChannelRange range,
                         size_t replicas, const GradientPerValue<C>& channels, T* dx) {
  HWY_ALIGN C center[kStripColumnsMax];
  HWY_ALIGN C of_dy[kStripColumnsMax];
  HWY_ALIGN C of_x[kStripColumnsMax];
  HWY_ALIGN C offset[kStripColumnsMax];
  const GradientPerValue<C> coefficients = {center, of_dy, of_x, offset};
  const size_t spatial = extents.spatial;
  const size_t row_length = extents.channels * spatial;
  const size_t strip = kStripColumnsMax / spatial;
  const size_t wide_rows = extents.samples / replicas;
  const size_t end = range.first + range.count;
  for (size_t first = range.first; first < end; first += strip) {
    const size_t count = std::min(strip, end - first);
    Spread(channels.center + first, count, spatial, replicas, center);
    Spread(channels.of_dy + first, count, spatial, replicas, of_dy);
    Spread(channels.of_x + first, count, spatial, replicas, of_x);
    Spread(channels.offset + first, count, spatial, replicas, offset);
    const size_t columns = count * spatial;
    size_t start = first * spatial;
    ColumnRowsInputGradient<kStream>(x + start, dy + start, wide_rows, row_length * replicas,
                                     columns * replicas, coefficients, dx + start);
    const size_t done = wide_rows * replicas;
    start += done * row_length;
    GradientRun<kStream>(x + start, dy + start, (extents.samples - done) * columns, coefficients,
                         dx + start);
  }
}

template <bool kStream, typename T>
void RangeInputGradient(const T* x, const T* dy, const BatchExtents& extents, ChannelRange range,
                        const GradientCoefficients<T>& coefficients, T* dx) {
  const GradientPerValue<ComputeType<T>> channels = {coefficients.center, coefficients.of_dy,
                                                     coefficients.of_x, coefficients.offset};
  if (extents.spatial >= kComputeLanesMax<ComputeType<T>>) {
    SegmentInputGradient<kStream>(x, dy, extents, range, channels, dx);
    return;
  }
  const size_t replicas = RangeReplicas<ComputeType<T>>(extents, range);
  if (extents.spatial == 1 && replicas == 1) {
    const size_t first = range.first;
    ColumnRowsInputGradient<kStream, T>(x + first, dy + first, extents.samples, extents.channels,
                                        range.count,
                                        {channels.center + first, channels.of_dy + first,
                                         channels.of_x + first, channels.offset + first},
                                        dx + first);
  } else {
    ColumnInputGradient<kStream>(x, dy, extents, range, replicas, channels, dx);
  }
}

template <typename T>
void InputGradient(const T* x, const T* dy, const BatchExtents& extents, ChannelRange range,
                   const GradientCoefficients<T>& coefficients, T* dx) {
  const size_t values = extents.samples * extents.channels * extents.spatial;
  if (values == 0) return;
  if constexpr (kStreams<T>) {
    if (BypassesCache(x, values, RunValues<T>(extents, range), dx) && dy != dx) {
      RangeInputGradient<true>(x, dy, extents, range, coefficients, dx);
      hwy::FlushStream();
      return;
    }
  }
  RangeInputGradient<false>(x, dy, extents, range, coefficients, dx);
}

template <bool kStream, typename T>
void WeightedRowInputGradient(const T* x, const T* dy, size_t rows, size_t columns,
                              const GradientCoefficients<T>& coefficients,
                              const ComputeType<T>* weight, T* dx) {
  for (size_t row = 0; row < rows; ++row) {
    const size_t start = row * columns;
    const GradientOfWeightedRow<ComputeType<T>> of_row = {
        {coefficients.center[row], coefficients.of_dy[row], coefficients.of_x[row],
         coefficients.offset[row]},
        weight};
    GradientRun<kStream>(x + start, dy + start, columns, of_row, dx + start);
  }
}

template <typename T>
void RowInputGradient(const T* x, const T* dy, size_t rows, size_t columns,
                      const GradientCoefficients<T>& coefficients, const ComputeType<T>* weight,
                      T* dx) {
  if (weight == nullptr) {
    // Without it a row is a channel.
    InputGradient(x, dy, {1, rows, columns}, {0, rows}, coefficients, dx);
    return;
  }
  if constexpr (kStreams<T>) {
    if (BypassesCache(x, rows * columns, columns, dx) && dy != dx) {
      WeightedRowInputGradient<true>(x, dy, rows, columns, coefficients, weight, dx);
      hwy::FlushStream();
      return;
    }
  }
  WeightedRowInputGradient<false>(x, dy, rows, columns, coefficients, weight, dx);
}

template <typename T>
HWY_INLINE const BackwardKernels<T>* KernelsOf() {
  static constexpr BackwardKernels<T> kKernels = {GradientSums<T>, InputGradient<T>,
                                                  RowGradientSums<T>, RowInputGradient<T>};
  return &kKernels;
}

}  // namespace

inline const BackwardKernels<float>* BackwardFloat32() { return KernelsOf<float>(); }
inline const BackwardKernels<double>* BackwardFloat64() { return KernelsOf<double>(); }
inline const BackwardKernels<Float16>* BackwardFloat16() { return KernelsOf<Float16>(); }
inline const BackwardKernels<Bfloat16>* BackwardBfloat16() { return KernelsOf<Bfloat16>(); }

}  // namespace HWY_NAMESPACE
}  // namespace normd
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
