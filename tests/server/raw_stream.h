#ifndef NORMD_TESTS_SERVER_RAW_STREAM_H_
#define NORMD_TESTS_SERVER_RAW_STREAM_H_

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "tests/server/server_fixture.h"

namespace normd::testing {

// A stream of bytes, whatever they are, to a method by its path: "/package.Service/Method". One
// operation at a time.
class RawStream {
 public:
  RawStream(const std::shared_ptr<grpc::Channel>& channel, const std::string& method)
      : stub_(channel) {
    call_ = stub_.PrepareCall(&context_, method, &queue_);
    call_->StartCall(this);
    EXPECT_TRUE(Await());
  }

  ~RawStream() {
    queue_.Shutdown();
    while (Await()) {
    }
  }

  RawStream(const RawStream&) = delete;
  RawStream& operator=(const RawStream&) = delete;

  // `more`: another message follows at once, with which this one may be sent.
  bool Write(const std::string& bytes, bool more = false) {
    const grpc::Slice slice(bytes);
    grpc::WriteOptions options;
    if (more) options.set_buffer_hint();
    call_->Write(grpc::ByteBuffer(&slice, 1), options, this);
    return Await();
  }

  bool WritesDone() {
    call_->WritesDone(this);
    return Await();
  }

  // The bytes of the next response; nothing when the call has ended.
  std::optional<std::string> ReadBytes() {
    grpc::ByteBuffer buffer;
    call_->Read(&buffer, this);
    if (!Await()) return std::nullopt;
    grpc::Slice slice;
    EXPECT_TRUE(buffer.DumpToSingleSlice(&slice).ok());
    return std::string(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }

  // The next response; nothing when the call has ended.
  template <typename Response>
  std::optional<Response> Read() {
    const std::optional<std::string> bytes = ReadBytes();
    if (!bytes.has_value()) return std::nullopt;
    Response response;
    EXPECT_TRUE(response.ParseFromString(*bytes));
    return response;
  }

  grpc::Status Finish() {
    grpc::Status status;
    call_->Finish(&status, this);
    Await();
    return status;
  }

 private:
  bool Await() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  TestContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

}  // namespace normd::testing

#endif  // NORMD_TESTS_SERVER_RAW_STREAM_H_
