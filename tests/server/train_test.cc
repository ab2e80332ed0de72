// Train and StreamTrain: what they compute, answer and remember.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"
#include "tests/testing/seeded_random.h"

namespace normd::testing {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pointwise;

class TrainTest : public ServerTest {
 protected:
  void SetUp() override { StartServer(InMemory()); }
};

TEST_F(TrainTest, FoldsABatchAndReturnsOutputAndMoments) {
  MustCreate("m", 2);
  v1::TrainRequest request;
  request.set_state("m");
  *request.mutable_input() = Float32Tensor({4, 2}, {1, 10, 2, 20, 3, 30, 6, 40});
  request.set_return_output(true);
  request.set_return_moments(true);
  request.set_sequence(41);
  v1::TrainResponse response;
  const grpc::Status status = Train(request, &response);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(response.sequence(), 41);
  EXPECT_EQ(response.disposition(), v1::APPLIED);
  EXPECT_EQ(response.revision(), 2);
  EXPECT_EQ(response.num_batches_tracked(), 1);
  EXPECT_EQ(response.durable_sequence(), 0) << "without a producer nothing is remembered";
  EXPECT_FALSE(response.has_error());
  // Means 3 and 25; m2 = 4+1+0+9 and 225+25+25+225.
  EXPECT_EQ(response.moments().count(), 4);
  EXPECT_THAT(response.moments().mean(), ElementsAre(3, 25));
  EXPECT_THAT(response.moments().m2(), ElementsAre(14, 500));
  EXPECT_THAT(response.output().shape(), ElementsAre(4, 2));
  EXPECT_EQ(response.output().layout(), v1::CHANNELS_FIRST);
  const float a = static_cast<float>(1 / std::sqrt(3.5 + 1e-5));
  const float b = static_cast<float>(1 / std::sqrt(125 + 1e-5));
  EXPECT_THAT(
      Floats(response.output()),
      Pointwise(FloatNear(1e-5F), {-2 * a, -15 * b, -1 * a, -5 * b, 0.0F, 5 * b, 3 * a, 15 * b}));
  const v1::State state = MustGet("m");
  EXPECT_THAT(Doubles(state.running_stats().running_mean()),
              Pointwise(DoubleNear(1e-12), {0.3, 2.5}));
  EXPECT_THAT(Doubles(state.running_stats().running_var()),
              Pointwise(DoubleNear(1e-12), {0.9 + 0.1 * 14 / 3, 0.9 + 0.1 * 500 / 3}));
}

TEST_F(TrainTest, LeavesOutWhatWasNotAskedFor) {
  MustCreate("m", 1);
  v1::TrainResponse response;
  ASSERT_TRUE(Train(PairBatch("m", 0, 2), &response).ok());
  EXPECT_FALSE(response.has_output());
  EXPECT_FALSE(response.has_moments());
}

TEST_F(TrainTest, UsesWeightAndBiasForTheOutput) {
  v1::State wanted = BatchNormState("m", 1);
  wanted.mutable_config()->set_eps(0);
  *wanted.mutable_parameters()->mutable_weight() = Float32Tensor({1}, {3});
  *wanted.mutable_parameters()->mutable_bias() = Float32Tensor({1}, {-1});
  ASSERT_TRUE(Create(wanted).ok());
  v1::TrainRequest request = PairBatch("m", 0, 4);
  request.set_return_output(true);
  v1::TrainResponse response;
  ASSERT_TRUE(Train(request, &response).ok());
  EXPECT_THAT(Floats(response.output()), ElementsAre(-4, 2));
}

// The same 2 x 3 x 8 values as every rank and layout.
TEST_F(TrainTest, EveryRankAndLayoutGivesTheSameStatistics) {
  SeededRandom random;
  std::normal_distribution<float> normal(5, 3);
  constexpr int kSamples = 2;
  constexpr int kChannels = 3;
  constexpr int kSpatial = 8;
  std::vector<float> first(kSamples * kChannels * kSpatial);
  for (float& value : first) value = normal(random);
  std::vector<float> last;
  for (int n = 0; n < kSamples; ++n) {
    for (int s = 0; s < kSpatial; ++s) {
      for (int c = 0; c < kChannels; ++c) last.push_back(first[(n * kChannels + c) * kSpatial + s]);
    }
  }
  struct Case {
    std::vector<int64_t> shape;
    v1::Layout layout;
  };
  const std::vector<Case> cases = {
      {{2, 3, 8}, v1::LAYOUT_UNSPECIFIED}, {{2, 3, 8}, v1::CHANNELS_FIRST},
      {{2, 3, 4, 2}, v1::CHANNELS_FIRST},  {{2, 3, 2, 2, 2}, v1::CHANNELS_FIRST},
      {{16, 3}, v1::CHANNELS_LAST},        {{16, 3}, v1::CHANNELS_FIRST},
      {{2, 8, 3}, v1::CHANNELS_LAST},      {{2, 4, 2, 3}, v1::CHANNELS_LAST},
      {{2, 2, 2, 2, 3}, v1::CHANNELS_LAST}};
  std::vector<double> mean;
  std::vector<double> var;
  for (size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(i);
    const std::string name = absl::StrCat("m", i);
    MustCreate(name, kChannels);
    const bool channels_last = cases[i].layout == v1::CHANNELS_LAST || cases[i].shape.size() == 2;
    v1::TrainRequest request;
    request.set_state(name);
    *request.mutable_input() =
        Float32Tensor(cases[i].shape, channels_last ? last : first, cases[i].layout);
    request.set_return_output(true);
    v1::TrainResponse response;
    const grpc::Status status = Train(request, &response);
    ASSERT_TRUE(status.ok()) << ErrorOf(status);
    EXPECT_EQ(response.output().layout(), cases[i].layout);
    EXPECT_EQ(
        std::vector<int64_t>(response.output().shape().begin(), response.output().shape().end()),
        cases[i].shape);
    const v1::State state = MustGet(name);
    if (i == 0) {
      mean = Doubles(state.running_stats().running_mean());
      var = Doubles(state.running_stats().running_var());
      continue;
    }
    EXPECT_THAT(Doubles(state.running_stats().running_mean()), Pointwise(DoubleNear(1e-12), mean));
    EXPECT_THAT(Doubles(state.running_stats().running_var()), Pointwise(DoubleNear(1e-12), var));
  }
}

TEST_F(TrainTest, MomentsGiveTheSameStatisticsAsTheirValues) {
  MustCreate("values", 2);
  MustCreate("moments", 2);
  v1::TrainRequest values;
  values.set_state("values");
  *values.mutable_input() = Float32Tensor({3, 2}, {1, -7, 4, 0.5, 10, 2});
  values.set_return_moments(true);
  v1::TrainResponse response;
  ASSERT_TRUE(Train(values, &response).ok());
  v1::TrainRequest moments;
  moments.set_state("moments");
  *moments.mutable_moments() = response.moments();
  moments.set_return_moments(true);
  v1::TrainResponse echoed;
  ASSERT_TRUE(Train(moments, &echoed).ok());
  EXPECT_EQ(echoed.moments().SerializeAsString(), response.moments().SerializeAsString());
  EXPECT_EQ(MustGet("moments").running_stats().SerializeAsString(),
            MustGet("values").running_stats().SerializeAsString());
}

TEST_F(TrainTest, AveragesAllBatchesWhenCumulative) {
  v1::State wanted = BatchNormState("m", 1);
  wanted.mutable_config()->set_cumulative_average(true);
  ASSERT_TRUE(Create(wanted).ok());
  for (const float mean : {1.0F, 2.0F, 6.0F}) {
    ASSERT_TRUE(Train(PairBatch("m", mean - 1, mean + 1)).ok());
  }
  const v1::State state = MustGet("m");
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), Pointwise(DoubleNear(1e-12), {3.0}));
  EXPECT_THAT(Doubles(state.running_stats().running_var()), Pointwise(DoubleNear(1e-12), {2.0}));
}

