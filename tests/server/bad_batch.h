#ifndef NORMD_TESTS_SERVER_BAD_BATCH_H_
#define NORMD_TESTS_SERVER_BAD_BATCH_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
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

// A server with the states "m/bn1", trained once, and "m/frozen", both of 3 features.
class BadBatchTest : public ServerTest, public ::testing::WithParamInterface<BadBatch> {
 protected:
  void SetUp() override {
    StartServer(InMemory());
    MustCreate("m/bn1", 3);
    MustCreate("m/frozen", 3);
    ASSERT_TRUE(Train(GoodTrain()).ok());
    ASSERT_TRUE(Freeze("m/frozen").ok());
  }

  std::string Everything() {
    return absl::StrCat(MustGet("m/bn1").SerializeAsString(), "|",
                        MustGet("m/frozen").SerializeAsString());
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
