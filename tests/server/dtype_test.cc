// Every dtype over the wire: what comes back has the input's, rounded to nearest even; parameters
// have parameter_dtype.
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
using ::testing::HasSubstr;
using ::testing::Pointwise;

class DtypeTest : public ServerTest, public ::testing::WithParamInterface<v1::DataType> {
 protected:
  void SetUp() override { StartServer(InMemory()); }
};

// The distance from 1 to the next value.
double Epsilon(v1::DataType dtype) {
  switch (dtype) {
    case v1::FLOAT64:
      return std::ldexp(1.0, -52);
    case v1::FLOAT16:
      return std::ldexp(1.0, -10);
    case v1::BFLOAT16:
      return std::ldexp(1.0, -7);
    default:
      return std::ldexp(1.0, -23);
  }
}

TEST_P(DtypeTest, OutputsAndGradientsHaveTheDtypeOfTheInput) {
  v1::State wanted = BatchNormState("m", 1);
  wanted.mutable_config()->set_eps(0);
  *wanted.mutable_parameters()->mutable_weight() = Float32Tensor({1}, {2});
  *wanted.mutable_parameters()->mutable_bias() = Float32Tensor({1}, {0.5});
  *wanted.mutable_running_stats()->mutable_running_mean() = Float32Tensor({1}, {1});
  *wanted.mutable_running_stats()->mutable_running_var() = Float32Tensor({1}, {4});
  wanted.mutable_config()->set_momentum(0);
  MustCreate(wanted);
  const v1::Tensor input = MakeTensor(GetParam(), {4, 1}, {1, 1, 3, 3});

  v1::TrainRequest train;
  train.set_state("m");
  *train.mutable_input() = input;
  train.set_return_output(true);
  train.set_return_moments(true);
  v1::TrainResponse trained;
  grpc::Status status = Train(train, &trained);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(trained.output().dtype(), GetParam());
  EXPECT_EQ(trained.output().data().size(), input.data().size());
  EXPECT_THAT(ValuesOf(trained.output()), ElementsAre(-1.5, -1.5, 2.5, 2.5));
  EXPECT_THAT(trained.moments().mean(), ElementsAre(2));
  EXPECT_THAT(trained.moments().m2(), ElementsAre(4));

  v1::NormalizeRequest normalize;
  normalize.set_state("m");
  *normalize.mutable_input() = input;
  v1::NormalizeResponse normalized;
  status = Normalize(normalize, &normalized);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(normalized.output().dtype(), GetParam());
  EXPECT_THAT(ValuesOf(normalized.output()), ElementsAre(0.5, 0.5, 2.5, 2.5));

  v1::BackwardRequest backward;
  backward.set_state("m");
  *backward.mutable_input() = input;
  *backward.mutable_grad_output() = MakeTensor(GetParam(), {4, 1}, {1, 0, 0, 0});
  v1::BackwardResponse gradients;
  status = Backward(backward, &gradients);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_EQ(gradients.grad_input().dtype(), GetParam());
  EXPECT_THAT(ValuesOf(gradients.grad_input()), ElementsAre(1, -1, 0, 0));
  EXPECT_EQ(gradients.grad_weight().dtype(), v1::FLOAT32) << "of the parameter";
  EXPECT_THAT(ValuesOf(gradients.grad_weight()), ElementsAre(-1));
  EXPECT_THAT(ValuesOf(gradients.grad_bias()), ElementsAre(1));
}

using HalfDtypeTest = DtypeTest;

// 1 + e/2 lies between 1 and 1 + e, where e is the epsilon, and 1 is even; 1 + 3e/2 lies between
// 1 + e and 1 + 2e, and 1 + 2e is even.
TEST_P(HalfDtypeTest, OutputsAreRoundedToNearestEven) {
  const double e = Epsilon(GetParam());
  v1::State wanted = BatchNormState("m", 2);
  wanted.mutable_config()->set_eps(0);
  *wanted.mutable_parameters()->mutable_weight() = Float64Tensor({2}, {1 + e / 2, 1 + 3 * e / 2});
  MustCreate(wanted);
  v1::TrainRequest request;
  request.set_state("m");
  *request.mutable_input() = MakeTensor(GetParam(), {2, 2}, {1, 1, 3, 3});
  request.set_return_output(true);
  v1::TrainResponse response;
  ASSERT_TRUE(Train(request, &response).ok());
  EXPECT_THAT(ValuesOf(response.output()), ElementsAre(-1, -1 - 2 * e, 1, 1 + 2 * e));
}

TEST_P(DtypeTest, WhatIsNotFiniteIsRefusedWithItsIndex) {
  const std::string before = MustCreate("m", 3).SerializeAsString();
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}) {
    v1::TrainRequest request;
    request.set_state("m");
    *request.mutable_input() = MakeTensor(GetParam(), {2, 3}, {1, 2, 3, 4, bad, 6});
    const WireError error = ErrorOf(Train(request));
    EXPECT_EQ(error.reason, "NON_FINITE_VALUE") << error;
    EXPECT_EQ(error.metadata.at("index"), "4");
    EXPECT_THAT(error.message, HasSubstr("index 4"));
    EXPECT_EQ(MustGet("m").SerializeAsString(), before);
  }
}

