#include "core/tensor/half.h"

#include <bit>
#include <cstdint>

namespace normd {
namespace {

constexpr uint32_t kSign = 0x80000000;
constexpr uint32_t kInfinity = 0x7f800000;

// `bits` without its lowest `shift` bits, rounded to nearest even.
constexpr uint32_t RoundedShift(uint32_t bits, int shift) {
  const uint32_t odd = (bits >> shift) & 1;
  return (bits + ((uint32_t{1} << (shift - 1)) - 1) + odd) >> shift;
}

}  // namespace

float ToFloat(Float16 value) {
  const uint32_t sign = uint32_t{value.bits & 0x8000U} << 16;
  const uint32_t exponent = (value.bits >> 10) & 0x1f;
  const uint32_t mantissa = value.bits & 0x3ff;
  if (exponent == 0) {  // zero or subnormal: mantissa x 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t wide = exponent == 0x1f ? 0xff : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

float ToFloat(Bfloat16 value) { return std::bit_cast<float>(uint32_t{value.bits} << 16); }

Float16 ToFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits & kSign) >> 16);
  const uint32_t magnitude = bits & ~kSign;
  uint32_t half = 0;
  if (magnitude > kInfinity) {
    half = 0x7e00 | ((magnitude >> 13) & 0x1ff);  // a quiet NaN
  } else if (magnitude >= std::bit_cast<uint32_t>(65520.0F)) {
    half = 0x7c00;
  } else if (magnitude >= std::bit_cast<uint32_t>(0x1p-14F)) {
    half = RoundedShift(magnitude - (uint32_t{127 - 15} << 23), 13);
  } else {
    // Subnormal: adding 2^-1, whose last bit is 2^-24, rounds to a multiple of that.
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) -
           std::bit_cast<uint32_t>(0.5F);
  }
  return {static_cast<uint16_t>(sign | half)};
}

Bfloat16 ToBfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & ~kSign) > kInfinity) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  return {static_cast<uint16_t>(RoundedShift(bits, 16))};
}

}  // namespace normd
