#include "tests/server/server_fixture.h"

#include <chrono>
#include <cstddef>
#include <cstring>
#include <deque>
#include <iostream>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/tensor/half.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

void OnFatal(const absl::Status& status) {
  std::cerr << "the store failed: " << status << std::endl;
  std::abort();
}

// Drains the servers that tests leave behind. To end, a server waits until no more calls come;
// hundreds of cases, of which each has a server of its own, need not do so one by one.
class Drainer : public ::testing::Environment {
 public:
  ~Drainer() override { Drainer::TearDown(); }

  // `test` is whose server it is.
  void Drain(const std::string& test, std::unique_ptr<normd::Server> server,
             std::unique_ptr<TempDir> folder) {
    constexpr size_t kServersMax = 16;
    if (threads_.size() == kServersMax) JoinFirst();
    threads_.emplace_back([test, server = std::move(server), folder = std::move(folder)]() mutable {
      const absl::Time begin = absl::Now();
      server.reset();
      EXPECT_LT(absl::Now() - begin, absl::Seconds(15))
          << "of the server of " << test << ", which has nothing left to do";
      folder.reset();
    });
  }

  void TearDown() override {
    while (!threads_.empty()) JoinFirst();
  }

 private:
  void JoinFirst() {
    threads_.front().join();
    threads_.pop_front();
  }

  std::deque<std::thread> threads_;
};

// Owned by GoogleTest.
Drainer* const kDrainer = static_cast<Drainer*>(::testing::AddGlobalTestEnvironment(new Drainer));

template <typename T>
v1::Tensor TensorOf(v1::DataType dtype, const std::vector<int64_t>& shape,
                    const std::vector<T>& values) {
  v1::Tensor tensor;
  tensor.set_dtype(dtype);
  for (const int64_t size : shape) tensor.add_shape(size);
  tensor.set_data(values.data(), values.size() * sizeof(T));
  return tensor;
}

template <typename T>
std::vector<T> Values(const v1::Tensor& tensor) {
  std::vector<T> values(tensor.data().size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), tensor.data().data(), values.size() * sizeof(T));
  return values;
}

v1::State StateOf(const std::string& name, v1::NormConfig::Kind kind) {
  v1::State state;
  state.set_name(name);
  state.mutable_config()->set_kind(kind);
  return state;
}

v1::State StateOfShape(const std::string& name, v1::NormConfig::Kind kind,
                       const std::vector<int64_t>& normalized_shape) {
  v1::State state = StateOf(name, kind);
  for (const int64_t axis : normalized_shape) state.mutable_config()->add_normalized_shape(axis);
  return state;
}

// Makes the call `method` of `stub`; the response goes to `out` unless that is null.
template <typename Stub, typename Request, typename Response>
grpc::Status Call(Stub& stub,
                  grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                  const Request& request, Response* out) {
  TestContext context;
  Response unwanted;
  return (stub.*method)(&context, request, out == nullptr ? &unwanted : out);
}

}  // namespace

