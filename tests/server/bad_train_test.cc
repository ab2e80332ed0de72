// What Train and StreamTrain refuse beside names and tensors: each case has a reason of its own,
// tells what was expected and what came, and changes nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/server/bad_batch.h"

namespace normd::testing {
namespace {

SpoilBatch Value(size_t index, double value) {
  return [index, value](v1::TrainRequest& request) {
    std::vector<float> values = Floats(request.input());
    values[index] = static_cast<float>(value);
    *request.mutable_input() = Float32Tensor({4, 3}, values);
  };
}

SpoilBatch WithMoments(int64_t count, const std::vector<double>& mean,
                       const std::vector<double>& m2) {
  return
      [=](v1::TrainRequest& request) { *request.mutable_moments() = MakeMoments(count, mean, m2); };
}

SpoilBatch Both(const SpoilBatch& first, const SpoilBatch& second) {
  return [=](v1::TrainRequest& request) {
    first(request);
    second(request);
  };
}

SpoilBatch Producer(const std::string& id, int64_t sequence) {
  return [=](v1::TrainRequest& request) {
    request.set_producer_id(id);
    request.set_sequence(sequence);
  };
}

SpoilBatch Zeros(const std::vector<int64_t>& shape) {
  return [shape](v1::TrainRequest& request) {
    *request.mutable_input() = Float32Tensor(shape, {0, 0, 0});
  };
}

std::vector<BadBatch> BadTrains() {
  return {
      {"NoBatch",
       [](v1::TrainRequest& request) { request.clear_batch(); },
       {kInvalid, "BATCH_MISSING", {"neither", "expected one"}, "batch"}},
      {"NanInTheBatch",
       Value(7, kNan),
       {kInvalid, "NON_FINITE_VALUE", {"nan", "index 7", "finite"}, "input"}},
      {"InfinityAtTheStart",
       Value(0, -kInfinity),
       {kInvalid, "NON_FINITE_VALUE", {"-inf", "index 0", "finite"}, "input"}},
      {"InfinityAtTheEnd",
       Value(11, kInfinity),
       {kInvalid, "NON_FINITE_VALUE", {"inf", "index 11", "finite"}, "input"}},
      {"OneValuePerChannel",
       Zeros({1, 3}),
       {kInvalid, "ONE_VALUE_PER_CHANNEL", {"more than 1", "got 1"}, ""}},
      {"OneValuePerChannelOfRankFour",
       Zeros({1, 3, 1, 1}),
       {kInvalid, "ONE_VALUE_PER_CHANNEL", {"more than 1", "got 1"}, ""}},
      {"OneValuePerChannelInMoments",
       WithMoments(1, {1, 2, 3}, {0, 0, 0}),
       {kInvalid, "ONE_VALUE_PER_CHANNEL", {"more than 1", "got 1"}, ""}},
      {"FrozenState",
       State("m/frozen"),
       {grpc::StatusCode::FAILED_PRECONDITION,
        "STATE_FROZEN",
        {"state 'm/frozen'", "frozen", "unfrozen"},
        ""}},
      {"MomentsCountNegative",
       WithMoments(-2, {1, 2, 3}, {1, 1, 1}),
       {kInvalid, "MOMENTS_COUNT_NEGATIVE", {"count is -2", ">= 0"}, "moments.count"}},
      {"MomentsCountMostNegative",
       WithMoments(std::numeric_limits<int64_t>::min(), {1, 2, 3}, {1, 1, 1}),
       {kInvalid, "MOMENTS_COUNT_NEGATIVE", {"-9223372036854775808", ">= 0"}, "moments.count"}},
      {"MomentsM2Negative",
       WithMoments(2, {1, 2, 3}, {1, -0.5, 1}),
       {kInvalid, "MOMENTS_M2_NEGATIVE", {"-0.5", "channel 1", ">= 0"}, "moments.m2"}},
      {"MomentsM2OfNoValues",
       WithMoments(0, {0, 0, 0}, {0, 0, 4}),
       {kInvalid,
        "MOMENTS_LENGTH_MISMATCH",
        {"moments.m2 is 4", "channel 2", "expected 0", "count is 0"},
        "moments.m2"}},
      {"MomentsMeanTooShort",
       WithMoments(2, {1, 2}, {1, 1, 1}),
       {kInvalid,
        "MOMENTS_LENGTH_MISMATCH",
        {"num_features is 3", "moments.mean has 2"},
        "moments.mean"}},
      {"MomentsMeanTooLong",
       WithMoments(2, {1, 2, 3, 4}, {1, 1, 1}),
       {kInvalid,
        "MOMENTS_LENGTH_MISMATCH",
        {"num_features is 3", "moments.mean has 4"},
        "moments.mean"}},
      {"MomentsM2TooShort",
       WithMoments(2, {1, 2, 3}, {}),
       {kInvalid,
        "MOMENTS_LENGTH_MISMATCH",
        {"num_features is 3", "moments.m2 has 0"},
        "moments.m2"}},
      {"MomentsWithNan",
       WithMoments(2, {1, 2, kNan}, {1, 1, 1}),
       {kInvalid, "NON_FINITE_VALUE", {"channel 2", "nan", "|mean| <= 1e150"}, "moments"}},
      {"MomentsWithInfiniteM2",
       WithMoments(2, {1, 2, 3}, {kInfinity, 1, 1}),
       {kInvalid, "NON_FINITE_VALUE", {"channel 0", "inf", "m2 / count <= 1e300"}, "moments"}},
      {"EmptyMoments",
       [](v1::TrainRequest& request) { request.mutable_moments(); },
       {kInvalid, "MOMENTS_LENGTH_MISMATCH", {"num_features is 3", "has 0"}, "moments.mean"}},
      {"MomentsOfALayerNorm",
       Both(State("m/layer"), WithMoments(6, {1}, {1})),
       {kInvalid,
        "MOMENTS_NOT_POSSIBLE",
        {"LAYER_NORM", "expected BATCH_NORM or INSTANCE_NORM"},
        "moments"}},
      {"MomentsOfAGroupNorm",
       Both(State("m/group"), WithMoments(6, {1, 2, 3, 4}, {1, 1, 1, 1})),
       {kInvalid, "MOMENTS_NOT_POSSIBLE", {"GROUP_NORM"}, "moments"}},
      {"MomentsOfAnRmsNorm",
       Both(State("m/rms"), WithMoments(6, {1, 2, 3}, {1, 1, 1})),
       {kInvalid, "MOMENTS_NOT_POSSIBLE", {"RMS_NORM"}, "moments"}},
      {"MomentsOfHalfASample",
       Both(State("m/tracked"), WithMoments(2, {1, 2, 3, 4}, {1, 1, 1, 1})),
       {kInvalid,
        "MOMENTS_LENGTH_MISMATCH",
        {"num_features is 3", "moments.mean has 4", "a multiple of 3"},
        "moments.mean"}},
      {"MomentsOfTwoMeansAndOneM2",
       Both(State("m/tracked"), WithMoments(2, {1, 2, 3, 4, 5, 6}, {1, 1, 1})),
       {kInvalid,
        "MOMENTS_LENGTH_MISMATCH",
        {"values of moments.mean are 6", "moments.m2 has 3"},
        "moments.m2"}},
      {"MomentsWithoutSamples",
       Both(State("m/tracked"), WithMoments(2, {}, {})),
       {kInvalid, "MOMENTS_LENGTH_MISMATCH", {"has 0", "a multiple of 3"}, "moments.mean"}},
      {"NegativeM2InOneSample",
       Both(State("m/tracked"), WithMoments(2, {1, 2, 3, 4, 5, 6}, {1, 1, 1, 1, -0.5, 1})),
       {kInvalid, "MOMENTS_M2_NEGATIVE", {"-0.5", "set 4", ">= 0"}, "moments.m2"}},
      {"NanInOneSample",
       Both(State("m/tracked"), WithMoments(2, {1, 2, 3, 4, 5, kNan}, {1, 1, 1, 1, 1, 1})),
       {kInvalid, "NON_FINITE_VALUE", {"set 5", "nan", "|mean| <= 1e150"}, "moments"}},
      {"MomentsOfOneSpatialElement",
       Both(State("m/tracked"), WithMoments(1, {1, 2, 3}, {0, 0, 0})),
       {kInvalid, "ONE_VALUE_PER_CHANNEL", {"more than 1 spatial element"}, ""}},
      {"CalibrateWithoutACalibration",
       [](v1::TrainRequest& request) { request.set_calibrate(true); },
       {grpc::StatusCode::FAILED_PRECONDITION,
        "CALIBRATION_NOT_ACTIVE",
        {"state 'm/bn1'", "no calibration is under way"},
        ""}},
      {"CalibrateAStateThatDoesNotTrack",
       Both(InputOf("m/layer", {2, 3}),
            [](v1::TrainRequest& request) { request.set_calibrate(true); }),
       {grpc::StatusCode::FAILED_PRECONDITION, "CALIBRATION_NOT_ACTIVE", {"state 'm/layer'"}, ""}},
      {"OutputOfMoments",
       [](v1::TrainRequest& request) {
         *request.mutable_moments() = MakeMoments(2, {1, 2, 3}, {1, 1, 1});
         request.set_return_output(true);
       },
       {kInvalid,
        "OUTPUT_NOT_POSSIBLE",
        {"return_output", "moments", "expected an input"},
        "return_output"}},
      {"SequenceZero",
       Producer("p", 0),
       {kInvalid, "SEQUENCE_INVALID", {"sequence is 0", ">= 1"}, "sequence"}},
      {"SequenceNegative",
       Producer("p", -9),
       {kInvalid, "SEQUENCE_INVALID", {"sequence is -9", ">= 1"}, "sequence"}},
      {"ProducerIdTooLong",
       Producer(std::string(129, 'p'), 1),
       {kInvalid, "PRODUCER_ID_INVALID", {"129", "128"}, "producer_id"}},
      {"ProducerIdOfAMegabyte",
       Producer(std::string(1 << 20, '\x01'), 1),
       {kInvalid, "PRODUCER_ID_INVALID", {"1048576", "128"}, "producer_id"}},
      {"DurabilityUnknown",
       [](v1::TrainRequest& request) { request.set_durability(static_cast<v1::Durability>(5)); },
       {kInvalid,
        "DURABILITY_UNKNOWN",
        {"durability is 5", "DURABLE (1)", "RELAXED (2)"},
        "durability"}},
  };
}

using BadTrainTest = BadBatchTest;

TEST_P(BadTrainTest, TrainRefusesItAndChangesNothing) { ExpectTrainRefuses(GetParam()); }

TEST_P(BadTrainTest, StreamTrainAnswersInPlaceAndLivesOn) {
  ExpectStreamTrainRefusesAndLivesOn(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Cases, BadTrainTest, ::testing::ValuesIn(BadTrains()),
                         CaseName<SpoilBatch>);

using ProducerTableTest = ServerTest;

TEST_F(ProducerTableTest, OneProducerTooManyIsRefusedAndTheKnownOnesGoOn) {
  normd::ServerOptions options = InMemory();
  options.producers_max = 2;
  StartServer(options);
  MustCreate("m", 1);
  v1::TrainRequest request = PairBatch("m", 0, 2);
  for (const char* producer : {"a", "b"}) {
    Producer(producer, 1)(request);
    ASSERT_TRUE(Train(request).ok());
  }
  const std::string before = MustGet("m").SerializeAsString();
  Producer("c", 1)(request);
  const WireError error = ErrorOf(Train(request));
  EXPECT_EQ(error.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(error.reason, "PRODUCER_TABLE_FULL") << error;
  EXPECT_EQ(error.metadata.at("limit"), "2");
  EXPECT_EQ(MustGet("m").SerializeAsString(), before);
  Producer("a", 2)(request);
  EXPECT_TRUE(Train(request).ok());
}

TEST_F(ProducerTableTest, AProducerSilentForTooLongMakesRoom) {
  normd::ServerOptions options = InMemory();
  options.producers_max = 1;
  options.producer_age_max = absl::ZeroDuration();
  StartServer(options);
  MustCreate("m", 1);
  v1::TrainRequest request = PairBatch("m", 0, 2);
  for (const char* producer : {"a", "b", "c"}) {
    Producer(producer, 1)(request);
    const grpc::Status status = Train(request);
    ASSERT_TRUE(status.ok()) << ErrorOf(status);
  }
  EXPECT_EQ(MustGet("m").producer_count(), 1);
}

}  // namespace
}  // namespace normd::testing
