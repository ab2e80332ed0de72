#ifndef NORMD_CORE_NORM_WIDE_H_
#define NORMD_CORE_NORM_WIDE_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <vector>

#include "absl/types/span.h"
#include "core/kernels/backward.h"
#include "core/kernels/batch_extents.h"
#include "core/kernels/normalize.h"
#include "core/kernels/normalize_coefficients.h"
#include "core/norm/normalization.h"
#include "core/norm/walk.h"
#include "core/tensor/data_type.h"
#include "core/tensor/half.h"

// What the kernels compute in float32 is computed in float64, one value after another, in channels
// and blocks of rows of which float32 does not hold a coefficient: values of some 1e31 and more or
// a spread below 1e-19 under eps 0, channels with weights below 1e-38, and weights of FLOAT64.
// Rare, and slow. For the walks of forward and backward alone.
namespace normd {

// Whether x - center, with center rounded to C, is finite for every finite x: no center from half a
// unit in the last place of the largest float on. Here and below what is not finite is held: it is
// the same in every type.
template <typename C>
bool HoldsCenter(double center) {
  return std::is_same_v<C, double> || !(std::abs(center) >= 0x1p103) || std::isinf(center);
}

// Whether a term that is finite is so in C.
template <typename C>
bool HoldsTerm(double term) {
  return std::is_same_v<C, double> || !(std::abs(term) > std::numeric_limits<float>::max()) ||
         std::isinf(term);
}

// Whether C holds a factor to all its digits.
template <typename C>
bool HoldsFactor(double factor) {
  return HoldsTerm<C>(factor) && (std::is_same_v<C, double> || factor == 0 ||
                                  !(std::abs(factor) < std::numeric_limits<float>::min()));
}

template <typename C>
bool HoldsTerms(absl::Span<const double> terms) {
  for (const double term : terms) {
    if (!HoldsTerm<C>(term)) return false;
  }
  return true;
}

// What is left of `offset` where the center is rounded to C, and factor times its rounding goes
// into the offset.
template <typename C>
double OffsetIn(double center, double factor, double offset) {
  return offset - (center - static_cast<double>(static_cast<C>(center))) * factor;
}

// Whether C holds (x - center) * scale + offset.
template <typename C>
bool Holds(double center, double scale, double offset) {
  return HoldsCenter<C>(center) && HoldsFactor<C>(scale) &&
         HoldsTerm<C>(OffsetIn<C>(center, scale, offset));
}

// Whether C holds dy * of_dy + (x - center) * of_x + offset.
template <typename C>
bool Holds(double center, double of_dy, double of_x, double offset) {
  return Holds<C>(center, of_x, offset) && HoldsFactor<C>(of_dy);
}

// The same of what stands at `index`.
template <typename C>
bool HoldsAt(Scratch<double, 3>& wide, size_t index) {
  return Holds<C>(wide.At(0, index), wide.At(1, index), wide.At(2, index));
}
template <typename C>
bool HoldsAt(Scratch<double, 4>& wide, size_t index) {
  return Holds<C>(wide.At(0, index), wide.At(1, index), wide.At(2, index), wide.At(3, index));
}

// The channels of `range` whose coefficients C does not hold, ascending.
template <typename C, size_t kArrays>
std::vector<size_t> Unheld(Scratch<double, kArrays>& wide, ChannelRange range) {
  std::vector<size_t> unheld;
  for (size_t c = range.first; c < range.first + range.count; ++c) {
    if (!HoldsAt<C>(wide, c)) unheld.push_back(c);
  }
  return unheld;
}

// Calls use(wide, part) for the parts of `range` that are in `unheld`, which ascends, and
// use(by, part) for the others.
template <typename C, size_t kArrays, typename Use>
void UseParts(Scratch<C, kArrays>& by, Scratch<double, kArrays>& wide,
              absl::Span<const size_t> unheld, ChannelRange range, Use use) {
  const size_t end = range.first + range.count;
  auto next = std::lower_bound(unheld.begin(), unheld.end(), range.first);
  for (size_t at = range.first; at < end;) {
    const size_t held_end = next == unheld.end() ? end : std::min(*next, end);
    if (at < held_end) use(by, ChannelRange{at, held_end - at});
    at = held_end;
    while (at < end && next != unheld.end() && *next == at) {
      ++at;
      ++next;
    }
    if (held_end < at) use(wide, ChannelRange{held_end, at - held_end});
  }
}

// Calls set(by), which fills it for the channels of `range` and tells whether its type holds
// everything, and then use(by, range). Where it does not, the channels that it does not hold are
// set and used with float64.
template <typename C, size_t kArrays, typename Set, typename Use>
void SetAndUseChannels(Scratch<C, kArrays>& by, ChannelRange range, Set set, Use use) {
  if (set(by)) {
    use(by, range);
  } else if constexpr (!std::is_same_v<C, double>) {
    Scratch<double, kArrays> wide(range.count, range.first);
    set(wide);
    UseParts(by, wide, Unheld<C>(wide, range), range, use);
  }
}

// Calls set(by), which fills it for the rows of `range` and tells whether its type holds
// everything, and then use(by); both with float64 instead where it does not.
template <typename C, size_t kArrays, typename Set, typename Use>
void SetAndUse(Scratch<C, kArrays>& by, ChannelRange range, Set set, Use use) {
  if (set(by)) {
    use(by);
  } else if constexpr (!std::is_same_v<C, double>) {
    Scratch<double, kArrays> wide(range.count, range.first);
    set(wide);
    use(wide);
  }
}

// Center, scale and offset of channels or rows.
template <typename C>
using Coefficients = Scratch<C, 3>;

// (x - mean) * scale + bias for one channel, as the kernels take it: the part of the mean that C
// cannot hold goes into the offset. Whether C holds the rest.
template <typename C>
bool SetCoefficient(double mean, double scale, double bias, size_t index, Coefficients<C>& to) {
  to.At(0, index) = static_cast<C>(mean);
  to.At(1, index) = static_cast<C>(scale);
  to.At(2, index) = static_cast<C>(OffsetIn<C>(mean, scale, bias));
  return Holds<C>(mean, scale, bias);
}

// ComputeNormalizeCoefficients of the channels of `range`, each array beginning at the range's
// first channel but for the parameters of `affine`, which begin at channel 0.
inline bool SetFloatCoefficients(const double* mean, const double* var, double eps,
                                 const Affine& affine, ChannelRange range, float* center,
                                 float* scale, float* offset) {
  const auto from = [&](absl::Span<const double> values) {
    return values.empty() ? nullptr : values.data() + range.first;
  };
  return ComputeNormalizeCoefficients({.mean = mean,
                                       .var = var,
                                       .eps = eps,
                                       .weight = from(affine.weight),
                                       .bias = from(affine.bias)},
                                      range.count, center, scale, offset);
}

// SetCoefficient for (x - mean) / sqrt(var + eps) * weight + bias of the channels of `range`.
// `mean` and `var` begin at the range's first channel, the parameters of `affine` at channel 0.
// Whether C holds all of them. REQUIRES: with float, the indices of `to` begin at 0.
template <typename C>
bool SetCoefficients(const double* mean, const double* var, double eps, const Affine& affine,
                     ChannelRange range, Coefficients<C>& to) {
  if constexpr (std::is_same_v<C, float>) {
    return SetFloatCoefficients(mean, var, eps, affine, range, to[0] + range.first,
                                to[1] + range.first, to[2] + range.first);
  } else {
    for (size_t c = range.first; c < range.first + range.count; ++c) {
      const size_t i = c - range.first;
      SetCoefficient(mean[i], 1.0 / std::sqrt(var[i] + eps) * WeightOf(affine, c),
                     BiasOf(affine, c), c, to);
    }
    return true;
  }
}

inline void StoreRounded(double value, float* to) { *to = static_cast<float>(value); }
inline void StoreRounded(double value, Float16* to) { *to = ToFloat16(static_cast<float>(value)); }
inline void StoreRounded(double value, Bfloat16* to) {
  *to = ToBfloat16(static_cast<float>(value));
}

// visit(index, channel) for every value of the channels of `range`.
template <typename Visit>
void ForEachValue(const BatchExtents& extents, ChannelRange range, Visit visit) {
  for (size_t sample = 0; sample < extents.samples; ++sample) {
    for (size_t channel = range.first; channel < range.first + range.count; ++channel) {
      const size_t begin = (sample * extents.channels + channel) * extents.spatial;
      for (size_t i = begin; i < begin + extents.spatial; ++i) visit(i, channel);
    }
  }
}

// Normalize by center, scale and offset, of which those of the first channel stand at `begin`.
template <typename T, typename C>
void NormalizeBy(const T* x, const BatchExtents& extents, ChannelRange range, Scratch<C, 3>& by,
                 T* y, size_t begin = 0) {
  if constexpr (std::is_same_v<C, ComputeType<T>>) {
    Normalize(x, extents, range, by[0] + begin, by[1] + begin, by[2] + begin, y);
  } else {
    ForEachValue(extents, range, [&](size_t i, size_t channel) {
      const size_t c = begin + channel;
      StoreRounded((ToDouble(ValueAt(x + i)) - by.At(0, c)) * by.At(1, c) + by.At(2, c), y + i);
    });
  }
}

// ComputeInputGradient by center, of_dy, of_x and offset, of which those of the first channel stand
// at `begin`.
template <typename T, typename C>
void InputGradientBy(const T* x, const T* dy, const BatchExtents& extents, ChannelRange range,
                     Scratch<C, 4>& by, T* dx, size_t begin = 0) {
  if constexpr (std::is_same_v<C, ComputeType<T>>) {
    ComputeInputGradient<T>(x, dy, extents, range,
                            {.center = by[0] + begin,
                             .of_dy = by[1] + begin,
                             .of_x = by[2] + begin,
                             .offset = by[3] + begin},
                            dx);
  } else {
    ForEachValue(extents, range, [&](size_t i, size_t channel) {
      const size_t c = begin + channel;
      StoreRounded(ToDouble(ValueAt(dy + i)) * by.At(1, c) +
                       (ToDouble(ValueAt(x + i)) - by.At(0, c)) * by.At(2, c) + by.At(3, c),
                   dx + i);
    });
  }
}

// Weight or bias of rows; in C for the kernels, as far as C holds them.
template <typename C>
class RowParameter {
 public:
  explicit RowParameter(absl::Span<const double> values)
      : values_(values), rounded_(values.begin(), values.end()), held_(HoldsTerms<C>(values)) {}