// Longer than what several threads share, and of a length that no vector divides.
TEST_P(DtypeTest, ALargeBatchOnSeveralThreadsGivesWhatOneGives) {
  SeededRandom random;
  std::normal_distribution<double> normal(1, 2);
  constexpr int64_t kChannels = 7;
  constexpr int64_t kSamples = 30001;
  std::vector<double> values(kChannels * kSamples);
  for (double& value : values) value = normal(random);
  v1::TrainRequest request;
  request.set_state("m");
  *request.mutable_input() = MakeTensor(GetParam(), {kSamples, kChannels}, values);
  request.set_return_output(true);
  request.set_return_moments(true);
  v1::TrainResponse responses[2];
  for (int i = 0; i < 2; ++i) {
    normd::ServerOptions options = InMemory();
    options.compute_threads = i == 0 ? 1 : 4;
    StartServer(options);
    MustCreate("m", kChannels);
    const grpc::Status status = Train(request, &responses[i]);
    ASSERT_TRUE(status.ok()) << ErrorOf(status);
  }
  EXPECT_THAT(responses[1].moments().mean(),
              Pointwise(DoubleNear(1e-9), responses[0].moments().mean()));
  EXPECT_THAT(responses[1].moments().m2(),
              Pointwise(DoubleNear(1e-6), responses[0].moments().m2()));
  const std::vector<double> one = ValuesOf(responses[0].output());
  const std::vector<double> four = ValuesOf(responses[1].output());
  ASSERT_EQ(one.size(), values.size());
  ASSERT_EQ(four.size(), values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    // A rounding apart where the means are.
    ASSERT_NEAR(four[i], one[i], 8 * Epsilon(GetParam()) + 1e-9) << "at " << i;
  }
}

std::string DtypeName(const ::testing::TestParamInfo<v1::DataType>& info) {
  return v1::DataType_Name(info.param);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, DtypeTest,
                         ::testing::Values(v1::FLOAT32, v1::FLOAT64, v1::FLOAT16, v1::BFLOAT16),
                         DtypeName);
INSTANTIATE_TEST_SUITE_P(Dtypes, HalfDtypeTest, ::testing::Values(v1::FLOAT16, v1::BFLOAT16),
                         DtypeName);

class ParameterDtypeTest : public ServerTest {
 protected:
  void SetUp() override { StartServer(InMemory()); }
};

TEST_F(ParameterDtypeTest, Float64ParametersAreKeptAndReturnedWhole) {
  v1::State wanted = BatchNormState("m", 1);
  wanted.mutable_config()->set_parameter_dtype(v1::FLOAT64);
  wanted.mutable_config()->set_eps(0);
  *wanted.mutable_parameters()->mutable_weight() = Float64Tensor({1}, {0.1});
  *wanted.mutable_parameters()->mutable_bias() = Float32Tensor({1}, {0.1F});
  const v1::State state = MustCreate(wanted);
  EXPECT_EQ(state.config().parameter_dtype(), v1::FLOAT64);
  EXPECT_THAT(Doubles(state.parameters().weight()), ElementsAre(0.1));
  EXPECT_THAT(Doubles(state.parameters().bias()), ElementsAre(static_cast<double>(0.1F)));
  v1::SetParametersRequest request;
  request.set_name("m");
  *request.mutable_parameters()->mutable_bias() = Float64Tensor({1}, {0});
  ASSERT_TRUE(SetParameters(request).ok());

  v1::TrainRequest train;
  train.set_state("m");
  *train.mutable_input() = Float64Tensor({2, 1}, {1, 3});
  train.set_return_output(true);
  v1::TrainResponse trained;
  ASSERT_TRUE(Train(train, &trained).ok());
  EXPECT_THAT(Doubles(trained.output()), ElementsAre(-0.1, 0.1));
  v1::BackwardRequest backward;
  backward.set_state("m");
  *backward.mutable_input() = Float32Tensor({4, 1}, {1, 1, 3, 3});
  *backward.mutable_grad_output() = Float32Tensor({4, 1}, {1, 0, 0, 0});
  v1::BackwardResponse gradients;
  ASSERT_TRUE(Backward(backward, &gradients).ok());
  EXPECT_THAT(Doubles(gradients.grad_weight()), ElementsAre(-1));
  EXPECT_THAT(Doubles(gradients.grad_bias()), ElementsAre(1));
}

TEST_F(ParameterDtypeTest, Float32ParametersAreRounded) {
  v1::State wanted = BatchNormState("m", 1);
  *wanted.mutable_parameters()->mutable_weight() = Float64Tensor({1}, {0.1});
  EXPECT_THAT(Floats(MustCreate(wanted).parameters().weight()), ElementsAre(0.1F));
}

// A tensor of one float64 lies in its message's string itself, where 16 bytes no longer do.
TEST_F(ParameterDtypeTest, ShortAndLongTensorsAreReadAlike) {
  v1::State rms = RmsNormState("rms", {1});
  rms.mutable_config()->set_eps(0);
  MustCreate(rms);
  for (const int64_t rows : {1, 2, 3, 64}) {
    for (const v1::DataType dtype : {v1::FLOAT32, v1::FLOAT64, v1::FLOAT16, v1::BFLOAT16}) {
      v1::NormalizeRequest request;
      request.set_state("rms");
      *request.mutable_input() =
          MakeTensor(dtype, {rows, 1}, std::vector<double>(static_cast<size_t>(rows), -2));
      v1::NormalizeResponse response;
      const grpc::Status status = Normalize(request, &response);
      ASSERT_TRUE(status.ok()) << ErrorOf(status);
      EXPECT_EQ(ValuesOf(response.output()), std::vector<double>(static_cast<size_t>(rows), -1));
    }
  }
}

}  // namespace
}  // namespace normd::testing
