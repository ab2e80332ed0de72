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
#include "core/kernels/normalize_plan.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace normd {
namespace HWY_NAMESPACE {
// One .cc alone includes this header. NOLINTNEXTLINE(google-build-namespaces)
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// A vector of floats of at most kFloatLanesMax lanes.
template <size_t kLanes>
using FloatTag = hn::CappedTag<float, kLanes>;

// The coefficients of a run of values: one for all, or one a value.
struct OneChannel {
  float center;
  float scale;
  float offset;

  template <class D>
  HWY_INLINE hn::Vec<D> Apply(D d, hn::Vec<D> x, size_t /*index*/) const {
    return hn::MulAdd(hn::Sub(x, hn::Set(d, center)), hn::Set(d, scale), hn::Set(d, offset));
  }
};

struct ChannelPerValue {
  const float* HWY_RESTRICT center;
  const float* HWY_RESTRICT scale;
  const float* HWY_RESTRICT offset;

  template <class D>
  HWY_INLINE hn::Vec<D> Apply(D d, hn::Vec<D> x, size_t index) const {
    return hn::MulAdd(hn::Sub(x, hn::LoadU(d, center + index)), hn::LoadU(d, scale + index),
                      hn::LoadU(d, offset + index));
  }
};

template <bool kStream, class D>
HWY_INLINE void Put(D d, hn::Vec<D> value, float* to) {
  if constexpr (kStream) {
    hn::Stream(value, d, to);
  } else {
    hn::StoreU(value, d, to);
  }
}

// y[index, count) = the coefficients applied to x[index, count), in vectors of kLanes and then of
// ever fewer lanes.
template <size_t kLanes, class Coefficients>
HWY_INLINE void NormalizeTail(const float* x, size_t index, size_t count,
                              const Coefficients& coefficients, float* y) {
  const FloatTag<kLanes> d;
  const size_t lanes = hn::Lanes(d);
  for (; index + lanes <= count; index += lanes) {
    hn::StoreU(coefficients.Apply(d, hn::LoadU(d, x + index), index), d, y + index);
  }
  if constexpr (kLanes > 1) NormalizeTail<kLanes / 2>(x, index, count, coefficients, y);
}

// y[0, count) = the coefficients applied to x[0, count). kStream: bypasses the cache where y is
// aligned.
template <bool kStream, class Coefficients>
HWY_INLINE void NormalizeRun(const float* x, size_t count, const Coefficients& coefficients,
                             float* y) {
  const FloatTag<kFloatLanesMax> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  if constexpr (kStream) {
    const size_t past = reinterpret_cast<uintptr_t>(y) / sizeof(float) % lanes;
    const size_t head = std::min(count, past == 0 ? 0 : lanes - past);
    NormalizeTail<kFloatLanesMax / 2>(x, 0, head, coefficients, y);
    i = head;
  }
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    const auto v0 = coefficients.Apply(d, hn::LoadU(d, x + i), i);
    const auto v1 = coefficients.Apply(d, hn::LoadU(d, x + i + lanes), i + lanes);
    const auto v2 = coefficients.Apply(d, hn::LoadU(d, x + i + 2 * lanes), i + 2 * lanes);
    const auto v3 = coefficients.Apply(d, hn::LoadU(d, x + i + 3 * lanes), i + 3 * lanes);
    Put<kStream>(d, v0, y + i);
    Put<kStream>(d, v1, y + i + lanes);
    Put<kStream>(d, v2, y + i + 2 * lanes);
    Put<kStream>(d, v3, y + i + 3 * lanes);
  }
  NormalizeTail<kFloatLanesMax>(x, i, count, coefficients, y);
}

// Every channel of a sample is a run of `spatial` values.
template <bool kStream>
void NormalizeSegments(const float* x, const BatchExtents& extents, ChannelRange range,
                       const ChannelPerValue& channels, float* y) {
  const size_t skipped = (extents.channels - range.count) * extents.spatial;
  x += range.first * extents.spatial;
  y += range.first * extents.spatial;
  for (size_t sample = 0; sample < extents.samples; ++sample) {
    for (size_t channel = range.first; channel < range.first + range.count; ++channel) {
      const OneChannel coefficients = {channels.center[channel], channels.scale[channel],
                                       channels.offset[channel]};
      NormalizeRun<kStream>(x, extents.spatial, coefficients, y);
      x += extents.spatial;
      y += extents.spatial;
    }
    x += skipped;
    y += skipped;
  }
}

