// Vectors of one element type after another, for the kernels of one SIMD target: whatever the type
// in memory, a kernel computes in float32 or float64.

#if defined(NORMD_CORE_KERNELS_ELEMENT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NORMD_CORE_KERNELS_ELEMENT_INL_H_
#undef NORMD_CORE_KERNELS_ELEMENT_INL_H_
#else
#define NORMD_CORE_KERNELS_ELEMENT_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "core/tensor/data_type.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace normd {
namespace HWY_NAMESPACE {
// Each .cc that includes this has a copy of its own. NOLINTNEXTLINE(google-build-namespaces)
namespace {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
#define NORMD_CPU_CONVERTS_FLOAT16 1
#else
#define NORMD_CPU_CONVERTS_FLOAT16 0
#endif

// The float32 of float16 bits; Highway's PromoteTo knows neither infinity nor NaN where the CPU
// does not convert.
template <size_t kLanes, int kPower>
HWY_INLINE auto FromFloat16Bits(hn::Simd<float, kLanes, kPower> d, const uint16_t* HWY_RESTRICT x) {
  using D = decltype(d);
  const hn::Rebind<uint16_t, D> u16;
  const hn::RebindToUnsigned<D> u32;
  const auto bits = hn::PromoteTo(u32, hn::LoadU(u16, x));
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(u32, 0x8000)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(u32, 0x7fff)));
  const auto rebase = hn::Set(u32, (127 - 15) << 23);
  const auto normal = hn::Add(magnitude, rebase);
  // Of a zero or subnormal the next exponent's smallest value, which it was added to, is taken off.
  const auto smallest = hn::Set(u32, (127 - 14) << 23);
  const auto subnormal = hn::BitCast(
      u32, hn::Sub(hn::BitCast(d, hn::Add(magnitude, smallest)), hn::BitCast(d, smallest)));
  const auto special = hn::Add(normal, rebase);
  auto result = hn::IfThenElse(hn::Lt(magnitude, hn::Set(u32, 1 << 23)), subnormal, normal);
  result = hn::IfThenElse(hn::Gt(magnitude, hn::Set(u32, (31 << 23) - 1)), special, result);
  return hn::BitCast(d, hn::Or(result, sign));
}

// Lanes(d) values from x, at any address; Highway asks of a single float or double to be aligned.
template <class D>
HWY_INLINE hn::Vec<D> LoadAnywhere(D d, const hn::TFromD<D>* HWY_RESTRICT x) {
  if constexpr (hn::MaxLanes(d) == 1) {
    return hn::Set(d, ValueAt(x));
  } else {
    return hn::LoadU(d, x);
  }
}

// Lanes(d) elements from x, at any address, widened to the lanes of `d`, which are float or double.
template <size_t kLanes, int kPower>
HWY_INLINE auto LoadElements(hn::Simd<float, kLanes, kPower> d, const float* HWY_RESTRICT x) {
  return LoadAnywhere(d, x);
}

template <size_t kLanes, int kPower>
HWY_INLINE auto LoadElements(hn::Simd<float, kLanes, kPower> d, const Float16* HWY_RESTRICT x) {
#if NORMD_CPU_CONVERTS_FLOAT16
  const hn::Rebind<hwy::float16_t, decltype(d)> half;
  return hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(x)));
#else
  return FromFloat16Bits(d, reinterpret_cast<const uint16_t*>(x));
#endif
}

template <size_t kLanes, int kPower>
HWY_INLINE auto LoadElements(hn::Simd<float, kLanes, kPower> d, const Bfloat16* HWY_RESTRICT x) {
  const hn::Rebind<hwy::bfloat16_t, decltype(d)> half;
  return hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const hwy::bfloat16_t*>(x)));
}

template <size_t kLanes, int kPower>
HWY_INLINE auto LoadElements(hn::Simd<double, kLanes, kPower> d, const double* HWY_RESTRICT x) {
  return LoadAnywhere(d, x);
}

template <size_t kLanes, int kPower, typename T>
HWY_INLINE auto LoadElements(hn::Simd<double, kLanes, kPower> d, const T* HWY_RESTRICT x) {
  return hn::PromoteTo(d, LoadElements(hn::Rebind<float, decltype(d)>(), x));
}

