#ifndef NORMD_CLIENT_CLI_NPY_HEADER_H_
#define NORMD_CLIENT_CLI_NPY_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cpp/batch.h"

// The header of numpy's .npy format, versions 1, 2 and 3:
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
// xtensor's reader, the one Debian has, wants the keys in one order, allocates what the header
// asks for and takes a truncated file; this one is strict and bounded.
namespace normd::cli {

struct NpyHeader {
  client::DataType dtype = client::DataType::kFloat32;
  // At most kNpyRankMax axes, each >= 0; product times element size fits in 63 bits.
  std::vector<int64_t> shape;
};

// The first bytes of a file, before the version.
inline constexpr absl::string_view kNpyMagic = "\x93NUMPY";
// numpy's own limits are 32 axes and 10000 bytes.
inline constexpr size_t kNpyRankMax = 32;
inline constexpr size_t kNpyDictionaryBytesMax = 65535;

// Bytes of the whole array.
int64_t DataBytes(const NpyHeader& header);

// Parses the dictionary of the header: what stands between its length and the data. Takes
// little-endian float16, float32 and float64 in C order; refuses everything else with a message
// that says what came and how to save the array so that it is taken.
absl::StatusOr<NpyHeader> ParseNpyDictionary(absl::string_view text);

// Magic, version 1.0, length and dictionary for C order, padded to 64 bytes as numpy does.
// REQUIRES: `dtype` is not kBfloat16, which numpy does not have.
std::string FormatNpyHeader(const std::vector<int64_t>& shape, client::DataType dtype);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_NPY_HEADER_H_
