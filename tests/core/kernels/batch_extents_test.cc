#include "core/kernels/batch_extents.h"

#include <gtest/gtest.h>

namespace normd {
namespace {

TEST(BatchExtentsTest, MergesTheSamplesOfOneChannel) {
  const BatchExtents merged = Merged({5, 1, 7});
  EXPECT_EQ(merged.samples, 1u);
  EXPECT_EQ(merged.channels, 1u);
  EXPECT_EQ(merged.spatial, 35u);
  EXPECT_EQ(Merged({5, 2, 7}).samples, 5u);
}

TEST(BatchExtentsTest, PassTakesAtLeastOneChannel) {
  EXPECT_EQ(ChannelsPerPass({1, 4, size_t{1} << 40}), 1u);
  EXPECT_EQ(ChannelsPerPass({8, 0, 1}), 1u);
  EXPECT_EQ(ChannelsPerPass({8, 0, 100}), 1u);
}

TEST(BatchExtentsTest, PassTakesNoMoreChannelsThanThereAre) {
  EXPECT_EQ(ChannelsPerPass({1, 3, 100}), 3u);
  EXPECT_EQ(ChannelsPerPass({0, 3, 100}), 3u);
}

TEST(BatchExtentsTest, PassTakesAllChannelsOfRows) {
  EXPECT_EQ(ChannelsPerPass({100000, 5000, 1}), 5000u);
}

TEST(BatchExtentsTest, PassOfSegmentsFitsTheCache) {
  const BatchExtents extents = {8, 256, 28 * 28};
  const size_t channels = ChannelsPerPass(extents);
  EXPECT_GT(channels, 1u);
  EXPECT_LT(channels, extents.channels);
  EXPECT_LE(channels * extents.samples * extents.spatial * sizeof(float), size_t{1} << 20);
}

TEST(BatchExtentsTest, PassTakesMoreChannelsOfSmallerElements) {
  const BatchExtents extents = {8, 256, 28 * 28};
  EXPECT_EQ(ChannelsPerPass(extents, sizeof(float)), ChannelsPerPass(extents));
  EXPECT_EQ(ChannelsPerPass(extents, 2), 2 * ChannelsPerPass(extents, 4));
  EXPECT_EQ(ChannelsPerPass(extents, 4), 2 * ChannelsPerPass(extents, 8));
}

}  // namespace
}  // namespace normd
