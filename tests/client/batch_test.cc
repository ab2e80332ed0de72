#include "client/cpp/batch.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/seeded_random.h"

namespace normd::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// `value` rounded to `dtype`, as a double.
double Rounded(double value, DataType dtype) {
  const std::vector<double> values = {value};
  const auto batch = Convert(Batch::Borrow({1}, values), dtype);
  EXPECT_TRUE(batch.ok()) << batch.status();
  return batch.ok() ? ToDoubles(*batch)[0] : std::nan("");
}

TEST(BatchTest, BorrowsTheBytesOfEveryDtype) {
  const std::vector<float> floats = {1, 2};
  const std::vector<double> doubles = {3, 4};
  const Batch of_floats = Batch::Borrow({1, 2}, floats, Layout::kChannelsLast);
  EXPECT_EQ(of_floats.dtype(), DataType::kFloat32);
  EXPECT_EQ(of_floats.layout(), Layout::kChannelsLast);
  EXPECT_EQ(static_cast<const void*>(of_floats.bytes().data()), floats.data());
  EXPECT_THAT(of_floats.values(), ElementsAre(1, 2));
  const Batch of_doubles = Batch::Borrow({2, 1}, doubles);
  EXPECT_EQ(of_doubles.dtype(), DataType::kFloat64);
  EXPECT_EQ(static_cast<const void*>(of_doubles.bytes().data()), doubles.data());
  EXPECT_THAT(of_doubles.doubles(), ElementsAre(3, 4));
  const uint16_t halves[] = {0x3c00, 0xc000};
  const Batch of_halves =
      Batch::Borrow({2}, DataType::kFloat16, {reinterpret_cast<const char*>(halves), 4});
  EXPECT_EQ(of_halves.num_elements(), 2);
  EXPECT_THAT(ToDoubles(of_halves), ElementsAre(1, -2));
  const uint16_t brains[] = {0x3f80, 0xc000};
  const Batch of_brains =
      Batch::Borrow({2}, DataType::kBfloat16, {reinterpret_cast<const char*>(brains), 4});
  EXPECT_THAT(ToDoubles(of_brains), ElementsAre(1, -2));
}

TEST(BatchTest, OwnsValuesThatItsCopiesShare) {
  Batch copy;
  {
    const Batch floats = Batch::Own({1, 2}, {1, 2});
    EXPECT_EQ(floats.dtype(), DataType::kFloat32);
    copy = floats;
    EXPECT_EQ(copy.bytes().data(), floats.bytes().data());
  }
  EXPECT_THAT(copy.values(), ElementsAre(1, 2));
  copy = Batch::Own({1, 2}, std::vector<double>{0.1, 2});
  EXPECT_THAT(copy.doubles(), ElementsAre(0.1, 2));
  copy = Batch::Own({1, 2}, DataType::kFloat16, std::string("\x00\x3c\x00\x40", 4));
  EXPECT_THAT(ToDoubles(copy), ElementsAre(1, 2));
}

TEST(BatchConvertTest, RoundsToNearestEven) {
  // 1 + 2^-11 lies between two float16, 1 + 2^-8 between two bfloat16.
  EXPECT_EQ(Rounded(1 + 0x1p-11, DataType::kFloat16), 1);
  EXPECT_EQ(Rounded(1 + 3 * 0x1p-11, DataType::kFloat16), 1 + 0x1p-9);
  EXPECT_EQ(Rounded(1 + 0x1p-8, DataType::kBfloat16), 1);
  EXPECT_EQ(Rounded(1 + 3 * 0x1p-8, DataType::kBfloat16), 1 + 0x1p-6);
  EXPECT_EQ(Rounded(0.1, DataType::kFloat32), static_cast<double>(0.1f));
  EXPECT_EQ(Rounded(0x1p-24, DataType::kFloat16), 0x1p-24);
  EXPECT_EQ(Rounded(0x1p-25, DataType::kFloat16), 0);
  EXPECT_EQ(Rounded(-0x1.8p-25, DataType::kFloat16), -0x1p-24);
}

TEST(BatchConvertTest, RoundsOnceWhereRoundingByFloat32WouldRoundTwice) {
  EXPECT_EQ(Rounded(1 + 0x1p-11 + 0x1p-40, DataType::kFloat16), 1 + 0x1p-10);
  EXPECT_EQ(Rounded(1 + 0x1p-8 + 0x1p-40, DataType::kBfloat16), 1 + 0x1p-7);
  EXPECT_EQ(Rounded(1 + 3 * 0x1p-11 - 0x1p-40, DataType::kFloat16), 1 + 0x1p-10);
  EXPECT_EQ(Rounded(-1 - 0x1p-11 - 0x1p-40, DataType::kFloat16), -1 - 0x1p-10);
}

TEST(BatchConvertTest, IsTheNearestOfAllFloat16ForRandomValues) {
  SeededRandom random;
  std::uniform_real_distribution<double> exponent(-27, 16);
  for (int i = 0; i < 20000; ++i) {
    const double value = std::exp2(exponent(random)) * (random() % 2 == 0 ? 1 : -1);
    if (std::abs(value) >= 65520) continue;
    const double rounded = Rounded(value, DataType::kFloat16);
    // The distance of float16 neighbours around `value`.
    const double step = std::max(std::exp2(std::floor(std::log2(std::abs(value))) - 10), 0x1p-24);
    EXPECT_LE(std::abs(rounded - value), step / 2) << value;
    EXPECT_EQ(std::fmod(rounded, 0x1p-24), 0) << value;
  }
}

TEST(BatchConvertTest, KeepsWhatIsNotFiniteAndRefusesWhatDoesNotFit) {
  for (const DataType dtype : {DataType::kFloat32, DataType::kFloat16, DataType::kBfloat16}) {
    EXPECT_EQ(Rounded(kInfinity, dtype), kInfinity);
    EXPECT_EQ(Rounded(-kInfinity, dtype), -kInfinity);
    EXPECT_TRUE(std::isnan(Rounded(std::nan(""), dtype)));
    const std::vector<double> values = {1, 1e39};
    const absl::Status status = Convert(Batch::Borrow({2}, values), dtype).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(std::string("1e+39 does not fit in ") + std::string(DataTypeName(dtype)) +
                          " (element 1)"));
  }
  EXPECT_EQ(Rounded(65519.9, DataType::kFloat16), 65504);
}

TEST(BatchConvertTest, SharesTheBytesWhenTheDtypeIsTheSame) {
  const Batch batch = Batch::Own({1, 2}, {1, 2}, Layout::kChannelsLast);
  const auto same = Convert(batch, DataType::kFloat32);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->bytes().data(), batch.bytes().data());
  const auto wide = Convert(batch, DataType::kFloat64);
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_THAT(wide->doubles(), ElementsAre(1, 2));
  EXPECT_THAT(wide->shape(), ElementsAre(1, 2));
  EXPECT_EQ(wide->layout(), Layout::kChannelsLast);
}

}  // namespace
}  // namespace normd::client
