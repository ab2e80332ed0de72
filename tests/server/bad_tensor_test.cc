// Names and tensors that Train, Normalize and their streams refuse alike: each case has a reason of
// its own, tells what was expected and what came, and changes nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/server/bad_batch.h"

namespace normd::testing {
namespace {

SpoilBatch Input(const std::vector<int64_t>& shape, v1::Layout layout = v1::CHANNELS_FIRST) {
  return InputOf("m/bn1", shape, layout);
}

// A shape that its data does not have to fit.
SpoilBatch Shape(const std::vector<int64_t>& shape) {
  return [shape](v1::TrainRequest& request) {
    request.mutable_input()->clear_shape();
    for (const int64_t axis : shape) request.mutable_input()->add_shape(axis);
  };
}

SpoilBatch Dtype(int dtype) {
  return [dtype](v1::TrainRequest& request) {
    request.mutable_input()->set_dtype(static_cast<v1::DataType>(dtype));
  };
}

std::vector<BadBatch> BadTensors() {
  return {
      {"UnknownState",
       State("m/none"),
       {grpc::StatusCode::NOT_FOUND, "STATE_NOT_FOUND", {"state 'm/none' does not exist"}, ""}},
      {"EmptyName", State(""), {kInvalid, "STATE_NAME_INVALID", {"empty", "1 to 255"}, "name"}},
      {"LongName",
       State(std::string(256, 'a')),
       {kInvalid, "STATE_NAME_INVALID", {"256", "255"}, "name"}},
      {"NameOfAMegabyte",
       State(std::string(1 << 20, 'a')),
       {kInvalid, "STATE_NAME_INVALID", {"1048576", "255"}, "name"}},
      {"NameWithASpace",
       State("m bn1"),
       {kInvalid, "STATE_NAME_INVALID", {"offset 1", "[A-Za-z0-9_.-]"}, "name"}},
      {"NameWithAZero",
       State(std::string("m\0n", 3)),
       {kInvalid, "STATE_NAME_INVALID", {"\\x00", "offset 1"}, "name"}},
      {"NameWithDots", State("m/../bn1"), {kInvalid, "STATE_NAME_INVALID", {"'..'"}, "name"}},
      {"NameWithAnEmptySegment",
       State("m//bn1"),
       {kInvalid, "STATE_NAME_INVALID", {"empty"}, "name"}},
      {"TooManyChannels",
       Input({4, 5}),
       {kInvalid,
        "CHANNEL_COUNT_MISMATCH",
        {"state 'm/bn1'", "num_features is 3", "5 channels", "[4,5]"},
        "input.shape"}},
      {"TooFewChannels",
       Input({4, 2, 3}),
       {kInvalid,
        "CHANNEL_COUNT_MISMATCH",
        {"num_features is 3", "2 channels", "[4,2,3]"},
        "input.shape"}},
      {"ChannelsFirstCalledLast",
       Input({4, 3, 2}, v1::CHANNELS_LAST),
       {kInvalid,
        "CHANNEL_COUNT_MISMATCH",
        {"num_features is 3", "2 channels", "axis 2"},
        "input.shape"}},
      {"Scalar",
       Input({}),
       {kInvalid, "RANK_UNSUPPORTED", {"rank 0", "rank 2 to 5"}, "input.shape"}},
      {"Vector",
       Input({3}),
       {kInvalid, "RANK_UNSUPPORTED", {"rank 1", "[3]", "rank 2 to 5"}, "input.shape"}},
      {"RankSix",
       Input({2, 3, 1, 1, 1, 2}),
       {kInvalid, "RANK_UNSUPPORTED", {"rank 6", "rank 2 to 5"}, "input.shape"}},
      {"RankThousand",
       Input(std::vector<int64_t>(1000, 1)),
       {kInvalid, "RANK_UNSUPPORTED", {"rank 1000", "rank 2 to 5"}, "input.shape"}},
      {"LayerNormOfAnotherShape",
       InputOf("m/layer", {4, 3, 2}),
       {kInvalid,
        "NORMALIZED_SHAPE_MISMATCH",
        {"state 'm/layer'", "normalized_shape is [2,3]", "[4,3,2]"},
        "input.shape"}},
      {"LayerNormOfTooFewAxes",
       InputOf("m/layer", {3}),
       {kInvalid,
        "NORMALIZED_SHAPE_MISMATCH",
        {"normalized_shape is [2,3]", "input has shape [3]"},
        "input.shape"}},
      {"RmsNormOfAScalar",
       InputOf("m/rms", {}),
       {kInvalid, "NORMALIZED_SHAPE_MISMATCH", {"normalized_shape is [3]", "[]"}, "input.shape"}},
      {"GroupNormOfOtherChannels",
       InputOf("m/group", {4, 3, 2}),
       {kInvalid, "CHANNEL_COUNT_MISMATCH", {"num_features is 4", "3 channels"}, "input.shape"}},
      {"GroupNormOfRankOne",
       InputOf("m/group", {4}),
       {kInvalid, "RANK_UNSUPPORTED", {"rank 1", "rank 2 to 5"}, "input.shape"}},
      {"InstanceNormWithoutSpatialAxes",
       InputOf("m/instance", {4, 3}),
       {kInvalid, "RANK_UNSUPPORTED", {"rank 2", "[4,3]", "rank 3 to 5"}, "input.shape"}},
      {"InstanceNormOfOneSpatialElement",
       InputOf("m/instance", {4, 3, 1}),
       {kInvalid,
        "ONE_VALUE_PER_CHANNEL",
        {"state 'm/instance'", "more than 1 spatial element", "got 1"},
        ""}},
      {"DataTooShort",
       Shape({5, 3}),
       {kInvalid, "DATA_LENGTH_MISMATCH", {"[5,3]", "60", "48"}, "data"}},
      {"DataTooLong",
       Shape({3, 3}),
       {kInvalid, "DATA_LENGTH_MISMATCH", {"[3,3]", "36", "48"}, "data"}},
      {"DataOfAnEmptyShape",
       Shape({0, 3}),
       {kInvalid, "DATA_LENGTH_MISMATCH", {"[0,3]", "0", "48"}, "data"}},
      {"DataNotWholeElements",
       [](v1::TrainRequest& request) { request.mutable_input()->mutable_data()->pop_back(); },
       {kInvalid, "DATA_LENGTH_MISMATCH", {"48", "47"}, "data"}},
      {"ShapeOverflowsByOneAxis",
       Shape({kInt64Max, 3}),
       {kInvalid, "SHAPE_OVERFLOW", {"[9223372036854775807,3]", "2^63"}, "shape"}},
      {"ShapeOverflowsToZero",
       Shape({int64_t{1} << 32, 3, int64_t{1} << 32}),
       {kInvalid, "SHAPE_OVERFLOW", {"[4294967296,3,4294967296]", "2^63"}, "shape"}},
      {"ShapeOverflowsByTheElementSize",
       Shape({int64_t{1} << 61}),
       {kInvalid, "SHAPE_OVERFLOW", {"[2305843009213693952]", "2^63"}, "shape"}},
      {"NegativeDimension",
       Shape({-4, 3}),
       {kInvalid, "DIMENSION_NEGATIVE", {"axis 0", "[-4,3]", "is -4", ">= 0"}, "shape"}},
      {"TwoNegativeDimensions",
       Shape({4, -3, -1}),
       {kInvalid, "DIMENSION_NEGATIVE", {"axis 1", "is -3", ">= 0"}, "shape"}},
      {"NegativeDimensionOfAnEmptyShape",
       Shape({0, -3}),
       {kInvalid, "DIMENSION_NEGATIVE", {"axis 1", "is -3"}, "shape"}},
      {"DtypeNotSet",
       Dtype(0),
       {kInvalid, "DTYPE_UNKNOWN", {"dtype is 0", "FLOAT32 (1)"}, "dtype"}},
      {"DtypeUnknown",
       Dtype(77),
       {kInvalid, "DTYPE_UNKNOWN", {"dtype is 77", "FLOAT32 (1)"}, "dtype"}},
      {"DtypeNegative", Dtype(-1), {kInvalid, "DTYPE_UNKNOWN", {"dtype is -1"}, "dtype"}},
      {"DtypeOfTwiceTheBytes",
       Dtype(v1::FLOAT64),
       {kInvalid, "DATA_LENGTH_MISMATCH", {"[4,3]", "96", "48"}, "data"}},
      {"DtypeOfHalfTheBytes",
       Dtype(v1::BFLOAT16),
       {kInvalid, "DATA_LENGTH_MISMATCH", {"[4,3]", "24", "48"}, "data"}},
      {"LayoutUnknown",
       [](v1::TrainRequest& request) {
         request.mutable_input()->set_layout(static_cast<v1::Layout>(9));
       },
       {kInvalid, "LAYOUT_UNKNOWN", {"layout is 9", "CHANNELS_FIRST (1)"}, "layout"}},
  };
}

using BadTensorTest = BadBatchTest;

TEST_P(BadTensorTest, TrainRefusesItAndChangesNothing) { ExpectTrainRefuses(GetParam()); }

TEST_P(BadTensorTest, StreamTrainAnswersInPlaceAndLivesOn) {
  ExpectStreamTrainRefusesAndLivesOn(GetParam());
}

TEST_P(BadTensorTest, NormalizeIsRefusedTheSameWay) {
  const std::string before = Everything();
  v1::TrainRequest train = GoodTrain();
  GetParam().spoil(train);
  v1::NormalizeRequest bad;
  bad.set_state(train.state());
  *bad.mutable_input() = train.input();
  bad.set_sequence(55);
  ExpectRefusal(ErrorOf(Normalize(bad)), GetParam().refusal);

  TestContext context;
  const std::unique_ptr<NormalizeStream> stream = data_->StreamNormalize(&context);
  v1::NormalizeRequest good;
  good.set_state("m/frozen");
  *good.mutable_input() = GoodTrain().input();
  for (int round = 1; round <= 2; ++round) {
    ASSERT_TRUE(stream->Write(bad));
    v1::NormalizeResponse response;
    ASSERT_TRUE(stream->Read(&response));
    ExpectRefusal(ErrorOf(response.error()), GetParam().refusal);
    EXPECT_EQ(response.sequence(), 55);
    response.clear_error();
    response.clear_sequence();
    EXPECT_EQ(response.ByteSizeLong(), 0) << "only the sequence stands beside an error";
    ASSERT_TRUE(stream->Write(good));
    response.Clear();
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_FALSE(response.has_error()) << ErrorOf(response.error());
    EXPECT_EQ(response.output().data().size(), 48);
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(Everything(), before);
}

INSTANTIATE_TEST_SUITE_P(Cases, BadTensorTest, ::testing::ValuesIn(BadTensors()),
                         CaseName<SpoilBatch>);

using NoTensorTest = ServerTest;

TEST_F(NoTensorTest, NormalizeWithoutAnInputIsRefused) {
  StartServer(InMemory());
  MustCreate("m", 1);
  v1::NormalizeRequest request;
  request.set_state("m");
  const WireError error = ErrorOf(Normalize(request));
  EXPECT_EQ(error.reason, "BATCH_MISSING") << error;
  EXPECT_THAT(error.fields, ::testing::ElementsAre("input"));
}

}  // namespace
}  // namespace normd::testing
