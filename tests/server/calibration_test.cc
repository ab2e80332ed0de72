// Precise statistics: gathered beside the running ones from many clients, then taken at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

// A batch of mean `mean` and unbiased variance 2, for the calibration.
v1::TrainRequest Contribution(const std::string& state, float mean) {
  v1::TrainRequest request = PairBatch(state, mean - 1, mean + 1);
  request.set_calibrate(true);
  return request;
}

class CalibrationTest : public ServerTest {
 protected:
  void SetUp() override { StartServer(InMemory()); }

  // "m": running mean 7 and variance 4, eps 0, three batches folded.
  v1::State CreateKnown() {
    v1::State wanted = BatchNormState("m", 1);
    wanted.mutable_config()->set_eps(0);
    *wanted.mutable_running_stats()->mutable_running_mean() = Float32Tensor({1}, {7});
    *wanted.mutable_running_stats()->mutable_running_var() = Float32Tensor({1}, {4});
    wanted.mutable_running_stats()->set_num_batches_tracked(3);
    return MustCreate(wanted);
  }

  void MustBegin(v1::Calibration::Method method) {
    const grpc::Status status = BeginCalibration("m", method);
    ASSERT_TRUE(status.ok()) << ErrorOf(status);
  }

  v1::TrainResponse MustContribute(const v1::TrainRequest& request) {
    v1::TrainResponse response;
    const grpc::Status status = Train(request, &response);
    EXPECT_TRUE(status.ok()) << ErrorOf(status);
    return response;
  }

  // (9 - running_mean) / sqrt(running_var), from a server that uses the old statistics: 1.
  float NormalizeNine() {
    v1::NormalizeRequest request;
    request.set_state("m");
    *request.mutable_input() = Float32Tensor({1, 1}, {9});
    v1::NormalizeResponse response;
    const grpc::Status status = Normalize(request, &response);
    EXPECT_TRUE(status.ok()) << ErrorOf(status);
    return Floats(response.output())[0];
  }
};

TEST_F(CalibrationTest, IsToldWhileItIsUnderWay) {
  const v1::State before = CreateKnown();
  v1::State state;
  ASSERT_TRUE(BeginCalibration("m", v1::Calibration::MEAN_OF_BATCHES, &state, before.etag()).ok());
  EXPECT_EQ(state.calibration().method(), v1::Calibration::MEAN_OF_BATCHES);
  EXPECT_EQ(state.calibration().num_batches(), 0);
  EXPECT_EQ(state.calibration().count(), 0);
  EXPECT_EQ(state.revision(), 2);
  EXPECT_EQ(state.etag(), before.etag()) << "not what users set";
  const v1::TrainResponse response = MustContribute(Contribution("m", 50));
  EXPECT_EQ(response.disposition(), v1::APPLIED);
  EXPECT_EQ(response.revision(), 3);
  EXPECT_EQ(response.num_batches_tracked(), 3) << "the running statistics stand";
  ASSERT_TRUE(Get("m", &state, v1::BASIC).ok());
  EXPECT_EQ(state.calibration().num_batches(), 1);
  EXPECT_EQ(state.calibration().count(), 2);
  state = MustGet("m");
  EXPECT_EQ(state.running_stats().SerializeAsString(), before.running_stats().SerializeAsString());
  EXPECT_EQ(state.etag(), before.etag());
}

TEST_F(CalibrationTest, CommitTakesTheMeanOfBatches) {
  const v1::State before = CreateKnown();
  MustBegin(v1::Calibration::MEAN_OF_BATCHES);
  for (const float mean : {10.0F, 20.0F, 60.0F}) MustContribute(Contribution("m", mean));
  v1::State state;
  const grpc::Status status = CommitCalibration("m", &state);
  ASSERT_TRUE(status.ok()) << ErrorOf(status);
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), Pointwise(DoubleNear(1e-12), {30.0}));
  EXPECT_THAT(Doubles(state.running_stats().running_var()), Pointwise(DoubleNear(1e-12), {2.0}));
  EXPECT_EQ(state.running_stats().num_batches_tracked(), 3);
  EXPECT_FALSE(state.has_calibration());
  EXPECT_EQ(state.etag(), before.etag());
  EXPECT_EQ(MustGet("m").SerializeAsString(), state.SerializeAsString());
}

TEST_F(CalibrationTest, CommitPoolsAllValues) {
  CreateKnown();
  MustBegin(v1::Calibration::POOLED);
  MustContribute(Contribution("m", 10));
  v1::TrainRequest moments;
  moments.set_state("m");
  moments.set_calibrate(true);
  *moments.mutable_moments() = MakeMoments(6, {20}, {6});
  MustContribute(moments);
  v1::State state;
  ASSERT_TRUE(CommitCalibration("m", &state).ok());
  // m2 = 2 + 6 + 10^2 * 2 * 6 / 8.
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), Pointwise(DoubleNear(1e-12), {17.5}));
  EXPECT_THAT(Doubles(state.running_stats().running_var()),
              Pointwise(DoubleNear(1e-12), {158.0 / 7}));
  EXPECT_EQ(state.running_stats().num_batches_tracked(), 2);
}