TEST_F(TrainTest, AnEmptyBatchIsAnsweredAndChangesNothing) {
  const std::string before = MustCreate("m", 2).SerializeAsString();
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{0, 2}, {3, 2, 0}, {0, 2, int64_t{1} << 62, 4}}) {
    v1::TrainRequest request;
    request.set_state("m");
    *request.mutable_input() = Float32Tensor(shape, {});
    request.set_return_output(true);
    request.set_return_moments(true);
    v1::TrainResponse response;
    const grpc::Status status = Train(request, &response);
    ASSERT_TRUE(status.ok()) << ErrorOf(status);
    EXPECT_EQ(response.disposition(), v1::APPLIED);
    EXPECT_EQ(response.revision(), 1);
    EXPECT_EQ(
        std::vector<int64_t>(response.output().shape().begin(), response.output().shape().end()),
        shape);
    EXPECT_EQ(response.output().data(), "");
    EXPECT_EQ(response.moments().count(), 0);
  }
  v1::TrainRequest moments;
  moments.set_state("m");
  *moments.mutable_moments() = MakeMoments(0, {0, 0}, {0, 0});
  EXPECT_TRUE(Train(moments).ok());
  EXPECT_EQ(MustGet("m").SerializeAsString(), before);
}

TEST_F(TrainTest, AStateThatDoesNotTrackIsLeftAlone) {
  v1::State wanted = BatchNormState("m", 1);
  wanted.mutable_config()->set_track_running_stats(false);
  v1::State before;
  ASSERT_TRUE(Create(wanted, &before).ok());
  v1::TrainRequest request = PairBatch("m", 0, 2);
  request.set_return_output(true);
  v1::TrainResponse response;
  ASSERT_TRUE(Train(request, &response).ok());
  EXPECT_EQ(response.num_batches_tracked(), 0);
  EXPECT_THAT(Floats(response.output()), Pointwise(FloatNear(1e-5F), {-1.0F, 1.0F}));
  EXPECT_EQ(MustGet("m").SerializeAsString(), before.SerializeAsString());
}

