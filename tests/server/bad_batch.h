#ifndef NORMD_TESTS_SERVER_BAD_BATCH_H_
#define NORMD_TESTS_SERVER_BAD_BATCH_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/server/bad_input.h"
#include "tests/server/server_fixture.h"

namespace normd::testing {

// Makes a good TrainRequest a bad one.
using SpoilBatch = std::function<void(v1::TrainRequest&)>;
using BadBatch = BadInput<SpoilBatch>;

// A batch [4,3] for the state "m/bn1".
inline v1::TrainRequest GoodTrain() {
  v1::TrainRequest request;
  request.set_state("m/bn1");
  *request.mutable_input() = Float32Tensor({4, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  return request;
}

// The name of another state.
inline SpoilBatch State(const std::string& name) {
  return [name](v1::TrainRequest& request) { request.set_state(name); };
}

// Another state, and an input of `shape` for it.
inline SpoilBatch InputOf(const std::string& name, const std::vector<int64_t>& shape,
                          v1::Layout layout = v1::CHANNELS_FIRST) {
  return [=](v1::TrainRequest& request) {
    size_t size = 1;
    for (const int64_t axis : shape) size *= static_cast<size_t>(axis);
    request.set_state(name);
    *request.mutable_input() = Float32Tensor(shape, std::vector<float>(size, 1.5F), layout);
  };
}

// A server with the states "m/bn1", trained once, and "m/frozen", both of 3 features, and with one
// of every other kind: "m/layer" [2,3], "m/rms" [3], "m/group" of 4 channels in 2 groups,
// "m/instance" and "m/tracked" of 3 features.
class BadBatchTest : public ServerTest, public ::testing::WithParamInterface<BadBatch> {
 protected:
  void SetUp() override {
    StartServer(InMemory());
    MustCreate("m/bn1", 3);
    MustCreate("m/frozen", 3);
    MustCreate(LayerNormState("m/layer", {2, 3}));
    MustCreate(RmsNormState("m/rms", {3}));
    MustCreate(GroupNormState("m/group", 2, 4));
    MustCreate(InstanceNormState("m/instance", 3));
    v1::State tracked = InstanceNormState("m/tracked", 3);
    tracked.mutable_config()->set_track_running_stats(true);
    MustCreate(tracked);
    ASSERT_TRUE(Train(GoodTrain()).ok());
    ASSERT_TRUE(Freeze("m/frozen").ok());
  }

  void ExpectTrainRefuses(const BadBatch& bad) {
    const std::string before = Everything();
    v1::TrainRequest request = GoodTrain();
    bad.spoil(request);
    ExpectRefusal(ErrorOf(Train(request)), bad.refusal);
    EXPECT_EQ(Everything(), before);
  }

  // Good messages behind bad ones are applied.
  void ExpectStreamTrainRefusesAndLivesOn(const BadBatch& bad) {
    TestContext context;
    const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&context);
    v1::TrainRequest request = GoodTrain();
    request.set_sequence(55);
    bad.spoil(request);
    for (int round = 1; round <= 2; ++round) {
      const std::string before = Everything();
      ASSERT_TRUE(stream->Write(request));
      v1::TrainResponse response;
      ASSERT_TRUE(stream->Read(&response));
      ExpectRefusal(ErrorOf(response.error()), bad.refusal);
      EXPECT_EQ(response.sequence(), request.sequence());
      response.clear_error();
      response.clear_sequence();
      EXPECT_EQ(response.ByteSizeLong(), 0) << "only the sequence stands beside an error";
      EXPECT_EQ(Everything(), before);

      ASSERT_TRUE(stream->Write(GoodTrain()));
      response.Clear();
      ASSERT_TRUE(stream->Read(&response));
      EXPECT_FALSE(response.has_error()) << ErrorOf(response.error());
      EXPECT_EQ(response.disposition(), v1::APPLIED);
      EXPECT_EQ(response.num_batches_tracked(), 1 + round);
    }
    stream->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
  }
};

}  // namespace normd::testing

#endif  // NORMD_TESTS_SERVER_BAD_BATCH_H_
