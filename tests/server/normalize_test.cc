// Normalize and StreamNormalize.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pointwise;

class NormalizeTest : public ServerTest {
 protected:
  void SetUp() override { StartServer(InMemory()); }

  // "m": weight (2, 1), bias (0, 10), running mean (1, -1), running variance (4, 0.25), eps 0.
  void CreateKnown() {
    v1::State wanted = BatchNormState("m", 2);
    wanted.mutable_config()->set_eps(0);
    *wanted.mutable_parameters()->mutable_weight() = Float32Tensor({2}, {2, 1});
    *wanted.mutable_parameters()->mutable_bias() = Float32Tensor({2}, {0, 10});
    *wanted.mutable_running_stats()->mutable_running_mean() = Float32Tensor({2}, {1, -1});
    *wanted.mutable_running_stats()->mutable_running_var() = Float32Tensor({2}, {4, 0.25});
    const grpc::Status status = Create(wanted);
    ASSERT_TRUE(status.ok()) << ErrorOf(status);
  }
};

v1::NormalizeRequest NormalizeOf(const std::string& state, v1::Tensor input) {
  v1::NormalizeRequest request;
  request.set_state(state);
  *request.mutable_input() = std::move(input);
  return request;
}

TEST_F(NormalizeTest, UsesTheRunningStatisticsAndChangesNothing) {
  CreateKnown();
  const v1::State before = MustGet("m");
  v1::NormalizeRequest request = NormalizeOf("m", Float32Tensor({2, 2}, {1, -1, 5, 0}));
  request.set_sequence(-3);
  v1::NormalizeResponse response;
  const grpc::Status status = Normalize(request, &response);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(response.sequence(), -3);
  EXPECT_EQ(response.revision(), 1);
  EXPECT_FALSE(response.has_error());
  EXPECT_EQ(response.output().dtype(), v1::FLOAT32);
  EXPECT_THAT(response.output().shape(), ElementsAre(2, 2));
  EXPECT_THAT(Floats(response.output()), ElementsAre(0, 10, 4, 12));
  EXPECT_EQ(MustGet("m").SerializeAsString(), before.SerializeAsString());
}

TEST_F(NormalizeTest, TakesEveryRankAndLayout) {
  CreateKnown();
  const std::vector<float> first = {1, 5, -1, 0};  // [1,2,...] with two places
  const std::vector<float> last = {1, -1, 5, 0};
  struct Case {
    std::vector<int64_t> shape;
    v1::Layout layout;
  };
  for (const Case& c : std::vector<Case>{{{1, 2, 2}, v1::CHANNELS_FIRST},
                                         {{1, 2, 2, 1}, v1::CHANNELS_FIRST},
                                         {{1, 2, 1, 2, 1}, v1::CHANNELS_FIRST},
                                         {{2, 2}, v1::CHANNELS_LAST},
                                         {{1, 2, 2}, v1::CHANNELS_LAST},
                                         {{1, 1, 2, 2}, v1::CHANNELS_LAST},
                                         {{1, 2, 1, 1, 2}, v1::CHANNELS_LAST}}) {
    const bool channels_last = c.layout == v1::CHANNELS_LAST;
    v1::NormalizeResponse response;
    const grpc::Status status =
        Normalize(NormalizeOf("m", Float32Tensor(c.shape, channels_last ? last : first, c.layout)),
                  &response);
    ASSERT_TRUE(status.ok()) << ErrorOf(status);
    const std::vector<float> expected =
        channels_last ? std::vector<float>{0, 10, 4, 12} : std::vector<float>{0, 4, 10, 12};
    EXPECT_EQ(Floats(response.output()), expected);
    EXPECT_EQ(response.output().layout(), c.layout);
  }
}

TEST_F(NormalizeTest, TakesOneValueAndNone) {
  CreateKnown();
  v1::NormalizeResponse response;
  ASSERT_TRUE(Normalize(NormalizeOf("m", Float32Tensor({1, 2}, {1, -1})), &response).ok());
  EXPECT_THAT(Floats(response.output()), ElementsAre(0, 10));
  ASSERT_TRUE(Normalize(NormalizeOf("m", Float32Tensor({0, 2}, {})), &response).ok());
  EXPECT_THAT(response.output().shape(), ElementsAre(0, 2));
  EXPECT_EQ(response.output().data(), "");
}

