// grpc.health.v1 and server reflection, beside our own services.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/descriptor_database.h>
#include <gtest/gtest.h>

#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpc/health/v1/health.pb.h"
#include "grpc/reflection/v1/reflection.pb.h"
#include "tests/server/raw_stream.h"
#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"
#include "tests/testing/health_watch.h"

namespace normd::testing {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

constexpr const char* kServices[] = {"", "normd.v1.StateService", "normd.v1.NormalizationService"};

class HealthTest : public ServerTest {
 protected:
  void SetUp() override { StartServer(InMemory()); }

  // A Check with `bytes`; its answer into `response`, where there is one.
  grpc::Status Check(const std::string& bytes, HealthCheckResponse* response) {
    RawStream call(channel_, "/grpc.health.v1.Health/Check");
    call.Write(bytes);
    call.WritesDone();
    if (const auto answer = call.Read<HealthCheckResponse>(); answer.has_value()) {
      *response = *answer;
    }
    return call.Finish();
  }
};

TEST_F(HealthTest, CheckTellsThatTheServerAndEachServiceServe) {
  for (const char* service : kServices) {
    SCOPED_TRACE(service);
    HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    EXPECT_TRUE(Check(request.SerializeAsString(), &response).ok());
    EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  }
}

TEST_F(HealthTest, CheckRefusesWhatIsNoServiceOfOurs) {
  HealthCheckResponse response;
  HealthCheckRequest request;
  request.set_service("normd.v1.NoSuchService");
  const WireError unknown = ErrorOf(Check(request.SerializeAsString(), &response));
  EXPECT_EQ(unknown.code, grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(unknown.reason, "SERVICE_NOT_FOUND");
  EXPECT_THAT(unknown.message, HasSubstr("'normd.v1.NoSuchService'"));
  EXPECT_EQ(ErrorOf(Check("\xff\xff", &response)).reason, "MESSAGE_MALFORMED");
  request.set_service(std::string(4096, 'a'));
  EXPECT_EQ(ErrorOf(Check(request.SerializeAsString(), &response)).reason, "MESSAGE_TOO_LARGE");
}

TEST_F(HealthTest, WatchTellsOfEachServiceUntilTheDrain) {
  std::vector<std::unique_ptr<HealthWatch>> watches;
  for (const char* service : kServices) {
    watches.push_back(std::make_unique<HealthWatch>(address(), service));
    EXPECT_EQ(watches.back()->Next(), HealthStatus::kServing) << service;
  }
  HealthWatch unknown(address(), "normd.v1.NoSuchService");
  EXPECT_EQ(unknown.Next(), HealthStatus::kServiceUnknown);
  std::thread drain([this] { server_->Drain(); });
  for (const auto& watch : watches) {
    EXPECT_EQ(watch->Next(), HealthStatus::kNotServing);
    EXPECT_FALSE(watch->Next().has_value()) << "the call ends with the server";
  }
  EXPECT_FALSE(unknown.Next().has_value()) << "it is told nothing new";
  drain.join();
}

TEST_F(HealthTest, WatchesThatTheirClientsLeaveAreLetGo) {
  // More than are allowed at a time.
  for (int i = 0; i < 1100; ++i) {
    HealthWatch watch(address(), "");
    ASSERT_EQ(watch.Next(), HealthStatus::kServing) << i;
  }
}

// By the name of the package.
class ReflectionTest : public ServerTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    StartServer(InMemory());
    stream_ = std::make_unique<RawStream>(
        channel_, absl::StrCat("/", GetParam(), ".ServerReflection/ServerReflectionInfo"));
  }

  void TearDown() override {
    EXPECT_TRUE(stream_->WritesDone());
    EXPECT_TRUE(stream_->Finish().ok());
    stream_.reset();
    ServerTest::TearDown();
  }

  ServerReflectionResponse AskBytes(const std::string& bytes) {
    EXPECT_TRUE(stream_->Write(bytes));
    return stream_->Read<ServerReflectionResponse>().value_or(ServerReflectionResponse());
  }

  ServerReflectionResponse Ask(const ServerReflectionRequest& request) {
    ServerReflectionResponse response = AskBytes(request.SerializeAsString());
    EXPECT_EQ(response.original_request().SerializeAsString(), request.SerializeAsString());
    EXPECT_EQ(response.valid_host(), request.host());
    return response;
  }