TEST_F(CalibrationTest, TwoClientsContributeWhileTheOldStatisticsServe) {
  CreateKnown();
  MustBegin(v1::Calibration::POOLED);
  constexpr int kClients = 2;
  constexpr int kBatches = 50;
  std::atomic<int> running = kClients;
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([this, c, &running] {
      const auto stub = v1::NormalizationService::NewStub(Connect(address()));
      TestContext context;
      const std::unique_ptr<TrainStream> stream = stub->StreamTrain(&context);
      for (int i = 1; i <= kBatches; ++i) {
        v1::TrainRequest request = Contribution("m", static_cast<float>(c * kBatches + i));
        request.set_producer_id(absl::StrCat("client", c));
        request.set_sequence(i);
        request.set_return_output(true);
        // Each twice, as after a lost answer.
        for (const v1::Disposition expected : {v1::APPLIED, v1::DUPLICATE}) {
          v1::TrainResponse response;
          EXPECT_TRUE(stream->Write(request));
          EXPECT_TRUE(stream->Read(&response));
          EXPECT_EQ(response.disposition(), expected) << ErrorOf(response.error());
          EXPECT_EQ(response.num_batches_tracked(), 3);
        }
      }
      --running;
    });
  }
  int served = 0;
  for (; running > 0 || served == 0; ++served) EXPECT_EQ(NormalizeNine(), 1);
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(NormalizeNine(), 1) << "until the commit";
  v1::State state = MustGet("m");
  EXPECT_EQ(state.calibration().num_batches(), kClients * kBatches);
  EXPECT_EQ(state.calibration().count(), 2 * kClients * kBatches);
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), ElementsAre(7));
  ASSERT_TRUE(CommitCalibration("m", &state).ok());
  // Means 1 to 100: m2 = 100 * 2 + 2 * 83325, of 200 values.
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), Pointwise(DoubleNear(1e-9), {50.5}));
  EXPECT_THAT(Doubles(state.running_stats().running_var()),
              Pointwise(DoubleNear(1e-9), {166850.0 / 199}));
  EXPECT_EQ(state.running_stats().num_batches_tracked(), 100);
  EXPECT_NE(NormalizeNine(), 1);
}

TEST_F(CalibrationTest, TrainingGoesOnBesideIt) {
  CreateKnown();
  MustBegin(v1::Calibration::MEAN_OF_BATCHES);
  MustContribute(Contribution("m", 10));
  ASSERT_TRUE(Train(PairBatch("m", 0, 2)).ok());
  v1::State state = MustGet("m");
  EXPECT_EQ(state.running_stats().num_batches_tracked(), 4);
  EXPECT_THAT(Doubles(state.running_stats().running_mean()),
              Pointwise(DoubleNear(1e-12), {0.9 * 7 + 0.1 * 1}));
  EXPECT_EQ(state.calibration().num_batches(), 1);
  ASSERT_TRUE(Reset("m").ok());
  EXPECT_EQ(MustGet("m").calibration().num_batches(), 1) << "a reset leaves it";
  ASSERT_TRUE(CommitCalibration("m", &state).ok());
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), ElementsAre(10));
  EXPECT_EQ(state.running_stats().num_batches_tracked(), 1);
}

TEST_F(CalibrationTest, IsThereAfterARestart) {
  StartServer(OnDisk());
  CreateKnown();
  MustBegin(v1::Calibration::MEAN_OF_BATCHES);
  v1::TrainRequest request = Contribution("m", 10);
  request.set_producer_id("p");
  request.set_sequence(1);
  MustContribute(request);
  const v1::State before = MustGet("m");
  StartServer(OnDisk());
  EXPECT_EQ(MustGet("m").SerializeAsString(), before.SerializeAsString());
  EXPECT_EQ(MustContribute(request).disposition(), v1::DUPLICATE);
  MustContribute(Contribution("m", 30));
  v1::State state;
  ASSERT_TRUE(CommitCalibration("m", &state).ok());
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), ElementsAre(20));
}

TEST_F(CalibrationTest, AbortForgetsWhatWasGathered) {
  const v1::State before = CreateKnown();
  MustBegin(v1::Calibration::MEAN_OF_BATCHES);
  MustContribute(Contribution("m", 10));
  v1::State state;
  ASSERT_TRUE(AbortCalibration("m", &state).ok());
  EXPECT_FALSE(state.has_calibration());
  EXPECT_EQ(state.running_stats().SerializeAsString(), before.running_stats().SerializeAsString());
  EXPECT_EQ(state.etag(), before.etag());
  EXPECT_EQ(ErrorOf(Train(Contribution("m", 10))).reason, "CALIBRATION_NOT_ACTIVE");
  MustBegin(v1::Calibration::POOLED);
  EXPECT_EQ(MustGet("m").calibration().num_batches(), 0) << "begins anew";
}