TEST_F(TrainTest, PropagatesWhatIsNotFiniteWhenToldTo) {
  v1::State wanted = BatchNormState("m", 2);
  wanted.mutable_config()->set_non_finite(v1::NormConfig::PROPAGATE);
  ASSERT_TRUE(Create(wanted).ok());
  v1::TrainRequest request;
  request.set_state("m");
  *request.mutable_input() =
      Float32Tensor({2, 2}, {1, 0, std::numeric_limits<float>::quiet_NaN(), 2});
  const grpc::Status status = Train(request);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  const std::vector<double> mean = Doubles(MustGet("m").running_stats().running_mean());
  EXPECT_TRUE(std::isnan(mean[0]));
  EXPECT_DOUBLE_EQ(mean[1], 0.1);
}

TEST_F(TrainTest, AppliesAProducersSequenceOnce) {
  MustCreate("m", 1);
  v1::TrainRequest request = PairBatch("m", 0, 2);
  request.set_producer_id("p");
  request.set_sequence(10);
  request.set_return_moments(true);
  v1::TrainResponse response;
  ASSERT_TRUE(Train(request, &response).ok());
  EXPECT_EQ(response.disposition(), v1::APPLIED);
  EXPECT_EQ(response.durable_sequence(), 10);
  const v1::State before = MustGet("m");
  EXPECT_EQ(before.producer_count(), 1);
  for (const int64_t sequence : {10, 9, 1}) {
    SCOPED_TRACE(sequence);
    request.set_sequence(sequence);
    *request.mutable_input() = Float32Tensor({2, 1}, {100, 200});
    ASSERT_TRUE(Train(request, &response).ok());
    EXPECT_EQ(response.disposition(), v1::DUPLICATE);
    EXPECT_EQ(response.sequence(), sequence);
    EXPECT_EQ(response.revision(), 2);
    EXPECT_EQ(response.num_batches_tracked(), 1);
    EXPECT_EQ(response.durable_sequence(), 10);
    EXPECT_EQ(MustGet("m").SerializeAsString(), before.SerializeAsString());
  }
  request.set_sequence(std::numeric_limits<int64_t>::max());
  ASSERT_TRUE(Train(request, &response).ok());
  EXPECT_EQ(response.disposition(), v1::APPLIED) << "gaps are fine";
  request.set_producer_id("q");
  request.set_sequence(10);
  ASSERT_TRUE(Train(request, &response).ok());
  EXPECT_EQ(response.disposition(), v1::APPLIED) << "producers do not know each other";
  EXPECT_EQ(MustGet("m").running_stats().num_batches_tracked(), 3);
}