TEST_F(NormalizeTest, WhatIsNotFiniteStaysInItsPlace) {
  CreateKnown();
  v1::NormalizeResponse response;
  ASSERT_TRUE(
      Normalize(NormalizeOf("m", Float32Tensor(
                                     {2, 2}, {std::numeric_limits<float>::quiet_NaN(), -1, 5, 0})),
                &response)
          .ok());
  const std::vector<float> output = Floats(response.output());
  EXPECT_TRUE(std::isnan(output[0]));
  EXPECT_EQ(output[1], 10);
  EXPECT_EQ(output[2], 4);
}

TEST_F(NormalizeTest, AStateThatDoesNotTrackUsesTheBatchItself) {
  v1::State wanted = BatchNormState("m", 1);
  wanted.mutable_config()->set_track_running_stats(false);
  ASSERT_TRUE(Create(wanted).ok());
  v1::NormalizeResponse response;
  ASSERT_TRUE(Normalize(NormalizeOf("m", Float32Tensor({2, 1}, {4, 6})), &response).ok());
  EXPECT_THAT(Floats(response.output()), Pointwise(FloatNear(1e-5F), {-1.0F, 1.0F}));
  EXPECT_EQ(ErrorOf(Normalize(NormalizeOf("m", Float32Tensor({1, 1}, {4})))).reason,
            "ONE_VALUE_PER_CHANNEL");
}

// However often it was asked for what was before.
TEST_F(NormalizeTest, SeesAChangeAtOnce) {
  v1::State wanted = BatchNormState("m", 1);
  wanted.mutable_config()->set_momentum(1);
  wanted.mutable_config()->set_eps(0);
  ASSERT_TRUE(Create(wanted).ok());
  v1::NormalizeResponse response;
  const auto expect_all = [&](int64_t revision, double value) {
    for (int i = 0; i < 4; ++i) {
      EXPECT_TRUE(Normalize(NormalizeOf("m", Float32Tensor({1, 1}, {5})), &response).ok());
      EXPECT_EQ(response.revision(), revision);
      EXPECT_NEAR(Floats(response.output())[0], value, 1e-6);
    }
  };
  expect_all(1, 5);
  // Another of the same name and revision.
  ASSERT_TRUE(Delete("m").ok());
  *wanted.mutable_parameters()->mutable_weight() = Float32Tensor({1}, {3});
  ASSERT_TRUE(Create(wanted).ok());
  expect_all(1, 15);
  ASSERT_TRUE(Train(PairBatch("m", 2, 4)).ok());
  expect_all(2, 3 * 2 / std::sqrt(2.0));
  v1::SetParametersRequest parameters;
  parameters.set_name("m");
  *parameters.mutable_parameters()->mutable_weight() = Float32Tensor({1}, {1});
  *parameters.mutable_parameters()->mutable_bias() = Float32Tensor({1}, {1});
  const grpc::Status status = SetParameters(parameters);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  expect_all(3, 2 / std::sqrt(2.0) + 1);
}

TEST_F(NormalizeTest, UnaryAndStreamGiveTheSame) {
  CreateKnown();
  TestContext context;
  const std::unique_ptr<NormalizeStream> stream = data_->StreamNormalize(&context);
  for (int i = 0; i < 5; ++i) {
    v1::NormalizeRequest request =
        NormalizeOf("m", Float32Tensor({1, 2}, {static_cast<float>(i), 0.5F}));
    request.set_sequence(i);
    v1::NormalizeResponse unary;
    ASSERT_TRUE(Normalize(request, &unary).ok());
    ASSERT_TRUE(stream->Write(request));
    v1::NormalizeResponse streamed;
    ASSERT_TRUE(stream->Read(&streamed));
    EXPECT_EQ(streamed.SerializeAsString(), unary.SerializeAsString());
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

}  // namespace
}  // namespace normd::testing
