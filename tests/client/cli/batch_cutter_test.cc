#include "client/cli/batch_cutter.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/array_writer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/cli/test_files.h"

namespace normd::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class BatchCutterTest : public testing::Test {
 protected:
  // The places of all mini-batches of a JSON input, or the first error.
  std::vector<std::string> Cut(absl::string_view json, const CutOptions& options) {
    auto reader = ArrayReader::Open(folder_.Write("input.json", json));
    if (!reader.ok()) return {std::string(reader.status().message())};
    BatchCutter cutter(reader->get(), options);
    std::vector<std::string> places;
    while (true) {
      const auto batch = cutter.Next();
      if (!batch.ok()) {
        places.emplace_back(batch.status().message());
        return places;
      }
      if (!batch->has_value()) return places;
      EXPECT_EQ((*batch)->array.shape[0], (*batch)->place.end_row - (*batch)->place.first_row);
      places.push_back(PlaceToText((*batch)->place));
    }
  }

  TestFolder folder_;
};

TEST_F(BatchCutterTest, TakesAnArrayWholeWithoutABatchSize) {
  EXPECT_THAT(Cut("[[1], [2], [3]]", CutOptions{}), ElementsAre("mini-batch 1 (rows 0:3)"));
}

TEST_F(BatchCutterTest, LeavesASmallerLastMiniBatch) {
  EXPECT_THAT(
      Cut("[[1], [2], [3], [4], [5]]", CutOptions{.batch_size = 2}),
      ElementsAre("mini-batch 1 (rows 0:2)", "mini-batch 2 (rows 2:4)", "mini-batch 3 (rows 4:5)"));
}

TEST_F(BatchCutterTest, DropsTheLastWhenAsked) {
  const CutOptions options{.batch_size = 2, .drop_last = true};
  EXPECT_THAT(Cut("[[1], [2], [3]]", options), ElementsAre("mini-batch 1 (rows 0:2)"));
  EXPECT_THAT(Cut("[[1], [2]]", options), ElementsAre("mini-batch 1 (rows 0:2)"));
  EXPECT_THAT(Cut("[[1]]", options), IsEmpty());
}

TEST_F(BatchCutterTest, ReadsTheInputOnceAnEpoch) {
  EXPECT_THAT(Cut("[[1], [2], [3]]", CutOptions{.batch_size = 2, .epochs = 2}),
              ElementsAre("mini-batch 1 (rows 0:2)", "mini-batch 2 (rows 2:3)",
                          "mini-batch 3 (epoch 2, rows 0:2)", "mini-batch 4 (epoch 2, rows 2:3)"));
}

TEST_F(BatchCutterTest, GivesAnEmptyArrayAsOneEmptyMiniBatch) {
  EXPECT_THAT(Cut("[]", CutOptions{.batch_size = 2}), ElementsAre("mini-batch 1 (rows 0:0)"));
}

TEST_F(BatchCutterTest, RefusesARemainderOfOneValuePerChannelBeforeAnyOther) {
  const CutOptions options{.batch_size = 2, .needs_variance = true};
  EXPECT_THAT(Cut("[[1], [2], [3]]", options),
              ElementsAre(HasSubstr("leaves a last one of 1 row")));
  EXPECT_THAT(Cut("[[[1, 2]], [[1, 2]], [[1, 2]]]", options),
              ElementsAre("mini-batch 1 (rows 0:2)", "mini-batch 2 (rows 2:3)"));
  EXPECT_THAT(Cut("[[1], [2], [3]]",
                  CutOptions{.batch_size = 2, .drop_last = true, .needs_variance = true}),
              ElementsAre("mini-batch 1 (rows 0:2)"));
}

TEST_F(BatchCutterTest, RoundsWhenAskedAndElseKeepsTheDtypeOfNpyButNotOfText) {
  const auto dtype_of = [](const std::string& path, std::optional<client::DataType> dtype) {
    auto reader = *ArrayReader::Open(path);
    BatchCutter cutter(reader.get(), CutOptions{.dtype = dtype});
    return (*cutter.Next())->place.dtype;
  };
  const std::string text = folder_.Write("a.json", "[[1], [2]]");
  const std::string doubles = folder_.Path("a.npy");
  ASSERT_TRUE(WriteNpyFile(doubles, MakeArray({2, 1}, std::vector<double>{1, 2})).ok());
  EXPECT_EQ(dtype_of(text, std::nullopt), client::DataType::kFloat32);
  EXPECT_EQ(dtype_of(text, client::DataType::kFloat64), client::DataType::kFloat64);
  EXPECT_EQ(dtype_of(doubles, std::nullopt), client::DataType::kFloat64);
  EXPECT_EQ(dtype_of(doubles, client::DataType::kBfloat16), client::DataType::kBfloat16);
}

TEST_F(BatchCutterTest, RefusesAValueThatDoesNotFitInTheDtype) {
  EXPECT_THAT(Cut("[[1e39]]", CutOptions{}),
              ElementsAre(HasSubstr("1e+39 does not fit in float32")));
  EXPECT_THAT(Cut("[[7e4]]", CutOptions{.dtype = client::DataType::kFloat16}),
              ElementsAre(HasSubstr("input.json': the value 70000 does not fit in float16")));
}

TEST_F(BatchCutterTest, CountsValuesPerChannelByLayout) {
  // One row of shape (1, 2): one channel of two values, or, channels last, two channels of one.
  CutOptions options{.batch_size = 1, .needs_variance = true};
  EXPECT_THAT(Cut("[[[1, 2]]]", options), ElementsAre("mini-batch 1 (rows 0:1)"));
  options.layout = client::Layout::kChannelsLast;
  EXPECT_THAT(Cut("[[[1, 2]]]", options), ElementsAre(HasSubstr("mini-batches of 1 row")));
  EXPECT_THAT(Cut("[[1, 2]]", options), ElementsAre(HasSubstr("mini-batches of 1 row")));
}

}  // namespace
}  // namespace normd::cli
