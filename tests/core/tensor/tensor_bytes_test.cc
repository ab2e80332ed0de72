#include "core/tensor/tensor_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace normd {
namespace {

using testing::ElementsAre;

constexpr char kMemory[] = "0123456789abcdef";

TEST(TensorBytesTest, OneRunIsWhereItLies) {
  const TensorBytes bytes(absl::string_view(kMemory, 12));
  EXPECT_EQ(bytes.size(), 12U);
  EXPECT_EQ(bytes.run(), kMemory);
  EXPECT_THAT(bytes.pieces(), ElementsAre("0123456789ab"));
}

TEST(TensorBytesTest, OnePieceBetweenEmptyOnesIsARun) {
  const std::vector<absl::string_view> pieces = {"", absl::string_view(kMemory, 8), "", ""};
  const TensorBytes bytes(pieces);
  EXPECT_EQ(bytes.size(), 8U);
  EXPECT_EQ(bytes.run(), kMemory);
}

TEST(TensorBytesTest, SeveralPiecesAreNoRun) {
  const std::vector<absl::string_view> pieces = {absl::string_view(kMemory, 8), "",
                                                 absl::string_view(kMemory + 8, 3)};
  const TensorBytes bytes(pieces);
  EXPECT_EQ(bytes.size(), 11U);
  EXPECT_EQ(bytes.run(), nullptr);
  EXPECT_THAT(bytes.pieces(), ElementsAre("01234567", "", "89a"));
}

TEST(TensorBytesTest, NoPiecesAreNoBytes) {
  EXPECT_EQ(TensorBytes(absl::Span<const absl::string_view>()).size(), 0U);
  EXPECT_EQ(TensorBytes().size(), 0U);
}

}  // namespace
}  // namespace normd
