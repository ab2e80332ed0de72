#include "proto/wire/message_split.h"

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "normd/v1/tensor.pb.h"
#include "proto/wire/piece_reader.h"

namespace normd::wire {
namespace {

using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedOutputStream;

constexpr int kVarintBytesMax = 10;
constexpr int kTagBytesMax = 5;

void AppendVarint(uint32_t value, std::string& to) {
  if (value < 0x80) {
    to.push_back(static_cast<char>(value));
    return;
  }
  uint8_t bytes[kTagBytesMax];
  const uint8_t* end = CodedOutputStream::WriteVarint32ToArray(value, bytes);
  to.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(end - bytes));
}

class Splitter {
 public:
  Splitter(absl::Span<const absl::string_view> message, absl::Span<const TensorField> fields,
           absl::Span<Pieces> data)
      : reader_(message), fields_(fields), data_(data) {}

  bool Split(std::string& rest) {
    return CopyFields(reader_.remaining(), rest, [&](int number, uint32_t tag, size_t length) {
      for (size_t i = 0; i < fields_.size(); ++i) {
        if (number == fields_[i].oneof_other) data_[i].clear();
        if (number == fields_[i].number) {
          return SplitTensor(tag, length, rest, data_[i]) ? Taken::kYes : Taken::kMalformed;
        }
      }
      return Taken::kNo;
    });
  }

 private:
  enum class Taken { kNo, kYes, kMalformed };
  using TakeField = absl::FunctionRef<Taken(int number, uint32_t tag, size_t length)>;

  // Copies a Tensor of `length` bytes but for its data. A later one is merged into an earlier one,
  // as the parser of `rest` will: the last data counts.
  bool SplitTensor(uint32_t tag, size_t length, std::string& rest, Pieces& data) {
    std::string tensor;
    const bool is_message =
        CopyFields(length, tensor, [&](int number, uint32_t /*tag*/, size_t bytes) {
          if (number != v1::Tensor::kDataFieldNumber) return Taken::kNo;
          data.clear();
          reader_.Read(bytes, [&](absl::string_view piece) { data.push_back(piece); });
          return Taken::kYes;
        });
    AppendVarint(tag, rest);
    AppendVarint(static_cast<uint32_t>(tensor.size()), rest);
    rest.append(tensor);
    return is_message;
  }

  // Copies the fields of a message of `length` bytes, but for the length-delimited ones that `take`
  // reads. REQUIRES: length <= what remains.
  bool CopyFields(size_t length, std::string& to, TakeField take) {
    const size_t end = reader_.remaining() - length;
    int open_groups = 0;  // whose fields are unknown, whatever their numbers
    while (reader_.remaining() > end) {
      uint32_t tag = 0;
      if (!ReadTag(end, tag)) return false;
      bool copied = false;
      switch (WireFormatLite::GetTagWireType(tag)) {
        case WireFormatLite::WIRETYPE_VARINT:
          AppendVarint(tag, to);
          copied = CopyVarint(end, to);
          break;
        case WireFormatLite::WIRETYPE_FIXED64:
          AppendVarint(tag, to);
          copied = CopyBytes(8, end, to);
          break;
        case WireFormatLite::WIRETYPE_FIXED32:
          AppendVarint(tag, to);
          copied = CopyBytes(4, end, to);
          break;
        case WireFormatLite::WIRETYPE_LENGTH_DELIMITED: {
          uint32_t bytes = 0;
          if (!ReadLength(end, bytes)) return false;
          if (open_groups == 0) {
            const Taken taken = take(WireFormatLite::GetTagFieldNumber(tag), tag, bytes);
            if (taken == Taken::kYes) continue;
            if (taken == Taken::kMalformed) return false;
          }
          AppendVarint(tag, to);
          AppendVarint(bytes, to);
          copied = CopyBytes(bytes, end, to);
          break;
        }
        case WireFormatLite::WIRETYPE_START_GROUP:
          AppendVarint(tag, to);
          ++open_groups;
          copied = true;
          break;
        case WireFormatLite::WIRETYPE_END_GROUP:
          AppendVarint(tag, to);
          copied = --open_groups >= 0;
          break;
      }
      if (!copied) return false;
    }
    return open_groups == 0;
  }

  // As protobuf reads them: of a fifth byte only what fits 32 bits counts.
  bool ReadTag(size_t end, uint32_t& tag) {
    for (int i = 0; i < kTagBytesMax && reader_.remaining() > end; ++i) {
      const uint32_t byte = reader_.ReadByte();
      tag |= (byte & 0x7f) << (7 * i);
      if (byte < 0x80) return true;
    }
    return false;
  }

  // True when so many bytes follow.
  bool ReadLength(size_t end, uint32_t& length) {
    for (int i = 0; i < kTagBytesMax && reader_.remaining() > end; ++i) {
      const uint32_t byte = reader_.ReadByte();
      if (i == kTagBytesMax - 1 && byte >= 8) return false;
      length |= (byte & 0x7f) << (7 * i);
      if (byte < 0x80) return length <= reader_.remaining() - end;
    }
    return false;
  }

  bool CopyVarint(size_t end, std::string& to) {
    for (int i = 0; i < kVarintBytesMax && reader_.remaining() > end; ++i) {
      const uint8_t byte = reader_.ReadByte();
      to.push_back(static_cast<char>(byte));
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool CopyBytes(size_t count, size_t end, std::string& to) {
    if (count > reader_.remaining() - end) return false;
    reader_.Read(count, [&](absl::string_view piece) { to.append(piece.data(), piece.size()); });
    return true;
  }

  PieceReader reader_;
  const absl::Span<const TensorField> fields_;
  const absl::Span<Pieces> data_;
};

}  // namespace

bool SplitMessage(absl::Span<const absl::string_view> message, absl::Span<const TensorField> fields,
                  std::string& rest, absl::Span<Pieces> data) {
  return Splitter(message, fields, data).Split(rest);
}

}  // namespace normd::wire