TEST_F(TrainTest, ADuplicateIsNoErrorAfterAFreeze) {
  MustCreate("m", 1);
  v1::TrainRequest request = PairBatch("m", 0, 2);
  request.set_producer_id("p");
  request.set_sequence(1);
  ASSERT_TRUE(Train(request).ok());
  ASSERT_TRUE(Freeze("m").ok());
  v1::TrainResponse response;
  ASSERT_TRUE(Train(request, &response).ok());
  EXPECT_EQ(response.disposition(), v1::DUPLICATE);
}

TEST_F(TrainTest, KnowsItsProducersAfterARestart) {
  StartServer(OnDisk());
  MustCreate("m", 1);
  v1::TrainRequest request = PairBatch("m", 0, 2);
  request.set_producer_id("p");
  request.set_sequence(7);
  ASSERT_TRUE(Train(request).ok());
  StartServer(OnDisk());
  v1::TrainResponse response;
  ASSERT_TRUE(Train(request, &response).ok());
  EXPECT_EQ(response.disposition(), v1::DUPLICATE);
  EXPECT_EQ(response.num_batches_tracked(), 1);
  request.set_sequence(8);
  ASSERT_TRUE(Train(request, &response).ok());
  EXPECT_EQ(response.disposition(), v1::APPLIED);
}

TEST_F(TrainTest, TellsARelaxedProducerHowFarDurabilityHasCome) {
  StartServer(OnDisk());
  MustCreate("m", 1);
  TestContext context;
  const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&context);
  v1::TrainRequest request = PairBatch("m", 0, 2);
  request.set_producer_id("p");
  request.set_durability(v1::RELAXED);
  int64_t durable = 0;
  constexpr int64_t kUpdates = 200;
  for (int64_t sequence = 1; sequence <= kUpdates; ++sequence) {
    request.set_sequence(sequence);
    ASSERT_TRUE(stream->Write(request));
    v1::TrainResponse response;
    ASSERT_TRUE(stream->Read(&response));
    ASSERT_FALSE(response.has_error()) << ErrorOf(response.error());
    EXPECT_EQ(response.num_batches_tracked(), sequence);
    EXPECT_LE(response.durable_sequence(), sequence);
    EXPECT_GE(response.durable_sequence(), durable);
    durable = response.durable_sequence();
  }
  // A duplicate is answered when everything before it is on disk.
  request.set_durability(v1::DURABLE);
  ASSERT_TRUE(stream->Write(request));
  v1::TrainResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.disposition(), v1::DUPLICATE);
  EXPECT_EQ(response.durable_sequence(), kUpdates);
  EXPECT_EQ(MustGet("m").running_stats().num_batches_tracked(), kUpdates);
}

TEST_F(TrainTest, UnaryAndStreamGiveTheSame) {
  MustCreate("unary", 2);
  MustCreate("stream", 2);
  TestContext context;
  const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&context);
  for (int i = 1; i <= 5; ++i) {
    v1::TrainRequest request;
    const auto x = static_cast<float>(i);
    *request.mutable_input() = Float32Tensor({2, 2}, {x, -x, 3 * x, x * x});
    request.set_return_output(true);
    request.set_return_moments(true);
    request.set_producer_id("p");
    request.set_sequence(i);
    request.set_state("unary");
    v1::TrainResponse unary;
    ASSERT_TRUE(Train(request, &unary).ok());
    request.set_state("stream");
    ASSERT_TRUE(stream->Write(request));
    v1::TrainResponse streamed;
    ASSERT_TRUE(stream->Read(&streamed));
    EXPECT_EQ(streamed.SerializeAsString(), unary.SerializeAsString());
  }
  stream->WritesDone();
  v1::TrainResponse none;
  EXPECT_FALSE(stream->Read(&none));
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(MustGet("unary").running_stats().SerializeAsString(),
            MustGet("stream").running_stats().SerializeAsString());
}

}  // namespace
}  // namespace normd::testing
