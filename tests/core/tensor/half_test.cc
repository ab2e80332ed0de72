#include "core/tensor/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

namespace normd {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kLargest = std::numeric_limits<float>::max();

// What IEEE 754 says of a 16-bit pattern of 1 sign bit, `exponent_bits` and the fraction.
double Decode(uint16_t bits, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits;
  const int exponent_max = (1 << exponent_bits) - 1;
  const int exponent = (bits >> fraction_bits) & exponent_max;
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const int bias = exponent_max / 2;
  double magnitude = 0;
  if (exponent == exponent_max) {
    magnitude = fraction == 0 ? static_cast<double>(kInf) : static_cast<double>(kNan);
  } else if (exponent == 0) {
    magnitude = std::ldexp(fraction, 1 - bias - fraction_bits);
  } else {
    magnitude = std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
  }
  return std::copysign(magnitude, (bits & 0x8000) != 0 ? -1.0 : 1.0);
}

struct Float16Kind {
  using Type = Float16;
  static constexpr int kExponentBits = 5;
  static constexpr uint16_t kInfinity = 0x7c00;
  static Type From(float value) { return ToFloat16(value); }
};

struct Bfloat16Kind {
  using Type = Bfloat16;
  static constexpr int kExponentBits = 8;
  static constexpr uint16_t kInfinity = 0x7f80;
  static Type From(float value) { return ToBfloat16(value); }
};

template <class Kind>
class HalfTest : public testing::Test {
 protected:
  static float Value(int bits) { return ToFloat(typename Kind::Type{static_cast<uint16_t>(bits)}); }
  static int Bits(float value) { return Kind::From(value).bits; }
};

class KindNames {
 public:
  template <class Kind>
  static std::string GetName(int /*index*/) {
    return std::is_same_v<Kind, Float16Kind> ? "Float16" : "Bfloat16";
  }
};

using Kinds = testing::Types<Float16Kind, Bfloat16Kind>;
TYPED_TEST_SUITE(HalfTest, Kinds, KindNames);

TYPED_TEST(HalfTest, EveryPatternHasItsValueAndComesBack) {
  for (int bits = 0; bits <= 0xffff; ++bits) {
    const double expected = Decode(static_cast<uint16_t>(bits), TypeParam::kExponentBits);
    const float value = this->Value(bits);
    ASSERT_EQ(std::signbit(value), std::signbit(expected)) << bits;
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      const int quiet_bit = 1 << (14 - TypeParam::kExponentBits);
      ASSERT_EQ(this->Bits(value), bits | quiet_bit) << bits;
    } else {
      ASSERT_EQ(static_cast<double>(value), expected) << bits;
      ASSERT_EQ(this->Bits(value), bits) << bits;
    }
  }
}

// Between every two neighbours: the middle goes to the even one, what lies beside it to the nearer.
TYPED_TEST(HalfTest, TiesGoToEvenAndTheRestToTheNearest) {
  for (int bits = 0; bits + 1 < TypeParam::kInfinity; ++bits) {
    const double low = static_cast<double>(this->Value(bits));
    const double high = static_cast<double>(this->Value(bits + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    ASSERT_EQ(static_cast<double>(middle) - low, high - static_cast<double>(middle)) << bits;
    const int even = bits % 2 == 0 ? bits : bits + 1;
    for (int sign : {0, 0x8000}) {
      const float factor = sign == 0 ? 1.0F : -1.0F;
      ASSERT_EQ(this->Bits(factor * middle), sign | even) << bits;
      ASSERT_EQ(this->Bits(factor * std::nextafter(middle, 0.0F)), sign | bits) << bits;
      ASSERT_EQ(this->Bits(factor * std::nextafter(middle, kInf)), sign | (bits + 1)) << bits;
    }
  }
}

TYPED_TEST(HalfTest, TooLargeBecomesInfinity) {
  const int largest = TypeParam::kInfinity - 1;
  const double below = static_cast<double>(this->Value(largest - 1));
  const double last = static_cast<double>(this->Value(largest));
  // Half a step past the largest value is a tie, and infinity is the even one.
  const auto tie = static_cast<float>(last + (last - below) / 2);
  for (int sign : {0, 0x8000}) {
    const float factor = sign == 0 ? 1.0F : -1.0F;
    EXPECT_EQ(this->Bits(factor * std::nextafter(tie, 0.0F)), sign | largest);
    EXPECT_EQ(this->Bits(factor * tie), sign | TypeParam::kInfinity);
    EXPECT_EQ(this->Bits(factor * kLargest), sign | TypeParam::kInfinity);
    EXPECT_EQ(this->Bits(factor * kInf), sign | TypeParam::kInfinity);
  }
}

TYPED_TEST(HalfTest, TooSmallBecomesZeroOfItsSign) {
  const float smallest = this->Value(1);
  for (int sign : {0, 0x8000}) {
    const float factor = sign == 0 ? 1.0F : -1.0F;
    EXPECT_EQ(this->Bits(factor * smallest / 2), sign);
    EXPECT_EQ(this->Bits(factor * std::nextafter(smallest / 2, kInf)), sign | 1);
    EXPECT_EQ(this->Bits(factor * 0.0F), sign);
    EXPECT_EQ(this->Bits(factor * std::numeric_limits<float>::denorm_min()), sign);
  }
}

// A NaN whose set bits are all lost by the cut must not become an infinity.
TYPED_TEST(HalfTest, NanStaysNanOfItsSign) {
  for (uint32_t payload :
       {0x1U, 0xfffU, 0x1000U, 0x2000U, 0xffffU, 0x10000U, 0x400000U, 0x7fffffU}) {
    for (uint32_t sign : {0U, 0x80000000U}) {
      const int bits = this->Bits(std::bit_cast<float>(sign | 0x7f800000U | payload));
      EXPECT_EQ(bits & 0x8000, static_cast<int>(sign >> 16));
      EXPECT_GT(bits & 0x7fff, TypeParam::kInfinity) << payload;
    }
  }
}

}  // namespace
}  // namespace normd