  ServerReflectionResponse AskSymbol(const std::string& symbol) {
    ServerReflectionRequest request;
    request.set_host("here");
    request.set_file_containing_symbol(symbol);
    return Ask(request);
  }

  std::unique_ptr<RawStream> stream_;
};

// What an answer describes, made anew from it alone.
class Described {
 public:
  explicit Described(const ServerReflectionResponse& response) {
    const auto& files = response.file_descriptor_response().file_descriptor_proto();
    EXPECT_GT(files.size(), 0) << response.ShortDebugString();
    for (const std::string& file : files) {
      google::protobuf::FileDescriptorProto proto;
      EXPECT_TRUE(proto.ParseFromString(file));
      EXPECT_TRUE(database_.Add(proto)) << proto.name() << " came twice";
    }
  }

  const google::protobuf::DescriptorPool& pool() const { return pool_; }

 private:
  google::protobuf::SimpleDescriptorDatabase database_;
  google::protobuf::DescriptorPool pool_{&database_};
};

TEST_P(ReflectionTest, ListsAllServices) {
  ServerReflectionRequest request;
  request.set_list_services("*");
  std::vector<std::string> names;
  const ServerReflectionResponse response = Ask(request);
  for (const auto& service : response.list_services_response().service()) {
    names.push_back(service.name());
  }
  EXPECT_THAT(names,
              UnorderedElementsAre("normd.v1.StateService", "normd.v1.NormalizationService",
                                   "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                                   "grpc.reflection.v1alpha.ServerReflection"));
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    EXPECT_NE(Described(AskSymbol(name)).pool().FindServiceByName(name), nullptr);
  }
}

TEST_P(ReflectionTest, DescribesAServiceWithAllThatItNeeds) {
  const std::string name = "normd.v1.NormalizationService.StreamTrain";
  const Described described(AskSymbol(name));
  const auto* method = described.pool().FindMethodByName(name);
  ASSERT_NE(method, nullptr);
  EXPECT_TRUE(method->client_streaming());
  EXPECT_EQ(method->input_type()->full_name(), "normd.v1.TrainRequest");
}

TEST_P(ReflectionTest, FindsAFileByItsName) {
  ServerReflectionRequest request;
  request.set_file_by_filename("normd/v1/state_service.proto");
  EXPECT_NE(Described(Ask(request)).pool().FindServiceByName("normd.v1.StateService"), nullptr);
}

TEST_P(ReflectionTest, TellsInPlaceOfWhatIsNotThere) {
  const ServerReflectionResponse symbol = AskSymbol("normd.v1.Nothing");
  EXPECT_EQ(symbol.error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(symbol.error_response().error_message(), HasSubstr("'normd.v1.Nothing'"));
  ServerReflectionRequest request;
  request.set_file_by_filename("no/such.proto");
  EXPECT_EQ(Ask(request).error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  request.set_all_extension_numbers_of_type("no.Such");
  EXPECT_EQ(Ask(request).error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  request.mutable_file_containing_extension()->set_containing_type("no.Such");
  EXPECT_EQ(Ask(request).error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  request.Clear();
  EXPECT_EQ(Ask(request).error_response().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(AskBytes("\xff\xff").error_response().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(AskBytes(std::string(100 << 10, 'a')).error_response().error_message(),
              ::testing::EndsWith("expected at most 4096"));
}

TEST_P(ReflectionTest, KnowsTheExtensionsOfAMessage) {
  ServerReflectionRequest request;
  request.set_all_extension_numbers_of_type("normd.v1.State");
  const ServerReflectionResponse response = Ask(request);
  EXPECT_EQ(response.all_extension_numbers_response().base_type_name(), "normd.v1.State");
  EXPECT_EQ(response.all_extension_numbers_response().extension_number_size(), 0);
}

INSTANTIATE_TEST_SUITE_P(Versions, ReflectionTest,
                         ::testing::Values("grpc.reflection.v1", "grpc.reflection.v1alpha"),
                         [](const auto& version) {
                           return absl::StrCat("Version", version.index);
                         });

}  // namespace
}  // namespace normd::testing
