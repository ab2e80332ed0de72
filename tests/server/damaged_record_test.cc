// A record on disk that cannot be read is refused by name, and everything else is served.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/store/rocksdb_state_store.h"
#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DamagedRecordTest : public ServerTest {
 protected:
  // A server on a folder with the good states "a" and "c" and the damaged "b".
  void SetUp() override {
    StartServer(OnDisk());
    MustCreate("a", 1);
    MustCreate("c", 1);
    StopServer();
    {
      RocksdbOptions options;
      options.directory = OnDisk().data_dir;
      auto store = OpenRocksdbStateStore(std::move(options));
      ASSERT_TRUE(store.ok()) << store.status();
      StoreMutation mutation;
      mutation.name = "b";
      mutation.revision = 1;
      mutation.data = "this is no record of a state";
      ASSERT_TRUE((*store)->Commit({mutation}).ok());
    }
    StartServer(OnDisk());
  }

  static void ExpectDamaged(const WireError& error) {
    EXPECT_EQ(error.code, grpc::StatusCode::DATA_LOSS) << error;
    EXPECT_EQ(error.reason, "RECORD_DAMAGED") << error;
    EXPECT_THAT(error.message, HasSubstr("'b'"));
    EXPECT_EQ(error.metadata.at("name"), "b");
  }
};

TEST_F(DamagedRecordTest, EveryMethodRefusesItByName) {
  v1::State state;
  ExpectDamaged(ErrorOf(Get("b", &state)));
  ExpectDamaged(ErrorOf(Create(BatchNormState("b", 1))));
  ExpectDamaged(ErrorOf(Reset("b")));
  ExpectDamaged(ErrorOf(Train(PairBatch("b", 0, 2))));
  v1::NormalizeRequest request;
  request.set_state("b");
  *request.mutable_input() = Float32Tensor({1, 1}, {1});
  ExpectDamaged(ErrorOf(Normalize(request)));
  v1::BackwardRequest backward;
  backward.set_state("b");
  *backward.mutable_input() = request.input();
  *backward.mutable_grad_output() = request.input();
  ExpectDamaged(ErrorOf(Backward(backward)));
  v1::ApplyGradientsRequest apply;
  apply.set_state("b");
  *apply.mutable_grad_weight() = Float32Tensor({1}, {1});
  ExpectDamaged(ErrorOf(ApplyGradients(apply)));
  ExpectDamaged(ErrorOf(BeginCalibration("b", v1::Calibration::POOLED)));
  ExpectDamaged(ErrorOf(CommitCalibration("b")));
  ExpectDamaged(ErrorOf(AbortCalibration("b")));
}

TEST_F(DamagedRecordTest, AStreamThatMeetsItLivesOn) {
  TestContext context;
  const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&context);
  for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(stream->Write(PairBatch(name, 0, 2)));
  stream->WritesDone();
  v1::TrainResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_FALSE(response.has_error()) << ErrorOf(response.error());
  ASSERT_TRUE(stream->Read(&response));
  ExpectDamaged(ErrorOf(response.error()));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_FALSE(response.has_error()) << ErrorOf(response.error());
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(DamagedRecordTest, AListNamesItAndHasTheOthers) {
  for (const int page_size : {0, 1, 2}) {
    SCOPED_TRACE(page_size);
    v1::ListStatesRequest request;
    request.set_page_size(page_size);
    std::vector<std::string> names;
    std::vector<std::string> damaged;
    do {
      v1::ListStatesResponse response;
      const grpc::Status status = List(request, &response);
      ASSERT_TRUE(status.ok()) << ErrorOf(status);
      for (const v1::State& state : response.states()) names.push_back(state.name());
      damaged.insert(damaged.end(), response.damaged().begin(), response.damaged().end());
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    EXPECT_THAT(names, ElementsAre("a", "c"));
    EXPECT_THAT(damaged, ElementsAre("b"));
  }
}

}  // namespace
}  // namespace normd::testing
