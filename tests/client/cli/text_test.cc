#include "client/cli/text.h"

#include <limits>
#include <vector>

#include "absl/time/time.h"
#include "client/cli/progress_bar.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normd::cli {
namespace {

using ::testing::ElementsAre;

TEST(FormatNumbersTest, RoundsToFourDecimals) {
  EXPECT_THAT(FormatNumbers({31.97579f, -0.5f, 1}), ElementsAre("31.9758", "-0.5000", "1.0000"));
  EXPECT_THAT(FormatNumbers({176176.578125f, 9769.54199f}),
              ElementsAre("176176.5781", "9769.5420"));
  EXPECT_THAT(FormatNumbers({0, 0}), ElementsAre("0.0000", "0.0000"));
}

TEST(FormatNumbersTest, GoesScientificWherePyTorchDoes) {
  EXPECT_THAT(FormatNumbers({1001, 1}), ElementsAre("1.0010e+03", "1.0000e+00"));
  EXPECT_THAT(FormatNumbers({1000, 1, 0}), ElementsAre("1000.0000", "1.0000", "0.0000"));
  EXPECT_THAT(FormatNumbers({2e8f}), ElementsAre("2.0000e+08"));
  EXPECT_THAT(FormatNumbers({0.00005f}), ElementsAre("5.0000e-05"));
}

TEST(FormatNumbersTest, LeavesNonFiniteValuesOutOfTheDecision) {
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_THAT(FormatNumbers({1.5f, inf, -inf, std::numeric_limits<double>::quiet_NaN()}),
              ElementsAre("1.5000", "inf", "-inf", "nan"));
}

TEST(FormatArrayTest, AlignsColumns) {
  EXPECT_EQ(FormatArray(MakeArray({2, 2}, std::vector<float>{1, -20.5f, 3, 4})),
            "[[  1.0000, -20.5000],\n"
            " [  3.0000,   4.0000]]\n");
}

TEST(FormatArrayTest, LeavesAnEmptyLineBetweenMatrices) {
  EXPECT_EQ(FormatArray(MakeArray({2, 1, 2}, std::vector<float>{1, 2, 3, 4})),
            "[[[1.0000, 2.0000]],\n"
            "\n"
            " [[3.0000, 4.0000]]]\n");
}

TEST(FormatArrayTest, BreaksLongRows) {
  EXPECT_EQ(FormatArray(MakeArray({12}, std::vector<float>(12, 1.0f))),
            "[1.0000, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000,\n"
            " 1.0000, 1.0000, 1.0000]\n");
}

TEST(FormatArrayTest, ShowsTheEdgesOfALargeArray) {
  std::vector<float> values(200 * 10);
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t row = i / 10;
    values[i] = 100.0f + static_cast<float>(row);
  }
  EXPECT_EQ(FormatArray(MakeArray({200, 10}, values)),
            "[[100.0000, 100.0000, 100.0000, ..., 100.0000, 100.0000, 100.0000],\n"
            " [101.0000, 101.0000, 101.0000, ..., 101.0000, 101.0000, 101.0000],\n"
            " [102.0000, 102.0000, 102.0000, ..., 102.0000, 102.0000, 102.0000],\n"
            " ...,\n"
            " [297.0000, 297.0000, 297.0000, ..., 297.0000, 297.0000, 297.0000],\n"
            " [298.0000, 298.0000, 298.0000, ..., 298.0000, 298.0000, 298.0000],\n"
            " [299.0000, 299.0000, 299.0000, ..., 299.0000, 299.0000, 299.0000]]\n");
}

TEST(FormatArrayTest, ShowsTheSizeOfAnEmptyArray) {
  EXPECT_EQ(FormatArray(MakeArray({int64_t{1} << 40, 0}, std::vector<float>{})),
            "[], size=(1099511627776, 0)\n");
}

TEST(TableTest, AlignsCellsAndLeavesNoTrailingSpaces) {
  Table table;
  table.AddColumn("NAME", Table::Align::kLeft);
  table.AddColumn("N", Table::Align::kRight);
  table.AddColumn("NOTE", Table::Align::kLeft);
  table.AddRow({"a", "100", "x"});
  table.AddRow({"longer", "1", "yy"});
  EXPECT_EQ(table.Format(),
            "NAME      N  NOTE\n"
            "a       100  x\n"
            "longer    1  yy\n");
}

TEST(FormatRateTest, KeepsThreeDigits) {
  EXPECT_EQ(FormatRate(0), "0.00");
  EXPECT_EQ(FormatRate(42.25), "42.2");
  EXPECT_EQ(FormatRate(999), "999");
  EXPECT_EQ(FormatRate(1234), "1.23 k");
  EXPECT_EQ(FormatRate(5.5e12), "5500 G");
}

TEST(FormatSecondsTest, PrintsAsAClock) {
  EXPECT_EQ(FormatSeconds(6.2), "0:07");
  EXPECT_EQ(FormatSeconds(750), "12:30");
  EXPECT_EQ(FormatSeconds(3 * 3600 + 131), "3:02:11");
}

TEST(ProgressLineTest, ShowsShareRatesAndTimeLeft) {
  EXPECT_EQ(ProgressLine("train a", Progress{500, 40000000, 0.25}, absl::Seconds(10)),
            "train a   25% [######..................]  500 batches  50.0 batches/s  4.00 MB/s  "
            "0:30 left");
}

TEST(ProgressLineTest, CountsWhatItIsToldAndShowsNoBytesWithoutAny) {
  EXPECT_EQ(ProgressLine("import", Progress{3, std::nullopt, 0.5, "states"}, absl::Seconds(2)),
            "import   50% [############............]  3 states  1.50 states/s  0:02 left");
}

TEST(ProgressLineTest, ShowsNoShareWhenTheWholeIsNotKnown) {
  EXPECT_EQ(ProgressLine("train a", Progress{3, 0, std::nullopt}, absl::Seconds(2)),
            "train a  3 batches  1.50 batches/s  0.00 MB/s");
}

}  // namespace
}  // namespace normd::cli