// `value` rounded to nearest even to the bits of a bfloat16; a NaN stays one. Highway's DemoteTo
// truncates.
template <class D, class DU16 = hn::Rebind<uint16_t, D>>
HWY_INLINE hn::Vec<DU16> ToBfloat16Bits(D /*d*/, hn::Vec<D> value) {
  const hn::RebindToUnsigned<D> u32;
  const hn::RebindToSigned<D> i32;
  const auto bits = hn::BitCast(u32, value);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(u32, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(u32, 0x7fff)), odd));
  const auto quiet = hn::Or(upper, hn::Set(u32, 0x40));
  const auto is_nan = hn::RebindMask(u32, hn::IsNaN(value));
  return hn::DemoteTo(DU16(), hn::BitCast(i32, hn::IfThenElse(is_nan, quiet, rounded)));
}

// `value` rounded to nearest even to the bits of a float16, by integer arithmetic (see
// core/tensor/half.cc): Highway's DemoteTo rounds so only where the CPU does it.
template <class D, class DU16 = hn::Rebind<uint16_t, D>>
HWY_INLINE hn::Vec<DU16> ToFloat16Bits(D d, hn::Vec<D> value) {
  const hn::RebindToUnsigned<D> u32;
  const hn::RebindToSigned<D> i32;
  const auto bits = hn::BitCast(i32, value);
  const auto magnitude = hn::And(bits, hn::Set(i32, 0x7fffffff));
  const auto sign = hn::BitCast(
      i32, hn::ShiftRight<16>(hn::And(hn::BitCast(u32, value), hn::Set(u32, 0x80000000U))));

  const auto rebased = hn::Sub(magnitude, hn::Set(i32, (127 - 15) << 23));
  const auto odd = hn::And(hn::ShiftRight<13>(rebased), hn::Set(i32, 1));
  const auto normal = hn::ShiftRight<13>(hn::Add(hn::Add(rebased, hn::Set(i32, 0xfff)), odd));
  const auto half = hn::Set(d, 0.5F);
  const auto subnormal =
      hn::Sub(hn::BitCast(i32, hn::Add(hn::BitCast(d, magnitude), half)), hn::BitCast(i32, half));
  auto result =
      hn::IfThenElse(hn::Lt(magnitude, hn::Set(i32, (127 - 14) << 23)), subnormal, normal);
  // From 65520 on the nearest is infinity.
  result =
      hn::IfThenElse(hn::Gt(magnitude, hn::Set(i32, 0x477fefff)), hn::Set(i32, 0x7c00), result);
  const auto payload = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(i32, 0x1ff));
  result = hn::IfThenElse(hn::Gt(magnitude, hn::Set(i32, 0x7f800000)),
                          hn::Or(payload, hn::Set(i32, 0x7e00)), result);
  return hn::DemoteTo(DU16(), hn::Or(result, sign));
}

// Rounds the lanes of `value` to nearest even and stores them at x.
template <class D>
HWY_INLINE void StoreElements(D d, hn::Vec<D> value, float* HWY_RESTRICT x) {
  hn::StoreU(value, d, x);
}

template <class D>
HWY_INLINE void StoreElements(D d, hn::Vec<D> value, double* HWY_RESTRICT x) {
  hn::StoreU(value, d, x);
}

template <class D>
HWY_INLINE void StoreElements(D d, hn::Vec<D> value, Float16* HWY_RESTRICT x) {
#if NORMD_CPU_CONVERTS_FLOAT16
  const hn::Rebind<hwy::float16_t, D> half;
  hn::StoreU(hn::DemoteTo(half, value), half, reinterpret_cast<hwy::float16_t*>(x));
#else
  const hn::Rebind<uint16_t, D> half;
  hn::StoreU(ToFloat16Bits(d, value), half, reinterpret_cast<uint16_t*>(x));
#endif
}

template <class D>
HWY_INLINE void StoreElements(D d, hn::Vec<D> value, Bfloat16* HWY_RESTRICT x) {
  const hn::Rebind<uint16_t, D> half;
  hn::StoreU(ToBfloat16Bits(d, value), half, reinterpret_cast<uint16_t*>(x));
}

#undef NORMD_CPU_CONVERTS_FLOAT16

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace normd
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
