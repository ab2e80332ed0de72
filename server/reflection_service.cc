#include "server/reflection_service.h"

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"
#include "server/message_codec.h"

namespace normd {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using grpc::reflection::v1::ExtensionRequest;
using grpc::reflection::v1::FileDescriptorResponse;
using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;

// `file` and all that it imports, each once.
void AddFiles(const FileDescriptor& file, FileDescriptorResponse& response) {
  std::vector<const FileDescriptor*> files = {&file};
  absl::flat_hash_set<const FileDescriptor*> seen = {&file};
  for (size_t next = 0; next < files.size(); ++next) {
    google::protobuf::FileDescriptorProto proto;
    files[next]->CopyTo(&proto);
    response.add_file_descriptor_proto(proto.SerializeAsString());
    for (int i = 0; i < files[next]->dependency_count(); ++i) {
      const FileDescriptor* const dependency = files[next]->dependency(i);
      if (seen.insert(dependency).second) files.push_back(dependency);
    }
  }
}

absl::Status NotFound(absl::string_view what, absl::string_view name) {
  return absl::NotFoundError(absl::StrCat("the server has no ", what, " '", name, "'"));
}

absl::Status AddFile(const FileDescriptor* file, absl::string_view what, absl::string_view name,
                     ServerReflectionResponse& response) {
  if (file == nullptr) return NotFound(what, name);
  AddFiles(*file, *response.mutable_file_descriptor_response());
  return absl::OkStatus();
}

const FileDescriptor* FileOf(const ExtensionRequest& request) {
  const DescriptorPool* const pool = DescriptorPool::generated_pool();
  const Descriptor* const type = pool->FindMessageTypeByName(request.containing_type());
  if (type == nullptr) return nullptr;
  const FieldDescriptor* const extension =
      pool->FindExtensionByNumber(type, request.extension_number());
  return extension == nullptr ? nullptr : extension->file();
}

absl::Status AddExtensions(const std::string& name, ServerReflectionResponse& response) {
  const DescriptorPool* const pool = DescriptorPool::generated_pool();
  const Descriptor* const type = pool->FindMessageTypeByName(name);
  if (type == nullptr) return NotFound("message", name);
  std::vector<const FieldDescriptor*> extensions;
  pool->FindAllExtensions(type, &extensions);
  auto& numbers = *response.mutable_all_extension_numbers_response();
  numbers.set_base_type_name(name);
  for (const FieldDescriptor* extension : extensions) {
    numbers.add_extension_number(extension->number());
  }
  return absl::OkStatus();
}

absl::Status Answer(const ServerReflectionRequest& request,
                    const std::vector<std::string>& services, ServerReflectionResponse& response) {
  const DescriptorPool* const pool = DescriptorPool::generated_pool();
  switch (request.message_request_case()) {
    case ServerReflectionRequest::kFileByFilename:
      return AddFile(pool->FindFileByName(request.file_by_filename()), "file",
                     request.file_by_filename(), response);
    case ServerReflectionRequest::kFileContainingSymbol:
      return AddFile(pool->FindFileContainingSymbol(request.file_containing_symbol()), "symbol",
                     request.file_containing_symbol(), response);
    case ServerReflectionRequest::kFileContainingExtension: {
      const ExtensionRequest& extension = request.file_containing_extension();
      return AddFile(FileOf(extension), "extension",
                     absl::StrCat(extension.containing_type(), " ", extension.extension_number()),
                     response);
    }
    case ServerReflectionRequest::kAllExtensionNumbersOfType:
      return AddExtensions(request.all_extension_numbers_of_type(), response);
    case ServerReflectionRequest::kListServices:
      for (const std::string& service : services) {
        response.mutable_list_services_response()->add_service()->set_name(service);
      }
      return absl::OkStatus();
    case ServerReflectionRequest::MESSAGE_REQUEST_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("the request asks nothing, expected one of message_request");
}

}  // namespace

void ReflectionHandler::Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) {
  ServerReflectionResponse response;
  ServerReflectionRequest& message = *response.mutable_original_request();
  absl::Status status = ParseMessage(request, kStandardRequestBytesMax, message);
  if (status.ok()) {
    response.set_valid_host(message.host());
    status = Answer(message, services_, response);
  } else {
    message.Clear();
  }
  if (!status.ok()) {
    response.mutable_error_response()->set_error_code(status.raw_code());
    response.mutable_error_response()->set_error_message(std::string(status.message()));
  }
  call->Done(status, SerializeMessage(response));
}

}  // namespace normd
