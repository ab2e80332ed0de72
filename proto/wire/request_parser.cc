#include "proto/wire/request_parser.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "google/protobuf/repeated_field.h"
#include "google/protobuf/wire_format_lite.h"
#include "normd/v1/tensor.pb.h"
#include "proto/wire/length_delimited.h"
#include "proto/wire/piece_reader.h"

namespace normd::wire {
namespace {

using ::google::protobuf::internal::WireFormatLite;

// What is longer is left to others: negative numbers, and lengths of 256 MiB and more, which
// protobuf refuses at bounds of its own.
constexpr int kVarintBytesMax = 9;
constexpr int kLengthBytesMax = 4;
constexpr int kShapeRankMax = 8;
constexpr size_t kTextBytesMax = 1024;

constexpr uint32_t VarintTag(int field_number) {
  return (static_cast<uint32_t>(field_number) << 3) | WireFormatLite::WIRETYPE_VARINT;
}

bool IsAscii(absl::string_view text) {
  uint8_t bits = 0;
  for (const char character : text) bits |= static_cast<uint8_t>(character);
  return bits < 0x80;
}

// Every Read is given where the message that it reads of ends, as what remains then; false when the
// field does not lie before it or is left to others.
class RequestParser {
 public:
  RequestParser(absl::Span<const absl::string_view> message, Pieces& data)
      : reader_(message), data_(data) {}

  bool Parse(v1::NormalizeRequest& request) {
    using Request = v1::NormalizeRequest;
    return ReadFields(0, [&](uint32_t tag, size_t end) {
      switch (tag) {
        case LengthDelimitedTag(Request::kStateFieldNumber):
          return ReadText(end, *request.mutable_state());
        case LengthDelimitedTag(Request::kInputFieldNumber):
          return ReadTensor(end, *request.mutable_input());
        case VarintTag(Request::kSequenceFieldNumber):
          return ReadSequence(end, request);
        default:
          return false;
      }
    });
  }

  bool Parse(v1::TrainRequest& request) {
    using Request = v1::TrainRequest;
    return ReadFields(0, [&](uint32_t tag, size_t end) {
      switch (tag) {
        case LengthDelimitedTag(Request::kStateFieldNumber):
          return ReadText(end, *request.mutable_state());
        case LengthDelimitedTag(Request::kProducerIdFieldNumber):
          return ReadText(end, *request.mutable_producer_id());
        case VarintTag(Request::kSequenceFieldNumber):
          return ReadSequence(end, request);
        case LengthDelimitedTag(Request::kInputFieldNumber):
          return ReadTensor(end, *request.mutable_input());
        case LengthDelimitedTag(Request::kMomentsFieldNumber):
          data_.clear();  // of the input, whose place they take
          return ReadMoments(end, *request.mutable_moments());
        case VarintTag(Request::kReturnOutputFieldNumber):
          return ReadVarint(end, [&](uint64_t value) { request.set_return_output(value != 0); });
        case VarintTag(Request::kReturnMomentsFieldNumber):
          return ReadVarint(end, [&](uint64_t value) { request.set_return_moments(value != 0); });
        case VarintTag(Request::kDurabilityFieldNumber):
          return ReadVarint(end, [&](uint64_t value) {
            request.set_durability(static_cast<v1::Durability>(value));
          });
        case VarintTag(Request::kCalibrateFieldNumber):
          return ReadVarint(end, [&](uint64_t value) { request.set_calibrate(value != 0); });
        case LengthDelimitedTag(Request::kCalibrationIdFieldNumber):
          return ReadText(end, *request.mutable_calibration_id());
        default:
          return false;
      }
    });
  }

 private:
  // Calls `read` with every tag; one of two bytes and more is left to others.
  template <typename Read>
  bool ReadFields(size_t end, Read read) {
    while (reader_.remaining() > end) {
      if (!read(reader_.ReadByte(), end)) return false;
    }
    return true;
  }

  bool ReadVarint(size_t end, int bytes_max, uint64_t& value) {
    value = 0;
    for (int i = 0; i < bytes_max && reader_.remaining() > end; ++i) {
      const uint64_t byte = reader_.ReadByte();
      value |= (byte & 0x7f) << (7 * i);
      if (byte < 0x80) return true;
    }
    return false;
  }

  template <typename Take>
  bool ReadVarint(size_t end, Take take) {
    uint64_t value = 0;
    if (!ReadVarint(end, kVarintBytesMax, value)) return false;
    take(value);
    return true;
  }

