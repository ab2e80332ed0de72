// Clients that send and never read, or send what takes much memory: that of the server stays
// bounded.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "normd/v1/normalization_service.grpc.pb.h"
#include "normd/v1/state_service.grpc.pb.h"
#include "tests/testing/server_process.h"

namespace normd::testing {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int kFeatures = 64;
constexpr int64_t kMessageBytes = 4 * kMiB;
constexpr int64_t kStreamBytes = 16 * kMiB;

// A client that writes until it is cancelled and reads nothing.
class StoppedClient {
 public:
  StoppedClient(const std::string& address, const v1::NormalizeRequest& request)
      : stub_(v1::NormalizationService::NewStub(MakeChannel(address))),
        stream_(stub_->StreamNormalize(&context_)),
        thread_([this, request] {
          while (stream_->Write(request)) ++written_;
        }) {}

  ~StoppedClient() {
    context_.TryCancel();
    thread_.join();
  }

  StoppedClient(const StoppedClient&) = delete;
  StoppedClient& operator=(const StoppedClient&) = delete;

  int64_t written() const { return written_; }

 private:
  static std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
    grpc::ChannelArguments arguments;
    // A connection of its own.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }

  const std::unique_ptr<v1::NormalizationService::Stub> stub_;
  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientReaderWriter<v1::NormalizeRequest, v1::NormalizeResponse>>
      stream_;
  std::atomic<int64_t> written_ = 0;
  std::thread thread_;
};

v1::NormalizeRequest Request(int64_t bytes) {
  v1::NormalizeRequest request;
  request.set_state("m");
  v1::Tensor& input = *request.mutable_input();
  input.set_dtype(v1::FLOAT32);
  input.add_shape(bytes / 4 / kFeatures);
  input.add_shape(kFeatures);
  input.set_data(std::string(static_cast<size_t>(bytes), '\0'));
  return request;
}

TEST(MemoryTest, ClientsThatNeverReadStayWithinTheLimitOfBytes) {
  constexpr int kClients = 4;
  ServerOptions options;
  options.flags = {absl::StrCat("--stream-bytes-max=", kStreamBytes / kMiB, "MiB"),
                   absl::StrCat("--message-bytes-max=", 2 * kMessageBytes / kMiB, "MiB")};
  const auto server = ServerProcess::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string& address = (*server)->address();
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  const auto states = v1::StateService::NewStub(channel);
  const auto norms = v1::NormalizationService::NewStub(channel);
  {
    grpc::ClientContext context;
    v1::CreateStateRequest create;
    create.mutable_state()->set_name("m");
    create.mutable_state()->mutable_config()->set_kind(v1::NormConfig::BATCH_NORM);
    create.mutable_state()->mutable_config()->set_num_features(kFeatures);
    v1::State state;
    const grpc::Status status = states->CreateState(&context, create, &state);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  // Brings code and connections into memory.
  const v1::NormalizeRequest small = Request(kFeatures * 4);
  const auto normalize_small = [&] {
    grpc::ClientContext context;
    v1::NormalizeResponse response;
    const grpc::Status status = norms->Normalize(&context, small, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  };
  normalize_small();
  const int64_t before = (*server)->ResidentBytes();
  ASSERT_GT(before, kMiB);

  std::vector<std::unique_ptr<StoppedClient>> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<StoppedClient>(address, Request(kMessageBytes)));
  }
  // Until none has written while hundreds of calls were served.
  const auto written = [&] {
    int64_t sum = 0;
    for (const auto& client : clients) sum += client->written();
    return sum;
  };
  int64_t last = -1;
  while (written() < kClients || last != written()) {
    last = written();
    for (int i = 0; i < 300; ++i) normalize_small();
  }
  // What is in hand, a message that is read beyond it, its answer, and what the kernel and gRPC
  // hold of each connection; and a pool of memory for the next messages.
  const int64_t bound = kClients * (kStreamBytes + 4 * kMessageBytes) + 128 * kMiB;
  EXPECT_LT((*server)->ResidentBytes() - before, bound) << last << " messages";
  // They were not simply refused.
  EXPECT_GE(last, kClients);
  EXPECT_LT(last * kMessageBytes, 2 * bound);
  normalize_small();
}

TEST(MemoryTest, AMessageOfManyFieldsIsRefusedBeforeItTakesManyTimesItsBytes) {
  const auto server = ServerProcess::Start({});
  ASSERT_TRUE(server.ok()) << server.status();
  grpc::GenericStub stub(
      grpc::CreateChannel((*server)->address(), grpc::InsecureChannelCredentials()));
  // update_mask { paths: "" paths: "" ... }, and as many numbers that nobody knows.
  constexpr int64_t kFields = 31 * kMiB;
  std::string mask("\x12\x80\x80\x80\x1f", 5);
  std::string unknown;
  for (int64_t i = 0; i < kFields; ++i) {
    mask.append("\x0a\0", 2);
    unknown.append("\x78\0", 2);
  }
  const int64_t before = (*server)->ResidentBytes();
  ASSERT_GT(before, kMiB);
  const std::pair<std::string, const std::string*> requests[] = {
      {"/normd.v1.StateService/UpdateState", &mask},
      {"/normd.v1.StateService/UpdateState", &unknown},
      {"/normd.v1.NormalizationService/Train", &unknown},
      {"/normd.v1.NormalizationService/Backward", &unknown}};
  for (const auto& [method, bytes] : requests) {
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const grpc::Slice slice(*bytes);
    const auto call = stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(&slice, 1), &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << method;
    EXPECT_THAT(status.error_message(), ::testing::HasSubstr("more than 1024 fields in 650117"));
  }
  // The server keeps memory that it freed: this is the most that it had. A message itself, and not
  // the twenty-five times that the first takes when it is parsed.
  EXPECT_LT((*server)->ResidentBytes() - before, 4 * kFields + 64 * kMiB);
}

// A connection by which a client opens calls as fast as it can, written by hand (RFC 9113): gRPC's
// own keeps back what the server does not take.
class CallFlood {
 public:
  explicit CallFlood(const std::string& address) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    const std::pair<std::string, std::string> host_port =
        absl::StrSplit(address, absl::MaxSplits(':', 1));
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(host_port.second, &port));
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    EXPECT_EQ(inet_pton(AF_INET, host_port.first.c_str(), &to.sin_addr), 1);
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
    EXPECT_TRUE(Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, 0, 0, "")));
    char settings = 0;
    EXPECT_EQ(recv(fd_, &settings, 1, 0), 1);
    EXPECT_TRUE(Send(Frame(kSettings, kAcknowledges, 0, "")));
  }
  ~CallFlood() { close(fd_); }

  CallFlood(const CallFlood&) = delete;
  CallFlood& operator=(const CallFlood&) = delete;

  // Opens calls, whose requests are to come, and returns how many before the server closed the
  // connection; `calls_max` when it did not.
  int64_t Open(int64_t calls_max) {
    constexpr int64_t kCallsAtOnce = 100;
    const std::string headers = "\x83\x86" + Header(":path", "/normd.v1.StateService/GetState") +
                                Header(":authority", "normd") + Header("te", "trailers") +
                                Header("content-type", "application/grpc");
    for (int64_t call = 0; call < calls_max;) {
      std::string frames;
      for (int64_t i = 0; i < kCallsAtOnce; ++i, ++call) {
        frames += Frame(kHeaders, kEndsHeaders, static_cast<uint32_t>(2 * call + 1), headers);
      }
      if (!Send(frames)) return call;
    }
    return calls_max;
  }

 private:
  static constexpr char kHeaders = 1;
  static constexpr char kSettings = 4;
  static constexpr char kAcknowledges = 1;
  static constexpr char kEndsHeaders = 4;

  static std::string Number(uint32_t value, int bytes) {
    std::string text;
    for (int i = bytes - 1; i >= 0; --i) text.push_back(static_cast<char>(value >> (8 * i)));
    return text;
  }

  static std::string Frame(char type, char flags, uint32_t stream, const std::string& payload) {
    return Number(static_cast<uint32_t>(payload.size()), 3) + type + flags + Number(stream, 4) +
           payload;
  }

  // A literal without an index (RFC 7541). REQUIRES: both below 127 bytes.
  static std::string Header(const std::string& name, const std::string& value) {
    return std::string(1, '\0') + static_cast<char>(name.size()) + name +
           static_cast<char>(value.size()) + value;
  }

  bool Send(const std::string& bytes) {
    for (size_t sent = 0; sent < bytes.size();) {
      const ssize_t count = send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return false;
      sent += static_cast<size_t>(count);
    }
    return true;
  }

  const int fd_;
};

TEST(MemoryTest, AConnectionWithTooManyCallsIsClosed) {
  constexpr int64_t kCalls = 100'000;
  const auto server = ServerProcess::Start({});
  ASSERT_TRUE(server.ok()) << server.status();
  const int64_t before = (*server)->ResidentBytes();
  ASSERT_GT(before, kMiB);
  CallFlood flood((*server)->address());
  EXPECT_LT(flood.Open(kCalls), kCalls);
  // Some 12 KiB of each of 4096 calls, not 1.2 GiB.
  EXPECT_LT((*server)->ResidentBytes() - before, 160 * kMiB);
}

}  // namespace
}  // namespace normd::testing