// What a client sent for a calibration that another client has aborted.
TEST_F(CalibrationTest, AContributionToOneThatWasAbortedIsNotTakenByTheNext) {
  CreateKnown();
  v1::State state;
  ASSERT_TRUE(BeginCalibration("m", v1::Calibration::POOLED, &state).ok());
  const std::string aborted = state.calibration().calibration_id();
  EXPECT_FALSE(aborted.empty());
  v1::TrainRequest request = Contribution("m", 10);
  request.set_calibration_id(aborted);
  request.set_producer_id("p");
  request.set_sequence(1);
  EXPECT_EQ(MustContribute(request).disposition(), v1::APPLIED);
  ASSERT_TRUE(AbortCalibration("m", nullptr, aborted).ok());
  ASSERT_TRUE(BeginCalibration("m", v1::Calibration::POOLED, &state).ok());
  const std::string next = state.calibration().calibration_id();
  EXPECT_NE(next, aborted);

  EXPECT_EQ(MustContribute(request).disposition(), v1::DUPLICATE) << "decided while it was its own";
  request.set_sequence(2);
  const WireError refused = ErrorOf(Train(request));
  EXPECT_EQ(refused.code, grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(refused.reason, "CALIBRATION_MISMATCH");
  EXPECT_EQ(refused.metadata.at("expected"), aborted);
  EXPECT_EQ(refused.metadata.at("actual"), next);
  EXPECT_EQ(ErrorOf(CommitCalibration("m", nullptr, aborted)).reason, "CALIBRATION_MISMATCH");
  EXPECT_EQ(ErrorOf(AbortCalibration("m", nullptr, aborted)).reason, "CALIBRATION_MISMATCH");
  EXPECT_EQ(MustGet("m").calibration().SerializeAsString(),
            state.calibration().SerializeAsString());

  request.set_calibration_id(next);
  EXPECT_EQ(MustContribute(request).disposition(), v1::APPLIED);
  ASSERT_TRUE(CommitCalibration("m", &state, next).ok());
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), ElementsAre(10));
  request.set_sequence(3);
  EXPECT_EQ(ErrorOf(Train(request)).reason, "CALIBRATION_NOT_ACTIVE");
  // Nor is it folded into the running statistics because `calibrate` was forgotten.
  request.set_calibrate(false);
  EXPECT_EQ(ErrorOf(Train(request)).reason, "FIELD_NOT_APPLICABLE");
  EXPECT_THAT(Doubles(MustGet("m").running_stats().running_mean()), ElementsAre(10));
}

TEST_F(CalibrationTest, CommitAndAbortHoldAnEtagAgainstTheState) {
  const std::string etag = CreateKnown().etag();
  MustBegin(v1::Calibration::MEAN_OF_BATCHES);
  MustContribute(Contribution("m", 10));
  EXPECT_EQ(ErrorOf(CommitCalibration("m", nullptr, "", "stale")).reason, "ETAG_MISMATCH");
  EXPECT_EQ(ErrorOf(AbortCalibration("m", nullptr, "", "stale")).reason, "ETAG_MISMATCH");
  EXPECT_EQ(MustGet("m").calibration().num_batches(), 1);
  EXPECT_TRUE(CommitCalibration("m", nullptr, "", etag).ok());
  MustBegin(v1::Calibration::MEAN_OF_BATCHES);
  EXPECT_TRUE(AbortCalibration("m", nullptr, "", etag).ok());
}

TEST_F(CalibrationTest, InstanceNormTakesTheMeanOverSamplesAndCountsNoBatches) {
  v1::State wanted = InstanceNormState("m", 1);
  wanted.mutable_config()->set_track_running_stats(true);
  MustCreate(wanted);
  MustBegin(v1::Calibration::MEAN_OF_BATCHES);
  v1::TrainRequest request;
  request.set_state("m");
  request.set_calibrate(true);
  *request.mutable_input() = Float32Tensor({2, 1, 2}, {1, 3, 4, 8});
  MustContribute(request);
  v1::State state = MustGet("m");
  EXPECT_EQ(state.calibration().count(), 2) << "of each sample";
  ASSERT_TRUE(CommitCalibration("m", &state).ok());
  EXPECT_THAT(Doubles(state.running_stats().running_mean()), ElementsAre(4));
  EXPECT_THAT(Doubles(state.running_stats().running_var()), ElementsAre(5));
  EXPECT_EQ(state.running_stats().num_batches_tracked(), 0);
}

TEST_F(CalibrationTest, AnEmptyBatchIsNoContribution) {
  CreateKnown();
  MustBegin(v1::Calibration::MEAN_OF_BATCHES);
  v1::TrainRequest request = Contribution("m", 0);
  *request.mutable_input() = Float32Tensor({0, 1}, {});
  EXPECT_EQ(MustContribute(request).disposition(), v1::APPLIED);
  EXPECT_EQ(ErrorOf(CommitCalibration("m")).reason, "CALIBRATION_EMPTY");
}

}  // namespace
}  // namespace normd::testing
