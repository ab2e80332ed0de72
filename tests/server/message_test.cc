// Bytes that are no message, and messages that are too large.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/raw_stream.h"
#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"

namespace normd::testing {
namespace {

using ::testing::HasSubstr;

const std::string kDataService = "/normd.v1.NormalizationService/";

class MessageTest : public ServerTest {
 protected:
  void SetUp() override { StartServer(InMemory()); }

  // A stream that is told what it should have been sent, and lives on.
  template <typename Response>
  void ExpectMalformedInPlace(const std::string& method, const std::string& expected) {
    RawStream stream(channel_, kDataService + method);
    ASSERT_TRUE(stream.Write("this is no protobuf message"));
    const auto refused = stream.template Read<Response>();
    ASSERT_TRUE(refused.has_value());
    EXPECT_EQ(ErrorOf(refused->error()).reason, "MESSAGE_MALFORMED");
    EXPECT_THAT(refused->error().message(), HasSubstr(expected));
    ASSERT_TRUE(stream.WritesDone());
    EXPECT_TRUE(stream.Finish().ok());
  }
};

struct BadBytes {
  std::string name;
  std::string bytes;
};

std::vector<BadBytes> AllBadBytes() {
  const std::string whole = PairBatch("m", 0, 2).SerializeAsString();
  return {
      {"text", "this is no protobuf message"},
      {"truncated", whole.substr(0, whole.size() - 3)},
      {"half a tag", std::string("\xff", 1)},
      {"endless varint", std::string(20, '\xff')},
      {"length beyond the end", std::string("\x0a\x7f", 2) + "m"},
      {"length of 2^32-1", std::string("\x22\xff\xff\xff\xff\x0f", 6)},
      {"field number 0", std::string("\x00\x01", 2)},
      {"group end without start", std::string("\x0c", 1)},
      {"wire type 7", std::string("\x0f", 1)},
      {"name that is not UTF-8", std::string("\x0a\x02\xc3\x28", 4) + whole.substr(3)},
      {"producer_id that is not UTF-8", whole + std::string("\x12\x01\x80", 3)},
  };
}

TEST_F(MessageTest, BytesThatAreNoMessageAreAnsweredInPlace) {
  MustCreate("m", 1);
  const std::string good = PairBatch("m", 0, 2).SerializeAsString();
  RawStream stream(channel_, kDataService + "StreamTrain");
  int64_t applied = 0;
  for (const BadBytes& bad : AllBadBytes()) {
    SCOPED_TRACE(bad.name);
    const std::string before = MustGet("m").SerializeAsString();
    ASSERT_TRUE(stream.Write(bad.bytes));
    const auto refused = stream.Read<v1::TrainResponse>();
    ASSERT_TRUE(refused.has_value()) << ErrorOf(stream.Finish());
    const WireError error = ErrorOf(refused->error());
    EXPECT_EQ(error.code, grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(error.reason, "MESSAGE_MALFORMED") << error;
    EXPECT_EQ(error.domain, "normd");
    EXPECT_THAT(error.message, HasSubstr("normd.v1.TrainRequest"));
    EXPECT_EQ(MustGet("m").SerializeAsString(), before);
    ASSERT_TRUE(stream.Write(good));
    const auto answered = stream.Read<v1::TrainResponse>();
    ASSERT_TRUE(answered.has_value());
    EXPECT_EQ(answered->num_batches_tracked(), ++applied);
  }
  ASSERT_TRUE(stream.WritesDone());
  EXPECT_FALSE(stream.Read<v1::TrainResponse>().has_value());
  EXPECT_TRUE(stream.Finish().ok());
}

// What comes at once is looked at together before the first of it is handled.
TEST_F(MessageTest, BytesThatAreNoMessageAreAnsweredInPlaceAmongOthersThatComeAtOnce) {
  const std::vector<BadBytes> all = AllBadBytes();
  std::vector<std::string> messages;
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string name = absl::StrCat("m", i);
    MustCreate(name, 1);
    v1::TrainRequest good = PairBatch(name, 0, 2);
    messages.push_back(good.SerializeAsString());
    messages.push_back(all[i].bytes);
    // The same with the name behind everything else.
    good.clear_state();
    v1::TrainRequest state;
    state.set_state(name);
    messages.push_back(good.SerializeAsString() + state.SerializeAsString());
    messages.push_back("");
  }
  RawStream stream(channel_, kDataService + "StreamTrain");
  for (const std::string& message : messages) {
    ASSERT_TRUE(stream.Write(message, /*more=*/&message != &messages.back()));
  }
  const auto expect_refused = [&](const std::string& reason) {
    const auto refused = stream.Read<v1::TrainResponse>();
    ASSERT_TRUE(refused.has_value()) << ErrorOf(stream.Finish());
    EXPECT_EQ(ErrorOf(refused->error()).reason, reason);
  };
  const auto expect_batches = [&](int64_t batches) {
    const auto answered = stream.Read<v1::TrainResponse>();
    ASSERT_TRUE(answered.has_value()) << ErrorOf(stream.Finish());
    EXPECT_EQ(answered->num_batches_tracked(), batches) << ErrorOf(answered->error());
  };
  for (const BadBytes& bad : all) {
    SCOPED_TRACE(bad.name);
    expect_batches(1);
    expect_refused("MESSAGE_MALFORMED");
    expect_batches(2);
    expect_refused("BATCH_MISSING");
  }
  ASSERT_TRUE(stream.WritesDone());
  EXPECT_FALSE(stream.Read<v1::TrainResponse>().has_value());
  EXPECT_TRUE(stream.Finish().ok());
}

TEST_F(MessageTest, BytesThatAreNoMessageAreRefusedByEveryMethod) {
  MustCreate("m", 1);
  ExpectMalformedInPlace<v1::NormalizeResponse>("StreamNormalize", "normd.v1.NormalizeRequest");
  ExpectMalformedInPlace<v1::BackwardResponse>("StreamBackward", "normd.v1.BackwardRequest");
  for (const char* method : {"Train", "Normalize", "Backward", "ApplyGradients"}) {
    SCOPED_TRACE(method);
    RawStream call(channel_, kDataService + method);
    ASSERT_TRUE(call.Write(std::string(20, '\xff')));
    ASSERT_TRUE(call.WritesDone());
    EXPECT_EQ(ErrorOf(call.Finish()).reason, "MESSAGE_MALFORMED");
  }
  EXPECT_EQ(MustGet("m").revision(), 1);
}

TEST_F(MessageTest, BytesThatAreNoMessageAreRefusedByEveryControlMethod) {
  MustCreate("m", 1);
  const std::map<std::string, std::string> request_of = {
      {"WatchStates", "WatchStatesRequest"},
      {"CreateState", "CreateStateRequest"},
      {"GetState", "GetStateRequest"},
      {"ListStates", "ListStatesRequest"},
      {"UpdateState", "UpdateStateRequest"},
      {"DeleteState", "DeleteStateRequest"},
      {"SetParameters", "SetParametersRequest"},
      {"ResetRunningStats", "ResetRunningStatsRequest"},
      {"FreezeState", "FreezeStateRequest"},
      {"UnfreezeState", "UnfreezeStateRequest"},
      {"BeginCalibration", "BeginCalibrationRequest"},
      {"CommitCalibration", "CommitCalibrationRequest"},
      {"AbortCalibration", "AbortCalibrationRequest"}};
  for (const auto& [method, request] : request_of) {
    SCOPED_TRACE(method);
    RawStream call(channel_, absl::StrCat("/normd.v1.StateService/", method));
    ASSERT_TRUE(call.Write(std::string("\x0a\x02\xc3\x28", 4)));
    call.WritesDone();
    const WireError error = ErrorOf(call.Finish());
    EXPECT_EQ(error.code, grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(error.reason, "MESSAGE_MALFORMED") << error;
    EXPECT_THAT(error.message, HasSubstr("normd.v1." + request));
  }
  EXPECT_EQ(MustGet("m").revision(), 1);
}

TEST_F(MessageTest, TheLastBatchOfAMessageCounts) {
  MustCreate("m", 1);
  // An input, and then moments of the same oneof: protobuf's rule is that the last one stands.
  v1::TrainRequest moments;
  *moments.mutable_moments() = MakeMoments(2, {10}, {2});
  RawStream stream(channel_, kDataService + "StreamTrain");
  ASSERT_TRUE(stream.Write(PairBatch("m", 0, 2).SerializeAsString() + moments.SerializeAsString()));
  const auto answered = stream.Read<v1::TrainResponse>();
  ASSERT_TRUE(answered.has_value());
  EXPECT_FALSE(answered->has_error()) << ErrorOf(answered->error());
  EXPECT_DOUBLE_EQ(Doubles(MustGet("m").running_stats().running_mean())[0], 1.0);
  ASSERT_TRUE(stream.WritesDone());
  EXPECT_TRUE(stream.Finish().ok());
}

// A batch [values,1] of zeros, so that the whole message has about 4 x values bytes.
v1::TrainRequest BatchOfValues(int values) {
  v1::TrainRequest request;
  request.set_state("m");
  *request.mutable_input() = Float32Tensor({values, 1}, std::vector<float>(values, 0.0F));
  return request;
}

class MessageSizeTest : public ServerTest {
 protected:
  static constexpr int64_t kLimitBytes = 64 * kKiB;

  void SetUp() override {
    normd::ServerOptions options = InMemory();
    options.message_bytes_max = kLimitBytes;
    StartServer(options);
    MustCreate("m", 1);
  }
};

TEST_F(MessageSizeTest, AMessageOfExactlyTheLimitIsTaken) {
  v1::TrainRequest request = BatchOfValues(16000);
  request.set_producer_id("p");
  const size_t size = request.ByteSizeLong();
  ASSERT_LT(size, 64 * kKiB);
  // A float of padding is 4 bytes; the producer_id fills up what is left.
  request = BatchOfValues(16000 + static_cast<int>(64 * kKiB - size) / 4 - 4);
  request.set_sequence(1);
  request.set_producer_id("p");
  while (request.ByteSizeLong() < 64 * kKiB) request.mutable_producer_id()->push_back('p');
  ASSERT_EQ(request.ByteSizeLong(), 64 * kKiB);
  grpc::Status status = Train(request);
  EXPECT_TRUE(status.ok()) << ErrorOf(status);

  request.mutable_producer_id()->push_back('p');
  const WireError error = ErrorOf(Train(request));
  EXPECT_EQ(error.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(error.reason, "MESSAGE_TOO_LARGE") << error;
  EXPECT_THAT(error.message, HasSubstr("65537 bytes, expected at most 65536"));
  EXPECT_EQ(error.metadata.at("expected_max_bytes"), "65536");
  EXPECT_EQ(error.metadata.at("actual_bytes"), "65537");
  EXPECT_EQ(MustGet("m").running_stats().num_batches_tracked(), 1);
}

TEST_F(MessageSizeTest, AMessageUpToTwiceTheLimitIsAnsweredInPlace) {
  TestContext context;
  const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&context);
  for (const int values : {16384, 24000, 32700}) {
    SCOPED_TRACE(values);
    const std::string before = MustGet("m").SerializeAsString();
    const v1::TrainRequest large = BatchOfValues(values);
    ASSERT_TRUE(stream->Write(large));
    v1::TrainResponse response;
    ASSERT_TRUE(stream->Read(&response));
    const WireError error = ErrorOf(response.error());
    EXPECT_EQ(error.reason, "MESSAGE_TOO_LARGE") << error;
    EXPECT_THAT(error.message,
                HasSubstr(absl::StrCat(large.ByteSizeLong(), " bytes, expected at most 65536")));
    EXPECT_EQ(MustGet("m").SerializeAsString(), before);
    ASSERT_TRUE(stream->Write(BatchOfValues(16000)));
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_FALSE(response.has_error()) << ErrorOf(response.error());
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

// `request` with a field that nobody knows, so that it has `bytes` bytes. REQUIRES: 20000 more than
// it has.
template <typename Request>
Request Padded(Request request, size_t bytes) {
  constexpr int kUnknownField = 1000;
  constexpr size_t kHeadBytes = 5;
  const std::string padding(bytes - request.ByteSizeLong() - kHeadBytes, 'p');
  request.GetReflection()->MutableUnknownFields(&request)->AddLengthDelimited(kUnknownField,
                                                                              padding);
  EXPECT_EQ(request.ByteSizeLong(), bytes);
  return request;
}

class ControlSizeTest : public MessageSizeTest {
 protected:
  struct Method {
    std::string name;
    // Calls the method with a request of so many bytes that is else as it should be.
    std::function<grpc::Status(size_t bytes)> call;
    // Why it is refused nevertheless when each was called before it; empty: it is not.
    std::string reason = "";
  };

  std::vector<Method> Methods() {
    using Stub = v1::StateService::Stub;
    v1::CreateStateRequest create;
    *create.mutable_state() = BatchNormState("new", 1);
    v1::UpdateStateRequest update;
    update.mutable_state()->set_name("m");
    update.mutable_state()->mutable_config()->set_eps(0.5);
    update.mutable_update_mask()->add_paths("config.eps");
    v1::SetParametersRequest set_parameters;
    set_parameters.set_name("m");
    *set_parameters.mutable_parameters()->mutable_weight() = Float32Tensor({1}, {2});
    v1::BeginCalibrationRequest begin;
    begin.set_name("m");
    begin.set_method(v1::Calibration::POOLED);
    v1::WatchStatesRequest watch;
    const auto watch_to_the_end = [this, watch](size_t bytes) {
      TestContext context;
      const auto reader = states_->WatchStates(&context, Padded(watch, bytes));
      reader->WaitForInitialMetadata();
      if (bytes <= kLimitBytes) context.TryCancel();
      const grpc::Status status = reader->Finish();
      return status.error_code() == grpc::StatusCode::CANCELLED ? grpc::Status::OK : status;
    };
    return {
        {"CreateState", Caller(&Stub::CreateState, create)},
        {"GetState", Caller(&Stub::GetState, Named<v1::GetStateRequest>())},
        {"ListStates", Caller(&Stub::ListStates, v1::ListStatesRequest())},
        {"UpdateState", Caller(&Stub::UpdateState, update)},
        {"SetParameters", Caller(&Stub::SetParameters, set_parameters)},
        {"ResetRunningStats",
         Caller(&Stub::ResetRunningStats, Named<v1::ResetRunningStatsRequest>())},
        {"FreezeState", Caller(&Stub::FreezeState, Named<v1::FreezeStateRequest>())},
        {"UnfreezeState", Caller(&Stub::UnfreezeState, Named<v1::UnfreezeStateRequest>())},
        {"BeginCalibration", Caller(&Stub::BeginCalibration, begin)},
        {"CommitCalibration",
         Caller(&Stub::CommitCalibration, Named<v1::CommitCalibrationRequest>()),
         "CALIBRATION_EMPTY"},
        {"AbortCalibration", Caller(&Stub::AbortCalibration, Named<v1::AbortCalibrationRequest>())},
        {"WatchStates", watch_to_the_end},
        {"DeleteState", Caller(&Stub::DeleteState, Named<v1::DeleteStateRequest>())}};
  }

  template <typename Request, typename Response>
  std::function<grpc::Status(size_t bytes)> Caller(
      grpc::Status (v1::StateService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                     Response*),
      const Request& request) {
    return [this, method, request](size_t bytes) {
      TestContext context;
      Response response;
      return (states_.get()->*method)(&context, Padded(request, bytes), &response);
    };
  }

  template <typename Request>
  static Request Named() {
    Request request;
    request.set_name("m");
    return request;
  }
};

TEST_F(ControlSizeTest, AControlRequestAboveTheLimitIsRefusedAndChangesNothing) {
  const std::string before = Everything();
  for (const Method& method : Methods()) {
    SCOPED_TRACE(method.name);
    const WireError error = ErrorOf(method.call(kLimitBytes + 1));
    EXPECT_EQ(error.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(error.reason, "MESSAGE_TOO_LARGE") << error;
    EXPECT_THAT(error.message,
                HasSubstr("65537 bytes, expected at most 65536 (--message-bytes-max)"));
    EXPECT_EQ(error.metadata.at("expected_max_bytes"), "65536");
    EXPECT_EQ(error.metadata.at("actual_bytes"), "65537");
  }
  EXPECT_EQ(Everything(), before);
}

TEST_F(ControlSizeTest, AControlRequestOfExactlyTheLimitIsTaken) {
  for (const Method& method : Methods()) {
    SCOPED_TRACE(method.name);
    EXPECT_EQ(ErrorOf(method.call(kLimitBytes)).reason, method.reason);
  }
}

// Before what else is wrong with it, which costs more to find.
TEST_F(ControlSizeTest, TheSizeIsLookedAtFirst) {
  v1::SetParametersRequest request;
  request.set_name(std::string(kLimitBytes, 'm'));
  EXPECT_EQ(ErrorOf(SetParameters(request)).reason, "MESSAGE_TOO_LARGE");
  EXPECT_EQ(ErrorOf(Create(BatchNormState(request.name(), 0))).reason, "MESSAGE_TOO_LARGE");
}

TEST_F(MessageSizeTest, AMessageOverTwiceTheLimitEndsTheCallAndNotTheServer) {
  const std::string before = MustGet("m").SerializeAsString();
  for (const int values : {33000, 4'000'000}) {
    SCOPED_TRACE(values);
    EXPECT_EQ(Train(BatchOfValues(values)).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    TestContext context;
    const std::unique_ptr<TrainStream> stream = data_->StreamTrain(&context);
    stream->Write(BatchOfValues(values));
    v1::TrainResponse response;
    EXPECT_FALSE(stream->Read(&response));
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
  EXPECT_EQ(MustGet("m").SerializeAsString(), before);
  EXPECT_TRUE(Train(BatchOfValues(16000)).ok());
}

}  // namespace
}  // namespace normd::testing