// `rows` rows of `columns` values, `stride` values apart.
template <bool kStream>
void NormalizeRows(const float* x, size_t rows, size_t stride, size_t columns,
                   const ChannelPerValue& coefficients, float* y) {
  for (size_t row = 0; row < rows; ++row) {
    NormalizeRun<kStream>(x + row * stride, columns, coefficients, y + row * stride);
  }
}

// Repeats every value `spatial` times, then the whole `replicas` times.
HWY_INLINE void Spread(const float* values, size_t count, size_t spatial, size_t replicas,
                       float* HWY_RESTRICT to) {
  if (spatial == 1) {
    std::copy_n(values, count, to);
  } else {
    for (size_t i = 0; i < count; ++i) std::fill_n(to + i * spatial, spatial, values[i]);
  }
  const size_t length = count * spatial;
  for (size_t done = 1; done < replicas;) {
    const size_t more = std::min(done, replicas - done);
    std::copy_n(to, more * length, to + done * length);
    done += more;
  }
}

// Rows are short, or their channels are: gives every column its own coefficients, and walks
// `replicas` rows as one.
template <bool kStream>
void NormalizeColumns(const float* x, const BatchExtents& extents, ChannelRange range,
                      size_t replicas, const ChannelPerValue& channels, float* y) {
  HWY_ALIGN float center[kFloatColumnsMax];
  HWY_ALIGN float scale[kFloatColumnsMax];
  HWY_ALIGN float offset[kFloatColumnsMax];
  const ChannelPerValue coefficients = {center, scale, offset};
  const size_t spatial = extents.spatial;
  const size_t row_length = extents.channels * spatial;
  const size_t strip = kFloatColumnsMax / spatial;
  const size_t wide_rows = extents.samples / replicas;
  const size_t end = range.first + range.count;
  for (size_t first = range.first; first < end; first += strip) {
    const size_t count = std::min(strip, end - first);
    Spread(channels.center + first, count, spatial, replicas, center);
    Spread(channels.scale + first, count, spatial, replicas, scale);
    Spread(channels.offset + first, count, spatial, replicas, offset);
    const size_t start = first * spatial;
    const size_t columns = count * spatial;
    NormalizeRows<kStream>(x + start, wide_rows, row_length * replicas, columns * replicas,
                           coefficients, y + start);
    const size_t done = wide_rows * replicas;
    const size_t left = (extents.samples - done) * columns;
    NormalizeRun<kStream>(x + start + done * row_length, left, coefficients,
                          y + start + done * row_length);
  }
}

template <bool kStream>
HWY_INLINE void NormalizeRange(const float* x, const BatchExtents& extents, ChannelRange range,
                               const ChannelPerValue& channels, float* y) {
  if (extents.spatial >= kFloatLanesMax) {
    NormalizeSegments<kStream>(x, extents, range, channels, y);
    return;
  }
  // Whole rows alone are neighbours.
  const size_t replicas =
      range.count == extents.channels
          ? FloatColumnReplicas(extents.samples, extents.channels * extents.spatial)
          : 1;
  if (extents.spatial == 1 && replicas == 1) {
    const ChannelPerValue coefficients = {
        channels.center + range.first, channels.scale + range.first, channels.offset + range.first};
    NormalizeRows<kStream>(x + range.first, extents.samples, extents.channels, range.count,
                           coefficients, y + range.first);
  } else {
    NormalizeColumns<kStream>(x, extents, range, replicas, channels, y);
  }
}

}  // namespace

inline void NormalizeForTarget(const float* x, const BatchExtents& extents, ChannelRange range,
                               const float* center, const float* scale, const float* offset,
                               float* y) {
  const ChannelPerValue channels = {center, scale, offset};
  const size_t values = extents.samples * extents.channels * extents.spatial;
  if (values == 0) return;
  if (values * sizeof(float) >= kStreamBytesMin && x != y) {
    NormalizeRange<true>(x, extents, range, channels, y);
    hwy::FlushStream();
  } else {
    NormalizeRange<false>(x, extents, range, channels, y);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace normd
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
