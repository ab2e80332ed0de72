#include "core/state/state_codec.h"

#include <cstddef>
#include <memory>

#include "absl/strings/str_cat.h"
#include "core/base/checksum.h"
#include "core/state/state_record.h"
#include "normd/storage/v1/state_record.pb.h"

namespace normd {
namespace {

constexpr size_t kChecksumBytes = 4;
constexpr size_t kHeaderBytes = 8;

// The memory of a larger record is not kept for the next one.
constexpr size_t kKeptRecordBytesMax = size_t{1} << 20;

void PutFixed32(uint32_t value, char* to) {
  for (int i = 0; i < 4; ++i) to[i] = static_cast<char>((value >> (8 * i)) & 0xff);
}

uint32_t GetFixed32(const char* from) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= uint32_t{static_cast<unsigned char>(from[i])} << (8 * i);
  return value;
}

}  // namespace

std::string EncodeState(const NormState& state) {
  std::string data;
  StateEncoder().Encode(state, data);
  return data;
}

StateEncoder::StateEncoder() : record_(std::make_unique<storage::v1::StateRecord>()) {}

StateEncoder::~StateEncoder() = default;

void StateEncoder::Encode(const NormState& state, std::string& data) {
  ToRecord(state, *record_);
  const size_t record_bytes = record_->ByteSizeLong();
  data.resize(kHeaderBytes + record_bytes);
  record_->SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(data.data() + kHeaderBytes));
  PutFixed32(OldestVersionFor(state), data.data() + kChecksumBytes);
  PutFixed32(Crc32(absl::string_view(data).substr(kChecksumBytes)), data.data());
  if (record_bytes > kKeptRecordBytesMax) *record_ = storage::v1::StateRecord();
}

absl::StatusOr<NormState> DecodeState(absl::string_view name, int64_t revision,
                                      absl::string_view data) {
  if (data.size() < kHeaderBytes) {
    return RecordDamaged(
        name, absl::StrCat("it has ", data.size(), " bytes, expected at least ", kHeaderBytes));
  }
  if (GetFixed32(data.data()) != Crc32(data.substr(kChecksumBytes))) {
    return RecordDamaged(name, "its checksum does not match its bytes");
  }
  if (const uint32_t version = GetFixed32(data.data() + kChecksumBytes);
      version < 1 || version > kFormatVersionMax) {
    return RecordDamaged(
        name, absl::StrCat("it has format version ", version, ", this server knows versions 1 to ",
                           kFormatVersionMax));
  }
  storage::v1::StateRecord record;
  const absl::string_view body = data.substr(kHeaderBytes);
  if (!record.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    return RecordDamaged(name, "it does not parse");
  }
  return FromRecord(name, revision, record);
}

}  // namespace normd