  bool held() const { return held_; }
  // Null where there is none.
  const C* rounded() const { return rounded_.empty() ? nullptr : rounded_.data(); }
  // The value of a column; `none` where there is none.
  double At(size_t column, double none) const { return values_.empty() ? none : values_[column]; }

 private:
  absl::Span<const double> values_;
  std::vector<C> rounded_;
  bool held_;
};

// NormalizeRows by center, scale and offset.
template <typename T, typename C>
void NormalizeRowsBy(const T* x, size_t rows, size_t columns, Scratch<C, 3>& by,
                     const RowParameter<ComputeType<T>>& weight,
                     const RowParameter<ComputeType<T>>& bias, T* y) {
  if constexpr (std::is_same_v<C, ComputeType<T>>) {
    NormalizeRows<T>(x, rows, columns,
                     {.center = by[0],
                      .scale = by[1],
                      .offset = by[2],
                      .weight = weight.rounded(),
                      .bias = bias.rounded()},
                     y);
  } else {
    ForEachValue({1, rows, columns}, {0, rows}, [&](size_t i, size_t row) {
      const double normal =
          (ToDouble(ValueAt(x + i)) - by.At(0, row)) * by.At(1, row) + by.At(2, row);
      StoreRounded(normal * weight.At(i % columns, 1.0) + bias.At(i % columns, 0.0), y + i);
    });
  }
}

// ComputeRowGradientSums for a weight that may not be held.
template <typename T>
void RowGradientSums(const T* x, const T* dy, size_t rows, size_t columns, const double* mean,
                     const double* invstd, const RowParameter<ComputeType<T>>& weight,
                     double* row_sum, double* row_dot, double* grad_weight, double* grad_bias) {
  if (weight.held()) {
    ComputeRowGradientSums(x, dy, rows, columns, mean, invstd, weight.rounded(), row_sum, row_dot,
                           grad_weight, grad_bias);
    return;
  }
  std::fill_n(row_sum, rows, 0.0);
  std::fill_n(row_dot, rows, 0.0);
  ForEachValue({1, rows, columns}, {0, rows}, [&](size_t i, size_t row) {
    const size_t column = i % columns;
    const double gradient = ToDouble(ValueAt(dy + i));
    const double shifted = ToDouble(ValueAt(x + i)) - mean[row];
    row_sum[row] += weight.At(column, 1.0) * gradient;
    row_dot[row] += weight.At(column, 1.0) * gradient * shifted;
    if (grad_weight != nullptr) grad_weight[column] += gradient * shifted * invstd[row];
    if (grad_bias != nullptr) grad_bias[column] += gradient;
  });
}

// ComputeRowInputGradient by center, of_dy, of_x and offset.
template <typename T, typename C>
void RowInputGradientBy(const T* x, const T* dy, size_t rows, size_t columns, Scratch<C, 4>& by,
                        const RowParameter<ComputeType<T>>& weight, T* dx) {
  if constexpr (std::is_same_v<C, ComputeType<T>>) {
    ComputeRowInputGradient<T>(x, dy, rows, columns,
                               {.center = by[0], .of_dy = by[1], .of_x = by[2], .offset = by[3]},
                               weight.rounded(), dx);
  } else {
    ForEachValue({1, rows, columns}, {0, rows}, [&](size_t i, size_t row) {
      StoreRounded(ToDouble(ValueAt(dy + i)) * weight.At(i % columns, 1.0) * by.At(1, row) +
                       (ToDouble(ValueAt(x + i)) - by.At(0, row)) * by.At(2, row) + by.At(3, row),
                   dx + i);
    });
  }
}

}  // namespace normd

#endif  // NORMD_CORE_NORM_WIDE_H_