std::chrono::system_clock::time_point TestDeadline() {
  return std::chrono::system_clock::now() + std::chrono::minutes(2);
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  // Otherwise channels to one address share a connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // Otherwise what is taken in for a client that does not read grows with the bandwidth.
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

ServerTest::~ServerTest() {
  if (server_ == nullptr) return;
  data_.reset();
  states_.reset();
  channel_.reset();
  const ::testing::TestInfo& test = *::testing::UnitTest::GetInstance()->current_test_info();
  kDrainer->Drain(absl::StrCat(test.test_suite_name(), ".", test.name()), std::move(server_),
                  std::move(folder_));
}

normd::ServerOptions ServerTest::InMemory() {
  normd::ServerOptions options;
  options.listen = {"127.0.0.1:0"};
  options.store = normd::ServerOptions::Store::kMemory;
  return options;
}

normd::ServerOptions ServerTest::OnDisk() const {
  normd::ServerOptions options = InMemory();
  options.store = normd::ServerOptions::Store::kRocksdb;
  options.data_dir = folder() + "/states";
  return options;
}

void ServerTest::StartServer(const normd::ServerOptions& options) {
  StopServer();
  auto server = normd::Server::Start(options, Clock::System(), &OnFatal);
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  channel_ = Connect(address());
  states_ = v1::StateService::NewStub(channel_);
  data_ = v1::NormalizationService::NewStub(channel_);
}

void ServerTest::StopServer() {
  if (server_ != nullptr) server_->Drain();
  server_.reset();
}

grpc::Status ServerTest::Create(const v1::State& state, v1::State* created) {
  v1::CreateStateRequest request;
  *request.mutable_state() = state;
  return Call(*states_, &v1::StateService::Stub::CreateState, request, created);
}

grpc::Status ServerTest::Get(const std::string& name, v1::State* state, v1::StateView view) {
  v1::GetStateRequest request;
  request.set_name(name);
  request.set_view(view);
  return Call(*states_, &v1::StateService::Stub::GetState, request, state);
}

grpc::Status ServerTest::List(const v1::ListStatesRequest& request,
                              v1::ListStatesResponse* response) {
  return Call(*states_, &v1::StateService::Stub::ListStates, request, response);
}

grpc::Status ServerTest::Update(const v1::UpdateStateRequest& request, v1::State* state) {
  return Call(*states_, &v1::StateService::Stub::UpdateState, request, state);
}

grpc::Status ServerTest::Delete(const std::string& name, const std::string& etag) {
  v1::DeleteStateRequest request;
  request.set_name(name);
  request.set_etag(etag);
  google::protobuf::Empty response;
  return Call(*states_, &v1::StateService::Stub::DeleteState, request, &response);
}

grpc::Status ServerTest::SetParameters(const v1::SetParametersRequest& request, v1::State* state) {
  return Call(*states_, &v1::StateService::Stub::SetParameters, request, state);
}

grpc::Status ServerTest::Reset(const std::string& name, v1::State* state) {
  v1::ResetRunningStatsRequest request;
  request.set_name(name);
  return Call(*states_, &v1::StateService::Stub::ResetRunningStats, request, state);
}

grpc::Status ServerTest::Freeze(const std::string& name, v1::State* state,
                                const std::string& etag) {
  v1::FreezeStateRequest request;
  request.set_name(name);
  request.set_etag(etag);
  return Call(*states_, &v1::StateService::Stub::FreezeState, request, state);
}

grpc::Status ServerTest::Unfreeze(const std::string& name, v1::State* state,
                                  const std::string& etag) {
  v1::UnfreezeStateRequest request;
  request.set_name(name);
  request.set_etag(etag);
  return Call(*states_, &v1::StateService::Stub::UnfreezeState, request, state);
}

grpc::Status ServerTest::BeginCalibration(const std::string& name, v1::Calibration::Method method,
                                          v1::State* state, const std::string& etag) {
  v1::BeginCalibrationRequest request;
  request.set_name(name);
  request.set_method(method);
  request.set_etag(etag);
  return Call(*states_, &v1::StateService::Stub::BeginCalibration, request, state);
}

grpc::Status ServerTest::CommitCalibration(const std::string& name, v1::State* state,
                                           const std::string& calibration_id,
                                           const std::string& etag) {
  v1::CommitCalibrationRequest request;
  request.set_name(name);
  request.set_calibration_id(calibration_id);
  request.set_etag(etag);
  return Call(*states_, &v1::StateService::Stub::CommitCalibration, request, state);
}

grpc::Status ServerTest::AbortCalibration(const std::string& name, v1::State* state,
                                          const std::string& calibration_id,
                                          const std::string& etag) {
  v1::AbortCalibrationRequest request;
  request.set_name(name);
  request.set_calibration_id(calibration_id);
  request.set_etag(etag);
  return Call(*states_, &v1::StateService::Stub::AbortCalibration, request, state);
}

grpc::Status ServerTest::Train(const v1::TrainRequest& request, v1::TrainResponse* response) {
  return Call(*data_, &v1::NormalizationService::Stub::Train, request, response);
}

grpc::Status ServerTest::Normalize(const v1::NormalizeRequest& request,
                                   v1::NormalizeResponse* response) {
  return Call(*data_, &v1::NormalizationService::Stub::Normalize, request, response);
}

grpc::Status ServerTest::Backward(const v1::BackwardRequest& request,
                                  v1::BackwardResponse* response) {
  return Call(*data_, &v1::NormalizationService::Stub::Backward, request, response);
}

grpc::Status ServerTest::ApplyGradients(const v1::ApplyGradientsRequest& request,
                                        v1::ApplyGradientsResponse* response) {
  return Call(*data_, &v1::NormalizationService::Stub::ApplyGradients, request, response);
}

v1::State ServerTest::MustCreate(const v1::State& state) {
  v1::State created;
  const grpc::Status status = Create(state, &created);
  EXPECT_TRUE(status.ok()) << ErrorOf(status);
  return created;
}

v1::State ServerTest::MustCreate(const std::string& name, int64_t num_features) {
  return MustCreate(BatchNormState(name, num_features));
}

v1::State ServerTest::MustGet(const std::string& name) {
  v1::State state;
  const grpc::Status status = Get(name, &state);
  EXPECT_TRUE(status.ok()) << ErrorOf(status);
  return state;
}

std::string ServerTest::Everything() {
  v1::ListStatesRequest request;
  request.set_view(v1::FULL);
  v1::ListStatesResponse response;
  const grpc::Status status = List(request, &response);
  EXPECT_TRUE(status.ok()) << ErrorOf(status);
  return response.SerializeAsString();
}

v1::State BatchNormState(const std::string& name, int64_t num_features) {
  v1::State state = StateOf(name, v1::NormConfig::BATCH_NORM);
  state.mutable_config()->set_num_features(num_features);
  return state;
}

v1::State LayerNormState(const std::string& name, const std::vector<int64_t>& normalized_shape) {
  return StateOfShape(name, v1::NormConfig::LAYER_NORM, normalized_shape);
}

v1::State RmsNormState(const std::string& name, const std::vector<int64_t>& normalized_shape) {
  return StateOfShape(name, v1::NormConfig::RMS_NORM, normalized_shape);
}

v1::State GroupNormState(const std::string& name, int64_t num_groups, int64_t num_features) {
  v1::State state = StateOf(name, v1::NormConfig::GROUP_NORM);
  state.mutable_config()->set_num_groups(num_groups);
  state.mutable_config()->set_num_features(num_features);
  return state;
}

v1::State InstanceNormState(const std::string& name, int64_t num_features) {
  v1::State state = StateOf(name, v1::NormConfig::INSTANCE_NORM);
  state.mutable_config()->set_num_features(num_features);
  return state;
}

v1::Optimizer Sgd(double lr) {
  v1::Optimizer optimizer;
  optimizer.set_algorithm(v1::Optimizer::SGD);
  optimizer.set_lr(lr);
  return optimizer;
}

v1::Tensor Float32Tensor(const std::vector<int64_t>& shape, const std::vector<float>& values,
                         v1::Layout layout) {
  v1::Tensor tensor = TensorOf(v1::FLOAT32, shape, values);
  tensor.set_layout(layout);
  return tensor;
}

v1::Tensor Float64Tensor(const std::vector<int64_t>& shape, const std::vector<double>& values) {
  return TensorOf(v1::FLOAT64, shape, values);
}

std::vector<float> Floats(const v1::Tensor& tensor) {
  EXPECT_EQ(tensor.dtype(), v1::FLOAT32);
  return Values<float>(tensor);
}

std::vector<double> Doubles(const v1::Tensor& tensor) {
  EXPECT_EQ(tensor.dtype(), v1::FLOAT64);
  return Values<double>(tensor);
}

v1::Tensor MakeTensor(v1::DataType dtype, const std::vector<int64_t>& shape,
                      const std::vector<double>& values) {
  if (dtype == v1::FLOAT64) return TensorOf(dtype, shape, values);
  const std::vector<float> floats(values.begin(), values.end());
  if (dtype == v1::FLOAT32) return TensorOf(dtype, shape, floats);
  std::vector<uint16_t> halves;
  for (const float value : floats) {
    halves.push_back(dtype == v1::FLOAT16 ? ToFloat16(value).bits : ToBfloat16(value).bits);
  }
  return TensorOf(dtype, shape, halves);
}

std::vector<double> ValuesOf(const v1::Tensor& tensor) {
  if (tensor.dtype() == v1::FLOAT64) return Values<double>(tensor);
  if (tensor.dtype() == v1::FLOAT32) {
    const std::vector<float> floats = Values<float>(tensor);
    return std::vector<double>(floats.begin(), floats.end());
  }
  std::vector<double> values;
  for (const uint16_t half : Values<uint16_t>(tensor)) {
    values.push_back(tensor.dtype() == v1::FLOAT16 ? ToFloat(Float16{half})
                                                   : ToFloat(Bfloat16{half}));
  }
  return values;
}

v1::TrainRequest PairBatch(const std::string& state, float low, float high) {
  v1::TrainRequest request;
  request.set_state(state);
  *request.mutable_input() = Float32Tensor({2, 1}, {low, high});
  return request;
}

v1::Moments MakeMoments(int64_t count, const std::vector<double>& mean,
                        const std::vector<double>& m2) {
  v1::Moments moments;
  moments.set_count(count);
  moments.mutable_mean()->Add(mean.begin(), mean.end());
  moments.mutable_m2()->Add(m2.begin(), m2.end());
  return moments;
}

}  // namespace normd::testing