  // How many bytes of a field follow.
  bool ReadLength(size_t end, size_t& length) {
    uint64_t value = 0;
    if (!ReadVarint(end, kLengthBytesMax, value) || value > reader_.remaining() - end) return false;
    length = static_cast<size_t>(value);
    return true;
  }

  template <typename Request>
  bool ReadSequence(size_t end, Request& request) {
    return ReadVarint(end,
                      [&](uint64_t value) { request.set_sequence(static_cast<int64_t>(value)); });
  }

  bool ReadText(size_t end, std::string& text) {
    size_t length = 0;
    if (!ReadLength(end, length) || length > kTextBytesMax) return false;
    text.clear();
    reader_.Read(length, [&](absl::string_view part) { text.append(part.data(), part.size()); });
    return IsAscii(text);
  }

  // ReadFields of the message in a field.
  template <typename Read>
  bool ReadMessage(size_t end, Read read) {
    size_t length = 0;
    return ReadLength(end, length) && ReadFields(reader_.remaining() - length, read);
  }

  bool ReadTensor(size_t end, v1::Tensor& tensor) {
    return ReadMessage(end, [&](uint32_t tag, size_t end_of_tensor) {
      switch (tag) {
        case VarintTag(v1::Tensor::kDtypeFieldNumber):
          return ReadVarint(end_of_tensor, [&](uint64_t value) {
            tensor.set_dtype(static_cast<v1::DataType>(value));
          });
        case LengthDelimitedTag(v1::Tensor::kShapeFieldNumber):
          return ReadShape(end_of_tensor, tensor);
        case VarintTag(v1::Tensor::kLayoutFieldNumber):
          return ReadVarint(end_of_tensor, [&](uint64_t value) {
            tensor.set_layout(static_cast<v1::Layout>(value));
          });
        case LengthDelimitedTag(v1::Tensor::kDataFieldNumber):
          return ReadData(end_of_tensor);
        default:
          return false;
      }
    });
  }

  bool ReadShape(size_t end, v1::Tensor& tensor) {
    size_t length = 0;
    if (!ReadLength(end, length)) return false;
    const size_t end_of_shape = reader_.remaining() - length;
    while (reader_.remaining() > end_of_shape) {
      uint64_t size = 0;
      if (tensor.shape_size() == kShapeRankMax) return false;
      if (!ReadVarint(end_of_shape, kVarintBytesMax, size)) return false;
      tensor.add_shape(static_cast<int64_t>(size));
    }
    return true;
  }

  bool ReadData(size_t end) {
    size_t length = 0;
    if (!ReadLength(end, length)) return false;
    data_.clear();
    reader_.Read(length, [&](absl::string_view piece) { data_.push_back(piece); });
    return true;
  }

  bool ReadMoments(size_t end, v1::Moments& moments) {
    return ReadMessage(end, [&](uint32_t tag, size_t end_of_moments) {
      switch (tag) {
        case VarintTag(v1::Moments::kCountFieldNumber):
          return ReadVarint(end_of_moments, [&](uint64_t value) {
            moments.set_count(static_cast<int64_t>(value));
          });
        case LengthDelimitedTag(v1::Moments::kMeanFieldNumber):
          return ReadDoubles(end_of_moments, *moments.mutable_mean());
        case LengthDelimitedTag(v1::Moments::kM2FieldNumber):
          return ReadDoubles(end_of_moments, *moments.mutable_m2());
        default:
          return false;
      }
    });
  }

  bool ReadDoubles(size_t end, google::protobuf::RepeatedField<double>& values) {
    static_assert(std::endian::native == std::endian::little);  // as on the wire
    size_t length = 0;
    if (!ReadLength(end, length) || length % sizeof(double) != 0) return false;
    const auto count = static_cast<int>(length / sizeof(double));
    values.Reserve(values.size() + count);
    char* to = reinterpret_cast<char*>(values.AddNAlreadyReserved(count));
    reader_.Read(length, [&](absl::string_view part) {
      std::memcpy(to, part.data(), part.size());
      to += part.size();
    });
    return true;
  }

  PieceReader reader_;
  Pieces& data_;
};

}  // namespace

bool ParseRequest(absl::Span<const absl::string_view> message, v1::NormalizeRequest& request,
                  Pieces& data) {
  return RequestParser(message, data).Parse(request);
}

bool ParseRequest(absl::Span<const absl::string_view> message, v1::TrainRequest& request,
                  Pieces& data) {
  return RequestParser(message, data).Parse(request);
}

}  // namespace normd::wire
