#ifndef NORMD_TESTS_SERVER_SERVER_FIXTURE_H_
#define NORMD_TESTS_SERVER_SERVER_FIXTURE_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "normd/v1/normalization_service.grpc.pb.h"
#include "normd/v1/state_service.grpc.pb.h"
#include "server/options.h"
#include "server/server.h"
#include "tests/testing/temp_dir.h"

namespace normd::testing {

// Where a test puts the limit that only a hang can reach.
std::chrono::system_clock::time_point TestDeadline();

// A client's end of a call, which fails the test instead of hanging it.
class TestContext : public grpc::ClientContext {
 public:
  TestContext() { set_deadline(TestDeadline()); }
};

// A connection of its own to `address`, without a limit on the size of a message. For a call that
// does not read it takes in 64 KiB.
std::shared_ptr<grpc::Channel> Connect(const std::string& address);

// A real server in this process and the stubs to talk to it over a real channel.
class ServerTest : public ::testing::Test {
 public:
  // A server that still runs drains while the next tests run, before the program ends.
  ~ServerTest() override;

 protected:
  using TrainStream = grpc::ClientReaderWriter<v1::TrainRequest, v1::TrainResponse>;
  using NormalizeStream = grpc::ClientReaderWriter<v1::NormalizeRequest, v1::NormalizeResponse>;
  using BackwardStream = grpc::ClientReaderWriter<v1::BackwardRequest, v1::BackwardResponse>;

  // States in memory, on a free port.
  static normd::ServerOptions InMemory();
  // States in RocksDB, in a folder that lives as long as the test and its server.
  normd::ServerOptions OnDisk() const;

  // Starts a server, after draining the one before, and connects to it.
  void StartServer(const normd::ServerOptions& options);
  void StopServer();

  std::string address() const { return server_->addresses().front(); }
  // A folder for the test's files.
  const std::string& folder() const { return folder_->path(); }

  // The unary methods.
  grpc::Status Create(const v1::State& state, v1::State* created = nullptr);
  grpc::Status Get(const std::string& name, v1::State* state,
                   v1::StateView view = v1::STATE_VIEW_UNSPECIFIED);
  grpc::Status List(const v1::ListStatesRequest& request, v1::ListStatesResponse* response);
  grpc::Status Update(const v1::UpdateStateRequest& request, v1::State* state = nullptr);
  grpc::Status Delete(const std::string& name, const std::string& etag = "");
  grpc::Status SetParameters(const v1::SetParametersRequest& request, v1::State* state = nullptr);
  grpc::Status Reset(const std::string& name, v1::State* state = nullptr);
  grpc::Status Freeze(const std::string& name, v1::State* state = nullptr,
                      const std::string& etag = "");
  grpc::Status Unfreeze(const std::string& name, v1::State* state = nullptr,
                        const std::string& etag = "");
  grpc::Status BeginCalibration(const std::string& name, v1::Calibration::Method method,
                                v1::State* state = nullptr, const std::string& etag = "");
  grpc::Status CommitCalibration(const std::string& name, v1::State* state = nullptr,
                                 const std::string& calibration_id = "",
                                 const std::string& etag = "");
  grpc::Status AbortCalibration(const std::string& name, v1::State* state = nullptr,
                                const std::string& calibration_id = "",
                                const std::string& etag = "");
  grpc::Status Train(const v1::TrainRequest& request, v1::TrainResponse* response = nullptr);
  grpc::Status Normalize(const v1::NormalizeRequest& request,
                         v1::NormalizeResponse* response = nullptr);
  grpc::Status Backward(const v1::BackwardRequest& request,
                        v1::BackwardResponse* response = nullptr);
  grpc::Status ApplyGradients(const v1::ApplyGradientsRequest& request,
                              v1::ApplyGradientsResponse* response = nullptr);

  // Makes a state, or a batch norm state of `num_features`; the test fails when it cannot.
  v1::State MustCreate(const v1::State& state);
  v1::State MustCreate(const std::string& name, int64_t num_features);
  // The state in view FULL; the test fails when it is not there.
  v1::State MustGet(const std::string& name);

  // Every state in view FULL, as bytes: what a refusal must not change.
  std::string Everything();

  std::unique_ptr<normd::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::StateService::Stub> states_;
  std::unique_ptr<v1::NormalizationService::Stub> data_;

 private:
  std::unique_ptr<TempDir> folder_ = std::make_unique<TempDir>();
};

// A batch norm state with every default.
v1::State BatchNormState(const std::string& name, int64_t num_features);

// A state of another kind, with every default.
v1::State LayerNormState(const std::string& name, const std::vector<int64_t>& normalized_shape);
v1::State RmsNormState(const std::string& name, const std::vector<int64_t>& normalized_shape);
v1::State GroupNormState(const std::string& name, int64_t num_groups, int64_t num_features);
v1::State InstanceNormState(const std::string& name, int64_t num_features);

// SGD with this learning rate.
v1::Optimizer Sgd(double lr);

// Tensors and back.
v1::Tensor Float32Tensor(const std::vector<int64_t>& shape, const std::vector<float>& values,
                         v1::Layout layout = v1::CHANNELS_FIRST);
v1::Tensor Float64Tensor(const std::vector<int64_t>& shape, const std::vector<double>& values);
std::vector<float> Floats(const v1::Tensor& tensor);
std::vector<double> Doubles(const v1::Tensor& tensor);
// Of any dtype: `values` rounded to it, and the values of a tensor as it holds them.
v1::Tensor MakeTensor(v1::DataType dtype, const std::vector<int64_t>& shape,
                      const std::vector<double>& values);
std::vector<double> ValuesOf(const v1::Tensor& tensor);

// A request with the batch [2,1] of {low, high}, for a state of one feature.
v1::TrainRequest PairBatch(const std::string& state, float low, float high);

// Moments of `count` values in each channel.
v1::Moments MakeMoments(int64_t count, const std::vector<double>& mean,
                        const std::vector<double>& m2);

}  // namespace normd::testing

#endif  // NORMD_TESTS_SERVER_SERVER_FIXTURE_H_
